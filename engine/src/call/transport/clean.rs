//! What stands between tonic's client and a channel: it takes out of answers what the client cannot
//! stand, and marks what the peer itself said.
//!
//! The client panics on status details that are not base64, loses the code of a status whose text is
//! no UTF-8, and reads a web page as a broken message. It also makes up statuses of its own, which
//! look like the peer's: those of the peer are marked.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tonic::{Status, body::Body};
use tower::{BoxError, Service};
use tracing::debug;

use super::Channel;

/// Marks a status that came over the wire.
pub(super) const FROM_PEER: HeaderName = HeaderName::from_static("bff-from-peer");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The answer is no gRPC at all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("HTTP status {http}, content type {content_type}")]
pub(super) struct NotGrpc {
    pub(super) http: u16,
    pub(super) content_type: String,
}

/// A channel with clean answers.
#[derive(Clone)]
pub(super) struct Clean<C>(pub(super) C);

impl<C: Channel> Service<Request<Body>> for Clean<C> {
    type Response = Response<CleanBody>;
    type Error = BoxError;
    type Future = CleanFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        CleanFuture(self.0.call(request.map(whole)))
    }
}

/// The body of a request as one frame that ends the stream: the client's own never says that it
/// ends, which costs an empty frame behind the message.
fn whole(mut body: Body) -> Body {
    match body.frame().now_or_never() {
        Some(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Body::new(Full::new(data)),
            Err(_) => body,
        },
        _ => body,
    }
}

/// See [`Clean`].
#[pin_project::pin_project]
pub(super) struct CleanFuture<F>(#[pin] F);

impl<F, E> Future for CleanFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<CleanBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.project().0.poll(cx)).map_err(Into::into)?;
        if !response.headers().contains_key(&STATUS)
            && let Some(not_grpc) = not_grpc(&response)
        {
            return Poll::Ready(Err(not_grpc.into()));
        }
        clean(response.headers_mut());
        Poll::Ready(Ok(response.map(CleanBody)))
    }
}

/// What `response` is instead of gRPC.
fn not_grpc(response: &Response<Body>) -> Option<NotGrpc> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.map(HeaderValue::as_bytes).unwrap_or_default();
    if response.status().as_u16() == 200 && content_type.starts_with(b"application/grpc") {
        return None;
    }
    let text = String::from_utf8_lossy(content_type);
    Some(NotGrpc {
        http: response.status().as_u16(),
        content_type: match text.is_empty() {
            true => "none".to_owned(),
            false => text.chars().take(100).collect(),
        },
    })
}

/// A body whose trailers are clean.
pub(super) struct CleanBody(Body);

impl http_body::Body for CleanBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.get_mut().0).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            clean(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// As tonic decodes it.
const DETAILS_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Makes headers or trailers such that the client can read them.
fn clean(headers: &mut HeaderMap) {
    // The mark is ours alone.
    if headers.contains_key(&FROM_PEER) {
        headers.remove(&FROM_PEER);
    }
    let Some(status) = headers.get(&STATUS) else {
        return;
    };
    if status != "0" {
        headers.insert(FROM_PEER, HeaderValue::from_static("1"));
    }
    // The client reads text and details of a success as well.
    if let Some(details) = headers.get(&DETAILS)
        && DETAILS_BASE64.decode(details.as_bytes()).is_err()
    {
        debug!("an upstream sent status details that are not base64; they are dropped");
        headers.remove(&DETAILS);
    }
    if let Some(message) = headers.get(&MESSAGE)
        && let Some(repaired) = repaired(message.as_bytes())
    {
        headers.insert(MESSAGE, repaired);
    }
}

/// A status text that is UTF-8, if `encoded` is none once its percent signs are resolved.
fn repaired(encoded: &[u8]) -> Option<HeaderValue> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut text = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let digits = hex(*high).zip(hex(*low));
                text.extend(digits.map(|(high, low)| (high * 16 + low) as u8));
                rest = after;
            }
            _ => text.push(*first),
        }
    }
    if std::str::from_utf8(&text).is_ok() {
        return None;
    }
    let mut safe = String::new();
    for byte in String::from_utf8_lossy(&text).bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => safe.push(char::from(byte)),
            byte => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(safe).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(list: &[(&HeaderName, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.insert(*name, HeaderValue::from_bytes(value).unwrap());
        }
        clean(&mut headers);
        headers
    }

    #[test]
    fn f24_status_details_that_are_not_base64_are_dropped_and_good_ones_stay() {
        for (details, stays) in [
            ("aGVsbG8=", true),
            ("aGVsbG8", true),
            ("", true),
            ("!!!", false),
            ("a", false),
        ] {
            let headers = trailers(&[(&STATUS, b"13"), (&DETAILS, details.as_bytes())]);
            assert_eq!(headers.contains_key(&DETAILS), stays, "{details}");
            // What is left does not make the client panic.
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!(status.code(), tonic::Code::Internal);
            // Nor does it with a success, whose details the client decodes as well.
            let headers = trailers(&[(&STATUS, b"0"), (&DETAILS, details.as_bytes())]);
            assert_eq!(headers.contains_key(&DETAILS), stays, "{details}");
        }
    }

    #[test]
    fn f60_a_status_text_that_is_no_utf8_does_not_cost_the_code() {
        for message in [&b"%FF%FE gone"[..], b"caf\xe9", b"%C3", b"100%"] {
            let headers = trailers(&[(&STATUS, b"5"), (&MESSAGE, message)]);
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!(status.code(), tonic::Code::NotFound, "{message:?}");
            let headers = trailers(&[(&STATUS, b"0"), (&MESSAGE, message)]);
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!(status.code(), tonic::Code::Ok, "{message:?}");
        }
        let good = trailers(&[(&STATUS, b"5"), (&MESSAGE, "gr%C3%B6%C3%9Fe".as_bytes())]);
        assert_eq!(Status::from_header_map(&good).unwrap().message(), "größe");
    }

    #[test]
    fn only_what_came_over_the_wire_is_marked_and_the_peer_cannot_mark_itself() {
        assert!(trailers(&[(&STATUS, b"5")]).contains_key(&FROM_PEER));
        assert!(!trailers(&[(&STATUS, b"0"), (&FROM_PEER, b"1")]).contains_key(&FROM_PEER));
        assert!(!trailers(&[(&FROM_PEER, b"1")]).contains_key(&FROM_PEER));
    }
}
