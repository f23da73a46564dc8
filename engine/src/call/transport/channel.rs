//! The real connection to an instance: HTTP/2 by hyper, brought up at once and gone when it is gone.
//!
//! tonic's own channel connects when it is first used and again by itself, so that nobody can know
//! whether an instance is there; and it starts a timer and a hop through a queue for each call.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Uri,
    header::USER_AGENT,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt};

use super::{
    super::{BoxFuture, Config, boxed},
    Capacity, Connect, Connection, Ended, NotConnected, Place,
};
use crate::types::error_chain;

/// What servers see of us.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("grpc-rust-bff/", env!("CARGO_PKG_VERSION")));

/// Bytes of the headers, or trailers, of one answer. The library's own 16 KiB are too little: it ends
/// the connection, with all calls on it, because of trailers that are larger than that.
const MAX_HEADERS: u32 = 256 << 10;

/// Whoever has accepted a connection is there; a busy machine may take its time to say so.
const GREETING: Duration = Duration::from_secs(5);

/// A ping that is not answered within this much is lost.
const LONGEST_PING: Duration = Duration::from_secs(20);

/// How often the time between pings is doubled at most.
const MOST_CALM: u32 = 6;

/// Connects over plaintext HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http2 {
    /// How long a TCP connection may take to come up.
    pub(crate) connect_timeout: Duration,
    /// How long it may take the peer then to say its first word: it is there, and may be busy.
    pub(crate) greeting_timeout: Duration,
    /// How often, while calls are open, a ping asks whether the connection is alive. Without it a
    /// peer that froze or lost its network is never noticed by streams.
    pub(crate) keepalive: Duration,
}

impl Http2 {
    /// Connections as `config` has them.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            greeting_timeout: GREETING,
            keepalive: config.keepalive,
        }
    }

    /// With fewer pings, for a peer that has asked for it so many times.
    fn calmed(self, calm: u32) -> Self {
        let keepalive = self.keepalive.saturating_mul(1 << calm.min(MOST_CALM));
        Self { keepalive, ..self }
    }
}

impl Connect for Http2 {
    type Channel = Channel;

    fn connect(
        &self,
        address: &Authority,
        calm: u32,
        place: Place,
    ) -> BoxFuture<Result<Connection<Channel>, NotConnected>> {
        let (options, address) = (self.calmed(calm), address.clone());
        boxed(dial(options, address, place))
    }
}

async fn within<T>(
    limit: Duration,
    what: impl Future<Output = T>,
    lacks: &str,
) -> Result<T, NotConnected> {
    let waited = tokio::time::timeout(limit, what).await;
    waited.map_err(|_| {
        let limit = humantime::format_duration(limit);
        NotConnected(format!("{lacks} within {limit}"))
    })
}

async fn dial(
    options: Http2,
    address: Authority,
    place: Place,
) -> Result<Connection<Channel>, NotConnected> {
    let refused = |error: &(dyn std::error::Error + 'static)| NotConnected(error_chain(error));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(address.clone());
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    let uri = Uri::from_parts(parts).map_err(|error| refused(&error))?;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    // A host that is gone without a word: what was sent to it is not acknowledged (gRPC A18).
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(LONGEST_PING));
    let socket = within(options.connect_timeout, tcp.oneshot(uri), "no connection");
    let socket = socket.await?.map_err(|error| refused(&error))?;
    drop(place);
    let (greeted, greeting) = oneshot::channel();
    let allowed = Arc::new(AtomicUsize::new(usize::MAX));
    let socket = Greeted::new(socket.into_inner(), greeted, Arc::clone(&allowed));
    let socket = TokioIo::new(socket);
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive)
        .keep_alive_timeout((options.keepalive / 2).min(LONGEST_PING))
        .max_header_list_size(MAX_HEADERS)
        .handshake(socket)
        .await
        .map_err(|error| refused(&error))?;
    let (end, ended) = oneshot::channel();
    // It goes on until nobody holds a sender and the last call has ended.
    tokio::spawn(async move {
        let result = connection.await;
        // Nobody may be left to learn of it.
        let _ = end.send(result);
    });
    // The first thing a server says is its settings (RFC 9113, 3.4). Whoever accepts and says
    // nothing, or closes, is no instance that can be called.
    let greeting = within(options.greeting_timeout, greeting, "no word of HTTP/2");
    if greeting.await?.is_err() {
        let error = match ended.await {
            Ok(Err(error)) => error_chain(&error),
            _ => "closed as soon as it was accepted".to_owned(),
        };
        return Err(NotConnected(error));
    }
    Ok(Connection {
        channel: Channel {
            sender,
            address,
            allowed,
        },
        ended: boxed(async {
            match ended.await {
                Ok(Err(error)) if minds_pings(&error) => Ended::TooManyPings,
                // Why else is what the calls on it learn.
                _ => Ended::Closed,
            }
        }),
    })
}

