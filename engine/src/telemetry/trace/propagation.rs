//! How a trace travels: W3C `traceparent`, `tracestate` and `baggage`, and Jaeger's own
//! `uber-trace-id`.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

/// The answer's header with the trace's id, for people.
const TRACE_ID: &str = "x-trace-id";
/// The same for programs (W3C Trace Context, level 2).
const TRACE_RESPONSE: &str = "traceresponse";
/// <https://www.jaegertracing.io/docs/1.21/client-libraries/#propagation-format>
const UBER_TRACE_ID: &str = "uber-trace-id";

/// The formats in use: W3C's always, Jaeger's on demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Propagation {
    pub(super) jaeger: bool,
}

struct Headers<'a>(&'a HeaderMap);
struct HeadersMut<'a>(&'a mut HeaderMap);

/// Bytes of what a client's baggage and trace state may put into the headers of each call; more is
/// not passed on. Upstreams bound their headers, by 8 KiB and up, and refuse the whole call.
const MAX_BAGGAGE: usize = 2048;
const MAX_STATE: usize = 512;

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let most = match key {
            "baggage" => MAX_BAGGAGE,
            "tracestate" => MAX_STATE,
            _ => usize::MAX,
        };
        if value.len() > most {
            return;
        }
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

impl Propagation {
    /// What `headers` say a request is part of. W3C's word counts before Jaeger's.
    pub(super) fn extract(self, headers: &HeaderMap) -> Context {
        let context = self.extract_from_stranger(headers);
        BaggagePropagator::new().extract_with_context(&context, &Headers(headers))
    }

    /// The same without what would travel on in the stranger's name.
    pub(super) fn extract_from_stranger(self, headers: &HeaderMap) -> Context {
        let from = Headers(headers);
        let mut context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &from);
        if self.jaeger
            && !context.has_active_span()
            && let Some(remote) = from.get(UBER_TRACE_ID).and_then(parse_uber)
        {
            context = context.with_remote_span_context(remote);
        }
        context
    }

    /// Writes `context` into `headers`.
    pub(super) fn inject(self, context: &Context, headers: &mut HeaderMap) {
        let mut to = HeadersMut(headers);
        TraceContextPropagator::new().inject_context(context, &mut to);
        BaggagePropagator::new().inject_context(context, &mut to);
        if self.jaeger {
            let span = context.span();
            to.set(UBER_TRACE_ID, format_uber(span.span_context()));
        }
    }
}

/// Writes the trace of `context` into the headers of a response.
pub(super) fn inject_response(context: &SpanContext, headers: &mut HeaderMap) {
    let mut to = HeadersMut(headers);
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags().to_u8();
    to.set(TRACE_RESPONSE, format!("00-{trace}-{span}-{flags:02x}"));
    to.set(TRACE_ID, trace.to_string());
}

/// `trace:span:parent:flags`, in hexadecimal; the parent is not used any more.
fn format_uber(context: &SpanContext) -> String {
    format!(
        "{}:{}:0:{}",
        context.trace_id(),
        context.span_id(),
        u8::from(context.is_sampled())
    )
}

fn parse_uber(text: &str) -> Option<SpanContext> {
    // Some clients escape the colons.
    let text = text.replace("%3A", ":").replace("%3a", ":");
    let parts: Vec<&str> = text.split(':').collect();
    let [trace, span, _parent, flags] = parts[..] else {
        return None;
    };
    // Leading zeros may be missing.
    let trace = u128::from_str_radix(trace, 16).ok()?;
    let span = u64::from_str_radix(span, 16).ok()?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from(trace),
        SpanId::from(span),
        TraceFlags::new(flags & 1),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const BOTH: Propagation = Propagation { jaeger: true };
    const W3C: Propagation = Propagation { jaeger: false };

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = list.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        pairs.collect()
    }

    fn trace_of(propagation: Propagation, list: &[(&'static str, &str)]) -> Option<(String, bool)> {
        let context = propagation.extract(&headers(list));
        let span = context.span();
        let span = span.span_context();
        span.is_valid()
            .then(|| (span.trace_id().to_string(), span.is_sampled()))
    }

    #[test]
    fn w3c_and_jaeger_headers_are_read_and_w3c_counts_first() {
        let w3c = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let uber = "abc:def:0:1";
        let ours = Some((TRACE.to_owned(), false));
        assert_eq!(trace_of(W3C, &[("traceparent", &w3c)]), ours);
        assert_eq!(
            trace_of(BOTH, &[("traceparent", &w3c), ("uber-trace-id", uber)]),
            ours
        );
        let theirs = Some((format!("{:0>32}", "abc"), true));
        assert_eq!(trace_of(BOTH, &[("uber-trace-id", uber)]), theirs);
        let escaped = "abc%3Adef%3A0%3A1";
        assert_eq!(trace_of(BOTH, &[("uber-trace-id", escaped)]), theirs);
        assert_eq!(trace_of(W3C, &[("uber-trace-id", uber)]), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_parent_and_no_panic() {
        for bad in [
            "",
            "1:2",
            "0:0:0:0",
            "x:y:z:1",
            "1:2:3:4:5",
            "ffffffffffffffffffffffffffffffffff:1:0:1",
        ] {
            assert_eq!(trace_of(BOTH, &[("uber-trace-id", bad)]), None, "{bad}");
        }
        assert_eq!(trace_of(BOTH, &[("traceparent", "00-0-0-0")]), None);
    }

    #[test]
    fn what_a_client_sends_cannot_outgrow_the_headers_an_upstream_takes() {
        let w3c = format!("00-{TRACE}-00f067aa0ba902b7-01");
        // Each quote is three bytes when it is written again.
        let baggage = format!("a={}", "\"".repeat(4000));
        let state = format!("a={}", "b".repeat(250));
        let state = [
            state.as_str(),
            &state.replace("a=", "c="),
            &state.replace("a=", "d="),
        ]
        .join(",");
        let context = W3C.extract(&headers(&[
            ("traceparent", &w3c),
            ("tracestate", &state),
            ("baggage", &baggage),
        ]));
        let mut written = HeaderMap::new();
        W3C.inject(&context, &mut written);
        assert_eq!(written["traceparent"], w3c.as_str());
        let size: usize = written.values().map(HeaderValue::len).sum();
        assert!(size < MAX_BAGGAGE + MAX_STATE + 100, "{size}");
    }

    #[test]
    fn a_context_is_written_as_it_was_read_with_its_state_and_baggage() {
        let w3c = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let context = BOTH.extract(&headers(&[
            ("traceparent", &w3c),
            ("tracestate", "a=1"),
            ("baggage", "user=7"),
        ]));
        let mut written = HeaderMap::new();
        BOTH.inject(&context, &mut written);
        assert_eq!(written["traceparent"], w3c.as_str());
        assert_eq!(written["tracestate"], "a=1");
        assert_eq!(written["baggage"], "user=7");
        assert_eq!(
            written["uber-trace-id"],
            format!("{TRACE}:00f067aa0ba902b7:0:1").as_str()
        );
    }
}
