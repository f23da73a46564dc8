//! What a method is: a read, a write, or a stream of one of three kinds.

use heck::ToSnakeCase;
use prost::Message;
use prost_reflect::MethodDescriptor;
use prost_types::{MethodOptions, method_options::IdempotencyLevel};

/// What becomes of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Query,
    Mutation,
    /// A stream that goes on.
    Live,
    /// A stream that ends by itself: a subscription, and a list in `Query`.
    Finite,
    /// A stream that does something: a client that connects again would do it again.
    Effects,
    /// It takes a stream.
    TakesStream,
}

/// Why a method is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Owner,
    IdempotencyLevel,
    Http,
    Service,
    Name,
    /// Nothing says anything.
    Nothing,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "by --query or --mutation",
            Self::IdempotencyLevel => "by idempotency_level",
            Self::Http => "by HTTP",
            Self::Service => "by its service's name",
            Self::Name => "by name",
            Self::Nothing => "because nothing says that it reads",
        }
    }

    /// Whether it is no more than likely.
    pub(crate) fn is_guess(self) -> bool {
        matches!(self, Self::Service | Self::Name | Self::Nothing)
    }
}

/// Words that reads begin with.
const READS: [&str; 37] = [
    "get",
    "list",
    "batch_get",
    "search",
    "find",
    "read",
    "lookup",
    "count",
    "check",
    "say",
    "watch",
    "describe",
    "query",
    "exists",
    "has",
    "is",
    "fetch",
    "scroll",
    "export",
    "estimate",
    "verify",
    "validate",
    "decode",
    "explain",
    "expand",
    "resolve",
    "diff",
    "stat",
    "version",
    "status",
    "health",
    "subscribe",
    "stream",
    "scan",
    "range",
    "select",
    "recommend",
];
/// Words that a read may end with, if it begins with no verb of a write.
const LAST: [&str; 8] = [
    "list", "get", "status", "stats", "info", "exists", "balance", "version",
];
/// Words that writes begin with.
const WRITES: [&str; 36] = [
    "set",
    "create",
    "update",
    "delete",
    "put",
    "post",
    "patch",
    "add",
    "remove",
    "insert",
    "upsert",
    "send",
    "start",
    "stop",
    "cancel",
    "reset",
    "register",
    "unregister",
    "enable",
    "disable",
    "apply",
    "run",
    "execute",
    "close",
    "open",
    "clear",
    "change",
    "move",
    "restore",
    "import",
    "submit",
    "save",
    "write",
    "drop",
    "publish",
    "batch",
];
/// First and last words of streams that go on.
const LIVE_FIRST: [&str; 6] = ["subscribe", "watch", "follow", "tail", "observe", "listen"];
const LIVE_LAST: [&str; 6] = [
    "events",
    "updates",
    "changes",
    "stream",
    "notifications",
    "watch",
];
/// First words of streams that end by themselves.
const FINITE: [&str; 12] = [
    "list", "read", "lookup", "export", "scan", "range", "get", "search", "find", "query", "fetch",
    "download",
];
/// First words of streams that do something.
const EFFECTS: [&str; 10] = [
    "send", "open", "close", "create", "delete", "start", "run", "execute", "import", "pay",
];

/// The words of a method's name.
fn words(name: &str) -> Vec<String> {
    name.to_snake_case().split('_').map(str::to_owned).collect()
}

fn first_is(words: &[String], list: &[&str]) -> bool {
    let two = words.get(..2).map(|two| two.join("_"));
    let first = words.first().map(String::as_str);
    list.iter()
        .any(|word| Some(*word) == first || Some(*word) == two.as_deref())
}

fn last_is(words: &[String], list: &[&str]) -> bool {
    words
        .last()
        .is_some_and(|last| list.contains(&last.as_str()))
}

/// What an owner says by `--query` and `--mutation`: names with `*` for anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) queries: Vec<String>,
    pub(crate) mutations: Vec<String>,
}

/// Whether `pattern` means the method, by its name or as `package.Service/Method`.
fn means(pattern: &str, method: &MethodDescriptor) -> bool {
    let whole = format!("{}/{}", method.parent_service().full_name(), method.name());
    [method.name(), whole.as_str()]
        .iter()
        .any(|name| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// Whether running it twice does no more than running it once, as it says itself.
pub(crate) fn level(method: &MethodDescriptor) -> IdempotencyLevel {
    let options = method.options().encode_to_vec();
    let options = MethodOptions::decode(options.as_slice()).unwrap_or_default();
    options.idempotency_level()
}

/// What becomes of `method`, whose HTTP method is `http`, and why.
pub(crate) fn classify(
    method: &MethodDescriptor,
    http: Option<&str>,
    said: &Said,
) -> (Kind, Reason) {
    if method.is_client_streaming() {
        return (Kind::TakesStream, Reason::Nothing);
    }
    let words = words(method.name());
    let wanted = said
        .queries
        .iter()
        .chain(&said.mutations)
        .any(|pattern| means(pattern, method));
    if method.is_server_streaming() {
        return match () {
            () if first_is(&words, &LIVE_FIRST) || last_is(&words, &LIVE_LAST) => {
                (Kind::Live, Reason::Name)
            }
            () if first_is(&words, &FINITE) => (Kind::Finite, Reason::Name),
            () if first_is(&words, &EFFECTS) && !wanted => (Kind::Effects, Reason::Name),
            () => (Kind::Live, Reason::Nothing),
        };
    }
    if said.queries.iter().any(|pattern| means(pattern, method)) {
        return (Kind::Query, Reason::Owner);
    }
    if said.mutations.iter().any(|pattern| means(pattern, method)) {
        return (Kind::Mutation, Reason::Owner);
    }
    if level(method) == IdempotencyLevel::NoSideEffects {
        return (Kind::Query, Reason::IdempotencyLevel);
    }
    match http {
        Some("get") => return (Kind::Query, Reason::Http),
        Some("put" | "patch" | "delete") => return (Kind::Mutation, Reason::Http),
        _ => {}
    }
    let service = method.parent_service().name().to_owned();
    if service == "Msg" {
        return (Kind::Mutation, Reason::Service);
    }
    if ["Query", "QueryService", "Reader"]
        .iter()
        .any(|end| service.ends_with(end))
    {
        return (Kind::Query, Reason::Service);
    }
    let writes = first_is(&words, &WRITES) && !first_is(&words, &["batch_get"]);
    if first_is(&words, &READS) || (last_is(&words, &LAST) && !writes) {
        return (Kind::Query, Reason::Name);
    }
    match writes {
        true => (Kind::Mutation, Reason::Name),
        false => (Kind::Mutation, Reason::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_and_not_letters() {
        let reads = |name: &str| {
            let words = words(name);
            first_is(&words, &READS) || (last_is(&words, &LAST) && !first_is(&words, &WRITES))
        };
        for name in [
            "GetFoo",
            "getFoo",
            "BatchGetFoo",
            "CheckAccess",
            "TotalBalance",
            "Health",
        ] {
            assert!(reads(name), "{name}");
        }
        for name in [
            "Checkpoint",
            "SetCurrentVersion",
            "Getaway",
            "DeleteInfo",
            "Issue",
        ] {
            assert!(!reads(name), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, is) in [
            ("Get*", "GetX", true),
            ("*Foo", "BarFoo", true),
            ("Get", "GetX", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
