//! A request that is not executed because of how it came: an answer in GraphQL's form, with HTTP's status.

use super::negotiate::Form;
use crate::graphql::{Code, Completed};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

/// Why, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    code: Code,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let code = match status {
            StatusCode::SERVICE_UNAVAILABLE => Code::Overloaded,
            status if status.is_server_error() => Code::Internal,
            _ => Code::BadUserInput,
        };
        Self {
            status,
            message,
            code,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// An answer that cannot be written, which what resolvers return can.
    pub(super) fn no_json() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The answer is no JSON.")
    }

    /// The same under another code.
    pub(super) fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// As it is sent.
    pub(super) fn into_response(self, form: Form) -> Response {
        let Self {
            status,
            message,
            code,
        } = self;
        let status = match (code, form) {
            // A request that could be read, and that the client sends again with its document.
            (Code::PersistedQueryNotFound, Form::Json) => StatusCode::OK,
            _ => status,
        };
        let completed = Completed::refused(vec![code.error(message, None)]);
        let body = serde_json::to_vec(&completed).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let form = match form {
            Form::Events => Form::Json,
            form => form,
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, form.content_type());
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