/// Whether the peer left because of our pings (gRPC A8: `ENHANCE_YOUR_CALM` with the data
/// "too_many_pings"; with other data, or none, it minds something else).
fn minds_pings(error: &hyper::Error) -> bool {
    let h2 = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    h2.is_some_and(|h2| {
        h2.is_remote()
            && h2.is_go_away()
            && h2.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
            // The library shows the data in no other way.
            && h2.to_string().contains("too_many_pings")
    })
}

/// A socket that tells when the peer has said its first word, and how many calls it allows at one time. The
/// library knows that, too, and does not say it to those who only send.
struct Greeted<T> {
    io: T,
    greeting: Option<Greeting>,
}

/// The beginning of what was said, and whom to tell once it is enough.
struct Greeting {
    said: Vec<u8>,
    greeted: oneshot::Sender<()>,
    allowed: Arc<AtomicUsize>,
}

impl<T> Greeted<T> {
    fn new(io: T, greeted: oneshot::Sender<()>, allowed: Arc<AtomicUsize>) -> Self {
        let said = Vec::new();
        Self {
            io,
            greeting: Some(Greeting {
                said,
                greeted,
                allowed,
            }),
        }
    }

    /// Looks at what the peer has said first.
    fn listen(&mut self, read: &[u8]) {
        let Some(greeting) = &mut self.greeting else {
            return;
        };
        greeting.said.extend_from_slice(read);
        let first = first_frame(&greeting.said);
        if first == First::Incomplete {
            return;
        }
        if let Some(greeting) = self.greeting.take()
            && let First::Settings { max_calls } = first
        {
            greeting.allowed.store(max_calls, Ordering::Relaxed);
            // Whoever waited may have given up.
            let _ = greeting.greeted.send(());
        }
    }
}

/// What the first bytes of a peer are.
#[derive(Debug, PartialEq, Eq)]
enum First {
    /// More have to come.
    Incomplete,
    /// HTTP/2's first frame, whole (RFC 9113, 6.5).
    Settings { max_calls: usize },
    /// Something else.
    Other,
}

