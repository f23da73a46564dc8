//! gRPC's frames, as a server reads and writes them.

use std::convert::Infallible;

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt, StreamBody};

use crate::call::Code;

/// How a call ends.
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Status {
    pub(super) fn ok() -> Self {
        Self {
            code: Code::Ok,
            message: String::new(),
        }
    }
}

/// What a call is answered with.
pub(super) enum Frame {
    Message(Bytes),
    End(Status),
}

/// The one message of a request.
pub(super) async fn read(body: Body) -> Result<Bytes, Status> {
    let invalid = |message: &str| Status {
        code: Code::Internal,
        message: message.to_owned(),
    };
    let body = body.collect().await;
    let body = body
        .map_err(|_| invalid("the request was cut off"))?
        .to_bytes();
    // A flag for compression and a length stand before the message.
    match body.split_first_chunk::<5>() {
        Some(([0, a, b, c, d], message)) => {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let message = message.get(..length);
            let message = message.ok_or_else(|| invalid("the request is shorter than it says"))?;
            Ok(body.slice_ref(message))
        }
        Some(_) => Err(invalid("the request is compressed")),
        None => Err(invalid("the request has no message")),
    }
}

/// The response with `frames`.
pub(super) fn respond(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    let frames = frames.map(|frame| {
        Ok::<_, Infallible>(match frame {
            Frame::Message(message) => {
                let mut framed = BytesMut::with_capacity(5 + message.len());
                framed.put_u8(0);
                framed.put_u32(message.len() as u32);
                framed.put(message);
                http_body::Frame::data(framed.freeze())
            }
            Frame::End(status) => http_body::Frame::trailers(trailers(&status)),
        })
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", (status.code as i32).into());
    // What no header can carry is left out: a message is for people.
    if let Ok(message) = HeaderValue::try_from(status.message.replace('%', "%25")) {
        trailers.insert("grpc-message", message);
    }
    trailers
}
