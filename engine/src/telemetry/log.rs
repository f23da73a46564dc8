//! Log lines: for people or as JSON, each with the trace it belongs to.

use std::{fmt, io::IsTerminal};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

use super::{config::LogFormat, trace};

/// A line in one of the formats, with the id of the trace that the code runs in.
pub(super) enum Line {
    Human(Format<Full>),
    Json(Format<Json>),
}

impl Line {
    /// The format that is configured, for standard error.
    pub(super) fn new(format: LogFormat) -> Self {
        let people = std::io::stderr().is_terminal();
        match format {
            LogFormat::Json => Self::json(),
            LogFormat::Auto if !people => Self::json(),
            LogFormat::Auto | LogFormat::Human => Self::Human(Format::default().with_ansi(people)),
        }
    }

    fn json() -> Self {
        let format = Format::default().json();
        Self::Json(
            format
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false),
        )
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace_id) = trace::current_trace_id() else {
            return match self {
                Self::Human(format) => format.format_event(ctx, writer, event),
                Self::Json(format) => format.format_event(ctx, writer, event),
            };
        };
        let mut line = String::new();
        match self {
            Self::Human(format) => {
                format.format_event(ctx, Writer::new(&mut line), event)?;
                writeln!(writer, "{} trace_id={trace_id}", line.trim_end())
            }
            Self::Json(format) => {
                format.format_event(ctx, Writer::new(&mut line), event)?;
                let object = line.trim_end();
                let open = object.strip_suffix('}').unwrap_or(object);
                writeln!(writer, "{open},\"trace_id\":\"{trace_id}\"}}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use opentelemetry::{
        Context,
        trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
    };
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What an event looks like within a trace.
    fn line(format: LogFormat, traced: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Line::new(format))
            .with_writer(move || writer.clone());
        let span = SpanContext::new(
            TraceId::from(0xabc),
            SpanId::from(1),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let context = Context::new().with_remote_span_context(span);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _attached = traced.then(|| context.attach());
            tracing::info!(reason = "a \"quoted\" } brace", "it happened");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_within_a_trace_names_it_and_stays_one_line_of_its_format() {
        let id = format!("{:032x}", 0xabc);
        let json = line(LogFormat::Json, true);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["trace_id"], id.as_str(), "{json}");
        assert_eq!(parsed["message"], "it happened");
        assert_eq!(parsed["reason"], "a \"quoted\" } brace");
        let human = line(LogFormat::Human, true);
        assert!(human.contains(&format!("trace_id={id}\n")), "{human}");
        for format in [LogFormat::Json, LogFormat::Human] {
            assert_eq!(line(format, true).lines().count(), 1);
            assert!(!line(format, false).contains("trace_id"));
        }
    }
}
