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
