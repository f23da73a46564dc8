//! The form of an answer: what a client accepts of what there is (RFC 9110, 12.5.1; GraphQL over HTTP,
//! "Accept").

use axum::http::{HeaderMap, HeaderValue, header::ACCEPT};

/// What an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/graphql-response+json`: the status says how it went.
    Response,
    /// `application/json`: a request that could be read is 200, whatever came of it.
    Json,
    /// `text/event-stream`: graphql-sse's distinct connections.
    Events,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Response, Self::Json, Self::Events];

    /// Type and subtype.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Response => ("application", "graphql-response+json"),
            Self::Json => ("application", "json"),
            Self::Events => ("text", "event-stream"),
        }
    }

    /// The header of an answer in this form.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Response => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Events => "text/event-stream; charset=utf-8",
        })
    }
}

/// One range of an `Accept`.
struct Range<'h> {
    main: &'h str,
    sub: &'h str,
    /// In thousandths.
    quality: u16,
}

impl<'h> Range<'h> {
    /// `None` for what is no range, or one of another charset than ours.
    fn parse(text: &'h str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => {
                    let q: f64 = value.parse().ok()?;
                    quality = (q.clamp(0.0, 1.0) * 1000.0) as u16;
                }
                name if name.eq_ignore_ascii_case("charset") && !is_utf8(value) => return None,
                _ => {}
            }
        }
        Some(Self { main, sub, quality })
    }

    /// How exactly it means `form`, if it does.
    fn means(&self, form: Form) -> Option<u8> {
        let (main, sub) = form.name();
        match (self.main, self.sub) {
            ("*", "*") => Some(0),
            (range, "*") if range.eq_ignore_ascii_case(main) => Some(1),
            (range, name) if range.eq_ignore_ascii_case(main) && name.eq_ignore_ascii_case(sub) => {
                Some(2)
            }
            _ => None,
        }
    }
}

pub(super) fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// The form that a client likes best; `None` if it accepts none.
///
/// Of forms that it likes alike the one it names comes before one it only does not exclude, and JSON
/// before the others among those: it is what clients had before they could ask.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Form> {
    let lines = headers.get_all(ACCEPT);
    let ranges: Vec<_> = lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(Range::parse)
        .collect();
    if ranges.is_empty() {
        return Some(Form::Json);
    }
    let rated = Form::ALL.into_iter().filter_map(|form| {
        let ranges = ranges.iter().flatten();
        let meant = ranges.filter_map(|range| Some((range.means(form)?, range.quality)));
        // The most exact range decides.
        let (exactness, quality) = meant.max_by_key(|(exactness, _)| *exactness)?;
        let by_default = exactness < 2 && form == Form::Json;
        (quality > 0).then_some((form, (quality, exactness, by_default)))
    });
    // Of equals the first: `max_by_key` would take the last.
    rated
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(form, _)| form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        negotiate(&headers)
    }

    #[test]
    fn whoever_does_not_say_gets_json() {
        assert_eq!(negotiate(&HeaderMap::new()), Some(Form::Json));
        for accept in ["", "*/*", "application/*", "text/html, */*;q=0.1"] {
            assert_eq!(of(accept), Some(Form::Json), "{accept}");
        }
    }

    #[test]
    fn the_specifications_own_type_is_preferred_by_whoever_names_it() {
        for accept in [
            "application/graphql-response+json",
            "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
            "application/json, application/graphql-response+json",
            "application/graphql-response+json, application/json;q=0.9",
            "APPLICATION/GraphQL-Response+JSON",
            "*/*, application/graphql-response+json",
        ] {
            assert_eq!(of(accept), Some(Form::Response), "{accept}");
        }
        let less = "application/graphql-response+json;q=0.5, application/json";
        assert_eq!(of(less), Some(Form::Json));
    }

    #[test]
    fn what_is_excluded_is_not_sent_though_a_wildcard_has_it() {
        assert_eq!(of("application/json;q=0"), None);
        assert_eq!(
            of("*/*, application/json;q=0, text/event-stream;q=0"),
            Some(Form::Response)
        );
    }

    #[test]
    fn who_accepts_nothing_that_there_is_gets_nothing() {
        for accept in [
            "text/html",
            "image/*",
            "application/json; charset=latin1",
            "json",
            "application/json;q=much",
        ] {
            assert_eq!(of(accept), None, "{accept}");
        }
    }

    #[test]
    fn events_are_sent_to_who_likes_them_best() {
        assert_eq!(of("text/event-stream"), Some(Form::Events));
        assert_eq!(of("text/*"), Some(Form::Events));
        let both = "text/event-stream;q=0.9, application/json";
        assert_eq!(of(both), Some(Form::Json));
    }
}
