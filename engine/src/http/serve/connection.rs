//! One connection: requests on it, their end, and the end of its patience.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{HeaderValue, Request, StatusCode, Version, header::CONNECTION};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::activity::Activity;

/// Requests of one HTTP/2 connection at one time: what browsers and proxies are used to.
const STREAMS: u32 = 128;
/// Bytes of a request's head; browsers and proxies stay below half of it.
const HEAD: usize = 64 << 10;
/// How often an HTTP/2 connection is asked whether its client is there, and how long it may take.
const PING: Duration = Duration::from_secs(20);

/// For how long a connection is kept.
pub(super) struct Lasts {
    /// Its next answer is its last.
    pub(super) leaving: CancellationToken,
    /// It is closed as soon as nothing is open on it.
    pub(super) closing: CancellationToken,
}

/// Serves requests on `socket` until its client leaves, its patience ends, or it is closing and the last
/// answer is written.
pub(super) async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    activity: Arc<Activity>,
    lasts: Lasts,
) {
    let Lasts { leaving, closing } = lasts;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Its time is ours to watch: the library's does not tell a head from idleness.
        .header_read_timeout(None)
        .max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD as u32);
    let service = service_fn(|request: Request<Incoming>| {
        activity.began(request.version());
        let open = Open(Arc::clone(&activity));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let version = request.version();
        let answer = router.clone().call(request);
        let leaving = leaving.clone();
        async move {
            let mut response = answer.await?;
            // In HTTP/2 that is no header's matter.
            let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if version < Version::HTTP_2 && !upgrades && leaving.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Answer { body, _open: open }))
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let (mut left, mut told) = (false, false);
    loop {
        let deadline = activity.deadline();
        // While a request is open there is nothing to watch for but its end.
        let patience = async {
            let far = || Instant::now() + Duration::from_secs(1);
            sleep_until(deadline.unwrap_or_else(far)).await;
        };
        select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(error, "a client's connection failed");
                }
                return;
            }
            version = asked_to_leave(&leaving, &activity), if !left && !told => {
                left = true;
                // HTTP/2 has a word for it, and goes on until the last stream has ended.
                if version == Version::HTTP_2 {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = closing.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = patience => {
                let over = activity.deadline();
                if over.is_some_and(|over| over <= Instant::now()) {
                    return;
                }
            }
        }
    }
}

/// What a connection speaks that is to be left by its client. What nothing was asked on may be a proxy's, which
/// keeps it for later.
async fn asked_to_leave(leaving: &CancellationToken, activity: &Activity) -> Version {
    leaving.cancelled().await;
    activity.speaks().await
}

/// A request whose answer is not written yet.
struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended(Instant::now());
    }
}

/// An answer; its request is open until it is written.
#[pin_project::pin_project]
struct Answer {
    #[pin]
    body: Body,
    _open: Open,
}

impl http_body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
