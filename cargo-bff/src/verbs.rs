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
    "scan",
    "range",
    "select",
    "recommend",
    "show",
];
/// What is said of many at once: the word behind decides.
const MANY: [&str; 3] = ["batch", "bulk", "multi"];
/// Words that a read of two words may end with: `WalletBalance`, and not `DestroyKeyVersion`.
const LAST: [&str; 8] = [
    "list", "get", "status", "stats", "info", "exists", "balance", "version",
];
/// Words of writes. Where one stands anywhere behind an "and" or an "or", the method writes.
const WRITES: [&str; 78] = [
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
    "destroy",
    "modify",
    "mutate",
    "load",
    "unload",
    "transfer",
    "charge",
    "approve",
    "reject",
    "promote",
    "rollback",
    "deploy",
    "undeploy",
    "mark",
    "revoke",
    "grant",
    "report",
    "broadcast",
    "prepare",
    "flashback",
    "backup",
    "archive",
    "undelete",
    "pay",
    "refund",
    "invite",
    "accept",
    "lock",
    "unlock",
    "rotate",
    "copy",
    "rename",
    "replace",
    "sync",
    "trigger",
    "schedule",
    "pause",
    "resume",
    "retry",
    "acknowledge",
    "ack",
    "commit",
    "abort",
];
/// First and last words of streams that go on.
const LIVE_FIRST: [&str; 7] = [
    "subscribe",
    "watch",
    "follow",
    "tail",
    "observe",
    "listen",
    "monitor",
];
const LIVE_LAST: [&str; 5] = ["events", "updates", "changes", "notifications", "watch"];
/// First words of streams that end by themselves.
const FINITE: [&str; 16] = [
    "list",
    "read",
    "lookup",
    "export",
    "scan",
    "range",
    "get",
    "search",
    "find",
    "query",
    "fetch",
    "download",
    "batch_get",
    "streaming_read",
    "streamed_list",
    "bulk_export",
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

impl Said {
    /// Patterns that mean no method.
    pub(crate) fn unmatched(&self, methods: &[MethodDescriptor]) -> Vec<String> {
        let all = self.queries.iter().map(|pattern| ("--query", pattern));
        let all = all.chain(self.mutations.iter().map(|pattern| ("--mutation", pattern)));
        all.filter(|(_, pattern)| !methods.iter().any(|method| means(pattern, method)))
            .map(|(flag, pattern)| format!("{flag} {pattern}"))
            .collect()
    }
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

/// Whether its name is a read's, a write's, or neither.
fn by_name(words: &[String]) -> Option<bool> {
    // Of many at once: the word behind decides.
    let words = match words.split_first() {
        Some((first, rest)) if MANY.contains(&first.as_str()) && !rest.is_empty() => rest,
        _ => words,
    };
    let writes = |words: &[String]| words.iter().any(|word| WRITES.contains(&word.as_str()));
    let joint = words.iter().position(|word| word == "and" || word == "or");
    let does_more = joint.is_some_and(|at| writes(&words[at..]));
    let modifies = words
        .iter()
        .skip(1)
        .any(|word| ["modify", "mutate"].contains(&word.as_str()));
    if first_is(words, &WRITES) || does_more || modifies {
        return Some(false);
    }
    // A cart is checked out, an incident resolved, a channel verified: nobody reads those.
    let second = words.get(1).map(String::as_str);
    if first_is(words, &["check"]) && ["out", "in"].contains(&second.unwrap_or_default()) {
        return Some(false);
    }
    let short = words.len() <= 2 || !writes(words);
    let ends = last_is(words, &LAST) && short && words.len() <= 3;
    (first_is(words, &READS) || ends).then_some(true)
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
    let streams = method.is_server_streaming();
    let is_query = said.queries.iter().any(|pattern| means(pattern, method));
    let is_mutation = said.mutations.iter().any(|pattern| means(pattern, method));
    let service = method.parent_service().name().to_owned();
    // Who is asked in turn, the first that answers.
    let (reads, reason) = if is_query || is_mutation {
        (Some(is_query), Reason::Owner)
    } else if level(method) == IdempotencyLevel::NoSideEffects {
        (Some(true), Reason::IdempotencyLevel)
    } else if let Some(verb @ ("get" | "put" | "patch" | "delete")) = http {
        (Some(verb == "get"), Reason::Http)
    } else if streams && (first_is(&words, &LIVE_FIRST) || first_is(&words, &FINITE)) {
        (Some(true), Reason::Name)
    } else if service == "Msg" {
        (Some(false), Reason::Service)
    } else if ["Query", "QueryService", "Reader"]
        .iter()
        .any(|end| service.ends_with(end))
    {
        (Some(true), Reason::Service)
    } else {
        let named = by_name(&words);
        (
            named,
            if named.is_some() {
                Reason::Name
            } else {
                Reason::Nothing
            },
        )
    };
    if !streams {
        // A long-running operation is started, not read.
        let starts = method.output().full_name() == "google.longrunning.Operation";
        let starts = starts
            && matches!(reason, Reason::Name | Reason::Nothing)
            && !first_is(&words, &["get"]);
        return match reads == Some(true) && !starts {
            true => (Kind::Query, reason),
            false => (Kind::Mutation, reason),
        };
    }
    match reads {
        // Asked for, whatever it does.
        _ if is_mutation => (Kind::Live, reason),
        Some(false) => (Kind::Effects, reason),
        _ if first_is(&words, &LIVE_FIRST) || last_is(&words, &LIVE_LAST) => {
            (Kind::Live, Reason::Name)
        }
        Some(true) => (Kind::Finite, reason),
        None if words.iter().any(|word| WRITES.contains(&word.as_str())) => {
            (Kind::Effects, Reason::Name)
        }
        None => (Kind::Live, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_and_not_letters() {
        for name in [
            "GetFoo",
            "getFoo",
            "BatchGetFoo",
            "CheckAccess",
            "WalletBalance",
            "Health",
            "BatchCheck",
            "PodSandboxStatus",
            "AuthStatus",
            "ShowPartitions",
            "BatchDescribeCollection",
        ] {
            assert_eq!(by_name(&words(name)), Some(true), "{name}");
        }
        // As public APIs have them.
        for name in [
            "SetCurrentVersion",
            "DeleteInfo",
            "DestroyCryptoKeyVersion",
            "ModifyStatus",
            "LoadBalance",
            "CheckAndMutateRow",
            "ReadModifyWriteRow",
            "ReadAndDelete",
            "GetOrCreateUser",
            "CheckOutCart",
            "TransferBalance",
            "ApproveVersion",
            "RollbackVersion",
            "MarkStatus",
            "RevokeInfo",
            "BatchWrite",
            "BroadcastTxnStatus",
            "FlashbackToVersion",
        ] {
            assert_eq!(by_name(&words(name)), Some(false), "{name}");
        }
        for name in [
            "Checkpoint",
            "Getaway",
            "Issue",
            "KvPrepareFlashbackToVersion",
        ] {
            assert_ne!(by_name(&words(name)), Some(true), "{name}");
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