fn first_frame(said: &[u8]) -> First {
    /// Length, type, flags and stream.
    const HEAD: usize = 9;
    const SETTINGS: u8 = 4;
    /// A longer frame was not agreed on.
    const LONGEST: usize = 16 << 10;
    const SETTING: usize = 6;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];

    let [a, b, c, ty, ..] = said else {
        return First::Incomplete;
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if *ty != SETTINGS || length > LONGEST {
        return First::Other;
    }
    let Some(settings) = said.get(HEAD..HEAD + length) else {
        return First::Incomplete;
    };
    let mut allowed = settings.chunks_exact(SETTING).filter_map(|setting| {
        let value = setting.strip_prefix(&MAX_CONCURRENT_STREAMS)?;
        let value = u32::from_be_bytes(value.try_into().ok()?);
        usize::try_from(value).ok()
    });
    let max_calls = allowed.next_back().unwrap_or(usize::MAX);
    First::Settings { max_calls }
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.greeting.is_some() && read.is_ready() {
            this.listen(buf.filled().get(before..).unwrap_or_default());
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Sends calls over one connection.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Body>,
    address: Authority,
    /// Calls that the peer allows at one time.
    allowed: Arc<AtomicUsize>,
}

impl Capacity for Channel {
    fn max_calls(&self) -> usize {
        self.allowed.load(Ordering::Relaxed)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Response<Body>, BoxError>>;

    /// A connection that is gone says so to the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.address.clone());
        // A path is there, and nothing else is missing.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request.headers_mut().insert(USER_AGENT, AGENT);
        let sent = self.sender.send_request(request);
        boxed(async {
            let response = sent.await?;
            Ok(response.map(Body::new))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Semaphore,
    };

    use super::*;

    const OPTIONS: Http2 = Http2 {
        connect_timeout: Duration::from_secs(5),
        greeting_timeout: Duration::from_millis(200),
        keepalive: Duration::from_secs(330),
    };

    /// Connects to a server that does this with each connection.
    async fn connect<F>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Result<Connection<Channel>, NotConnected>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket));
            }
        });
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        OPTIONS
            .connect(&addr.to_string().parse().unwrap(), 0, place)
            .await
    }

    /// Reads until the other side leaves.
    async fn read_on(mut socket: TcpStream) {
        let mut buffer = [0; 1024];
        while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
    }

    #[tokio::test]
    async fn whoever_accepts_is_connected_to_only_once_it_has_said_its_settings() {
        let silent = connect(read_on).await;
        assert!(silent.is_err_and(|error| error.0.contains("within 200ms")));
        let closing = connect(|_| async {}).await;
        assert!(closing.is_err());
        let web = connect(|mut socket| async move {
            let page = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = socket.write_all(page).await;
            read_on(socket).await;
        })
        .await;
        assert!(web.is_err());
        // Settings that arrive a byte at a time are settings.
        let slow = connect(|mut socket| async move {
            for byte in b"\0\0\0\x04\0\0\0\0\0" {
                let _ = socket.write_all(&[*byte]).await;
                let _ = socket.flush().await;
            }
            read_on(socket).await;
        })
        .await;
        assert!(slow.is_ok());
    }

    #[test]
    fn the_first_frame_says_how_many_calls_a_peer_allows() {
        let frame = |settings: &[u8]| {
            let head = [0, 0, settings.len() as u8, 4, 0, 0, 0, 0, 0];
            [head.as_slice(), settings].concat()
        };
        let hundred = frame(&[0, 4, 0, 0, 255, 255, 0, 3, 0, 0, 0, 100]);
        let max_calls = 100;
        assert_eq!(first_frame(&hundred), First::Settings { max_calls });
        let with_more = [hundred.as_slice(), b"more"].concat();
        assert_eq!(first_frame(&with_more), First::Settings { max_calls });
        for end in 0..hundred.len() {
            assert_eq!(first_frame(&hundred[..end]), First::Incomplete);
        }
        let max_calls = usize::MAX;
        assert_eq!(first_frame(&frame(&[])), First::Settings { max_calls });
        assert_eq!(first_frame(b"HTTP/1.1 400"), First::Other);
        assert_eq!(first_frame(b"\xff\xff\xff\x04"), First::Other);
    }

    #[tokio::test]
    async fn f40_a_peer_that_minds_pings_is_told_from_one_that_leaves() {
        const ENHANCE_YOUR_CALM: u8 = 11;
        for (reason, data, ended) in [
            (ENHANCE_YOUR_CALM, "too_many_pings", Ended::TooManyPings),
            // A proxy that minds a flood of something else.
            (ENHANCE_YOUR_CALM, "too_many_resets", Ended::Closed),
            (ENHANCE_YOUR_CALM, "", Ended::Closed),
            (0, "", Ended::Closed),
            (1, "", Ended::Closed),
        ] {
            let connection = connect(move |mut socket| async move {
                let length = u8::try_from(8 + data.len()).unwrap();
                let mut said = b"\0\0\0\x04\0\0\0\0\0".to_vec();
                said.extend([0, 0, length, 7, 0, 0, 0, 0, 0]);
                said.extend([0, 0, 0, 0, 0, 0, 0, reason]);
                said.extend(data.as_bytes());
                let _ = socket.write_all(&said).await;
                read_on(socket).await;
            })
            .await;
            let how = connection.unwrap().ended.await;
            assert_eq!(how, ended, "{reason} {data}");
        }
    }

    #[test]
    fn f40_pings_come_no_more_often_than_grpc_allows_and_half_as_often_when_a_peer_minds() {
        let usual = Http2::new(&Config::default()).keepalive;
        assert!(usual > Duration::from_secs(300), "{usual:?}");
        assert_eq!(OPTIONS.calmed(2).keepalive, OPTIONS.keepalive * 4);
        assert_eq!(OPTIONS.calmed(u32::MAX), OPTIONS.calmed(MOST_CALM));
    }
}
