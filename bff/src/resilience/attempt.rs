//! One attempt: its own timeout, its headers, and nothing in its answer that could hurt us.
//!
//! The timeout stands inside the breaker. Around it, a hang would be a dropped future, which says
//! nothing, and the breaker would never open.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, combinators::MapFrame};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Layer, Service};
use tracing::debug;

use super::{
    classify,
    deadline::{Deadline, Timeouts, Times},
    streams,
    timed::{TimedBody, Timer, timed},
};

/// An attempt was not answered in time; another one may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer to an attempt within {}", humantime::format_duration(*after))]
pub struct AttemptElapsed {
    /// How much time the attempt had.
    pub after: Duration,
}

/// Marks, as a request extension, an attempt that no other will follow: cutting it short gains
/// nothing, so it has all that is left of the call's deadline.
#[derive(Clone, Copy, Debug)]
pub struct LastAttempt;

/// Ends each attempt but the last when the time of an attempt is over, or at the call's deadline,
/// whichever is earlier.
#[derive(Clone, Debug)]
pub struct AttemptLayer(pub Timeouts);

impl<S> Layer<S> for AttemptLayer {
    type Service = AttemptService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptService {
            inner,
            timeouts: self.0.clone(),
        }
    }
}

/// See [`AttemptLayer`].
#[derive(Clone, Debug)]
pub struct AttemptService<S> {
    inner: S,
    timeouts: Timeouts,
}

/// An answer's body without anything that could hurt us.
type CleanBody<B> = MapFrame<B, fn(Frame<Bytes>) -> Frame<Bytes>>;

impl<S, B> Service<Request<Body>> for AttemptService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin + Send + 'static,
{
    type Response = Response<TimedBody<CleanBody<B>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let extensions = request.extensions();
        let deadline = match (
            extensions.get::<LastAttempt>(),
            extensions.get::<Deadline>(),
        ) {
            (Some(LastAttempt), Some(deadline)) => *deadline,
            _ => {
                let times = extensions.get::<Times>().copied();
                let times = times.unwrap_or_else(|| self.timeouts.get());
                Deadline::at(now + times.attempt).bring_forward(&mut request)
            }
        };
        let after = deadline.left(now);
        // Servers hold a whole stream to what is announced, and only its first message is meant.
        if !streams(&request) {
            deadline.announce(request.headers_mut(), now);
        }
        let timer = Timer::new(deadline, streams(&request), move || {
            AttemptElapsed { after }.into()
        });
        let answer = self.inner.call(request);
        let clean = async move {
            let mut response = answer.await?;
            // A server that holds to what was announced may give up a moment before we do, and
            // tonic's calls that CANCELLED.
            let gave_up = classify::code_of(&response) == Some(Code::Cancelled);
            if gave_up && deadline.is_too_close(Instant::now()) {
                return Err(AttemptElapsed { after }.into());
            }
            clean(response.headers_mut());
            Ok(response.map(|body| body.map_frame(clean_frame as fn(_) -> _)))
        };
        Box::pin(timed(clean, timer))
    }
}

fn clean_frame(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        clean(trailers);
    }
    frame
}

/// As tonic decodes it.
const DETAILS_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes out status details that are not base64: the generated client would panic on them.
fn clean(headers: &mut HeaderMap) {
    const DETAILS: &str = "grpc-status-details-bin";
    let Some(details) = headers.get(DETAILS) else {
        return;
    };
    if DETAILS_BASE64.decode(details.as_bytes()).is_err() {
        debug!("an upstream sent status details that are not base64; they are dropped");
        headers.remove(DETAILS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f24_status_details_that_are_not_base64_are_dropped_and_good_ones_stay() {
        for (details, stays) in [
            ("aGVsbG8=", true),
            ("aGVsbG8", true),
            ("", true),
            ("!!!", false),
            ("a", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status-details-bin", details.parse().unwrap());
            headers.insert("grpc-status", "13".parse().unwrap());
            clean(&mut headers);
            assert_eq!(
                headers.contains_key("grpc-status-details-bin"),
                stays,
                "{details}"
            );
            assert!(headers.contains_key("grpc-status"));
            // What is left does not make the client panic.
            assert!(Status::from_header_map(&headers).is_some());
        }
    }
}
