//! Which traces are kept: decided where a trace begins.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// A share of the traces that begin here; of one that began elsewhere, what was decided there.
///
/// With `keep_errors`, traces that the share leaves out are still recorded, so that [the
/// queue](super::queue) can keep those in which something failed. A client that says it does not
/// want a trace gets none.
#[derive(Clone, Debug)]
pub(super) struct Ratio {
    /// The bits of an `f64`, 0 to 1.
    share: Arc<AtomicU64>,
    keep_errors: bool,
}

impl Ratio {
    pub(super) fn new(share: f64, keep_errors: bool) -> Self {
        Self {
            share: Arc::new(AtomicU64::new(share.to_bits())),
            keep_errors,
        }
    }

    pub(super) fn set(&self, share: f64) {
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }
}

/// In a context: whoever sent it has no say in whether it is kept. It is, if this number, 0 to 1, is below the
/// share; the trace's own number is the sender's choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undecided(pub(super) f64);

impl ShouldSample for Ratio {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent_span = parent.map(TraceContextExt::span);
        let parent_span = parent_span.filter(|span| span.span_context().is_valid());
        let decided = |decision| SamplingResult {
            decision,
            attributes: Vec::new(),
            trace_state: parent_span
                .as_ref()
                .map(|span| span.span_context().trace_state().clone())
                .unwrap_or_default(),
        };
        let share = f64::from_bits(self.share.load(Ordering::Relaxed));
        let undecided = parent.and_then(|parent| parent.get::<Undecided>());
        if let Some(span) = &parent_span
            && let Some(Undecided(chance)) = undecided
            && span.span_context().is_remote()
        {
            return decided(match (*chance < share, self.keep_errors) {
                (true, _) => SamplingDecision::RecordAndSample,
                (false, true) => SamplingDecision::RecordOnly,
                (false, false) => SamplingDecision::Drop,
            });
        }
        if let Some(span) = &parent_span {
            return decided(match span.span_context() {
                context if context.is_sampled() => SamplingDecision::RecordAndSample,
                context if !context.is_remote() && span.is_recording() => {
                    SamplingDecision::RecordOnly
                }
                _ => SamplingDecision::Drop,
            });
        }
        let mut result = Sampler::TraceIdRatioBased(share)
            .should_sample(parent, trace_id, name, kind, attributes, links);
        if self.keep_errors && result.decision == SamplingDecision::Drop {
            result.decision = SamplingDecision::RecordOnly;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    fn decide(ratio: &Ratio, parent: Option<(bool, bool)>, trace: u128) -> SamplingDecision {
        let trace = TraceId::from(trace);
        let context = match parent {
            None => Context::new(),
            Some((sampled, remote)) => Context::new().with_remote_span_context(SpanContext::new(
                trace,
                SpanId::from(7),
                TraceFlags::default().with_sampled(sampled),
                remote,
                TraceState::NONE,
            )),
        };
        ratio
            .should_sample(Some(&context), trace, "x", &SpanKind::Server, &[], &[])
            .decision
    }

    #[test]
    fn a_share_of_the_traces_that_begin_here_is_kept_and_the_share_can_change() {
        let ratio = Ratio::new(0.25, false);
        let kept = |ratio: &Ratio| {
            let ids = (1..=10_000_u128)
                .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
            ids.filter(|id| decide(ratio, None, *id) == SamplingDecision::RecordAndSample)
                .count()
        };
        assert!((2300..2700).contains(&kept(&ratio)), "{}", kept(&ratio));
        ratio.set(0.0);
        assert_eq!(kept(&ratio), 0);
        ratio.set(1.0);
        assert_eq!(kept(&ratio), 10_000);
    }

    #[test]
    fn what_a_client_decided_is_respected_whatever_the_share() {
        for share in [0.0, 1.0] {
            let ratio = Ratio::new(share, true);
            let (yes, no) = (Some((true, true)), Some((false, true)));
            assert_eq!(decide(&ratio, yes, 1), SamplingDecision::RecordAndSample);
            assert_eq!(decide(&ratio, no, 1), SamplingDecision::Drop);
        }
    }

    #[test]
    fn a_stranger_has_no_say_in_what_is_kept() {
        let of = |chance, keep_errors, sampled| {
            let remote = SpanContext::new(
                TraceId::from(1),
                SpanId::from(7),
                TraceFlags::default().with_sampled(sampled),
                true,
                TraceState::NONE,
            );
            let context = Context::new().with_remote_span_context(remote);
            let context = context.with_value(Undecided(chance));
            let trace = TraceId::from(1);
            Ratio::new(0.25, keep_errors)
                .should_sample(Some(&context), trace, "x", &SpanKind::Server, &[], &[])
                .decision
        };
        for sampled in [true, false] {
            assert_eq!(of(0.2, false, sampled), SamplingDecision::RecordAndSample);
            assert_eq!(of(0.3, false, sampled), SamplingDecision::Drop);
            assert_eq!(of(0.3, true, sampled), SamplingDecision::RecordOnly);
        }
    }

    #[test]
    fn with_errors_to_be_kept_the_others_are_recorded_until_it_is_known() {
        let ratio = Ratio::new(0.0, true);
        assert_eq!(decide(&ratio, None, 1), SamplingDecision::RecordOnly);
    }
}
