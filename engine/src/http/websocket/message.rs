//! The messages of graphql-transport-ws, as text: what may come, what is answered, and with which codes a
//! connection is closed. The protocol: github.com/enisdenjo/graphql-ws, PROTOCOL.md.

use std::borrow::Cow;

use async_graphql::ServerError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::parameters::Parameters;
use crate::graphql::Written;

/// The subprotocol's name.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    ConnectionInit {
        #[serde(default)]
        payload: Value,
    },
    Ping {
        payload: Option<Value>,
    },
    Pong {
        #[serde(rename = "payload")]
        _payload: Option<Value>,
    },
    Subscribe {
        id: String,
        payload: Box<Parameters>,
    },
    Complete {
        id: String,
    },
}

/// What a client is told, but for answers: those are [`next`].
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told<'m> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    Error {
        id: &'m str,
        payload: &'m [ServerError],
    },
    Complete {
        id: &'m str,
    },
}

impl Told<'_> {
    /// As it is sent.
    pub(super) fn text(&self) -> String {
        // It has no map whose keys are no text, which is all that could go wrong.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The `next` that tells one answer of the operation `id`.
pub(super) fn next(id: &str, answer: &Written) -> String {
    let (id, answer) = (Value::from(id), answer.as_str());
    format!(r#"{{"type":"next","id":{id},"payload":{answer}}}"#)
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Close {
    pub(super) code: u16,
    pub(super) reason: Cow<'static, str>,
}

impl Close {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
        }
    }

    /// All is said.
    pub(in crate::http) const DONE: Self = Self::new(1000, "Done");
    pub(in crate::http) const GOING_AWAY: Self = Self::new(1001, "Going away");
    pub(super) const TOO_LARGE: Self = Self::new(1009, "Message too large");
    pub(super) const UNAUTHORIZED: Self = Self::new(4401, "Unauthorized");
    pub(super) const NOT_ACCEPTABLE: Self = Self::new(4406, "Subprotocol not acceptable");
    pub(super) const NO_INIT: Self = Self::new(4408, "Connection initialisation timeout");
    pub(super) const TWO_INITS: Self = Self::new(4429, "Too many initialisation requests");
    pub(super) const BUSY: Self = Self::new(1013, "Too much to do: try again later");
    pub(super) const UNREAD: Self = Self::new(1008, "Answers are not read");
    pub(super) const NOT_TEXT: Self = Self::new(4400, "Messages are text");

    /// A message that is none.
    pub(super) fn invalid(error: &serde_json::Error) -> Self {
        Self::with(4400, format!("Invalid message: {error}"))
    }

    /// What the connection begins with is not accepted.
    pub(super) fn forbidden(why: String) -> Self {
        Self::with(4403, why)
    }

    /// An operation of this id runs already.
    pub(super) fn exists(id: &str) -> Self {
        Self::with(4409, format!("Subscriber for {id} already exists"))
    }

    /// A close frame has room for 123 bytes of reason (RFC 6455, 5.5.1).
    fn with(code: u16, mut reason: String) -> Self {
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self {
            code,
            reason: Cow::Owned(reason),
        }
    }
}

/// Reads a message.
///
/// # Errors
/// With what to close the connection.
pub(super) fn read(text: &str) -> Result<Said, Close> {
    serde_json::from_str(text).map_err(|error| Close::invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_told_so_within_the_room_of_a_close_frame() {
        for text in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"type":"start"}"#,
            r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":["{ a }",null,null,null,null]}"#,
            r#"{"type":"complete"}"#,
        ] {
            let close = read(text).unwrap_err();
            assert_eq!(close.code, 4400, "{text}");
            assert!(close.reason.len() <= 123, "{}", close.reason);
        }
        let long = Close::exists(&"ä".repeat(200));
        assert!(long.reason.len() <= 123 && long.reason.len() > 118);
    }

    #[test]
    fn every_message_of_a_client_is_read() {
        for text in [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{"type":"connection_init","payload":{"a":1}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"pong","payload":{"a":1}}"#,
            r#"{"type":"complete","id":"1"}"#,
            r#"{"id":"1","payload":{"query":"{ a }","variables":null,"operationName":null},"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{ a }","extensions":{},"more":1}}"#,
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn what_a_client_is_told_has_the_protocols_form() {
        assert_eq!(Told::ConnectionAck.text(), r#"{"type":"connection_ack"}"#);
        assert_eq!(Told::Pong { payload: None }.text(), r#"{"type":"pong"}"#);
        let complete = Told::Complete { id: "1" };
        assert_eq!(complete.text(), r#"{"type":"complete","id":"1"}"#);
        let next = next("\"1\"", &Written::errors(&[]));
        let next: Value = serde_json::from_str(&next).unwrap();
        assert_eq!(next["type"], "next");
        assert_eq!(next["id"], "\"1\"");
        assert!(next["payload"].is_object());
    }
}
