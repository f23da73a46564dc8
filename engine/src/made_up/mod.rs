//! Services that are made up from their descriptors: real gRPC servers on this machine that answer every
//! method in the right shape, so that a frontend is developed, and a schema tested, with no backend at
//! all. What a method answers can be scripted.

mod frames;
mod values;

use std::{collections::HashMap, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use parking_lot::Mutex;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use self::frames::{Frame, Status};
use crate::{call::Code, upstream::Upstream};

/// Messages of a stream that nobody scripted, and the pause between them.
const STREAMED: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// A service made up from the descriptors of an upstream, on a port of this machine. It ends when it is
/// dropped.
pub struct MadeUp {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Ends with the handle.
    _server: JoinSet<io::Result<()>>,
}

struct Shared {
    name: &'static str,
    pool: DescriptorPool,
    scripts: Mutex<HashMap<String, Script>>,
    received: Mutex<Vec<Received>>,
}

/// What a method does instead of what would be made up.
#[derive(Clone, Default)]
struct Script {
    delay: Duration,
    end: Option<End>,
}

#[derive(Clone)]
enum End {
    Messages(Vec<Bytes>),
    Failure(Code, String),
}

/// A call as a made-up service received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// `package.Service/Method`.
    pub method: String,
    /// Its metadata.
    pub metadata: HeaderMap,
    message: Bytes,
}

impl Received {
    /// The request.
    ///
    /// # Errors
    /// When it is none of this type.
    pub fn message<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.message.clone())
    }
}

impl MadeUp {
    /// Makes up the upstream `U`, whose client `bff-codegen` has generated.
    ///
    /// # Errors
    /// When it has no descriptors, or this machine no port.
    pub async fn start<U: Upstream>() -> io::Result<Self> {
        Self::of(U::NAME, U::DESCRIPTORS).await
    }

    pub(crate) async fn of(name: &'static str, descriptors: &[u8]) -> io::Result<Self> {
        let pool = DescriptorPool::decode(descriptors).map_err(io::Error::other)?;
        if pool.services().len() == 0 {
            let problem = format!("the upstream {name} has no descriptors: generate its client");
            return Err(io::Error::other(problem));
        }
        let shared = Arc::new(Shared {
            name,
            pool,
            scripts: Mutex::default(),
            received: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            addr,
            shared,
            _server: server,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The upstream's name in the configuration.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Scripts a method by its name, or as `package.Service/Method`.
    ///
    /// # Panics
    /// When there is no such method: a test that scripts nothing would test nothing.
    pub fn on(&self, method: &str) -> Scripted<'_> {
        let known: Vec<_> = self.methods().map(|method| path_of(&method)).collect();
        let short = |path: &str| path.rsplit('/').next() == Some(method);
        let path = known.iter().find(|path| *path == method || short(path));
        let Some(path) = path.cloned() else {
            panic!(
                "{} has no method {method}; it has {}",
                self.shared.name,
                known.join(", ")
            );
        };
        Scripted {
            shared: &self.shared,
            path,
        }
    }

    /// The calls of a method, by its name or as `package.Service/Method`, in the order in which they
    /// came.
    pub fn received(&self, method: &str) -> Vec<Received> {
        let of_method = |call: &&Received| {
            call.method == method || call.method.rsplit('/').next() == Some(method)
        };
        let received = self.shared.received.lock();
        received.iter().filter(of_method).cloned().collect()
    }

    fn methods(&self) -> impl Iterator<Item = MethodDescriptor> + '_ {
        let services = self.shared.pool.services();
        services.flat_map(|service| service.methods().collect::<Vec<_>>())
    }
}

impl fmt::Debug for MadeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeUp")
            .field("upstream", &self.shared.name)
            .field("addr", &self.addr)
            .finish()
    }
}

/// A method of a made-up service, to say what it does.
#[derive(Clone)]
pub struct Scripted<'s> {
    shared: &'s Shared,
    path: String,
}

impl fmt::Debug for Scripted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scripted").field(&self.path).finish()
    }
}

impl Scripted<'_> {
    /// It answers with `message`.
    pub fn reply(&self, message: &impl Message) -> &Self {
        self.stream([message])
    }

    /// It answers with a stream of `messages`, which then ends.
    pub fn stream<'m, M: Message + 'm>(&self, messages: impl IntoIterator<Item = &'m M>) -> &Self {
        let messages = messages.into_iter();
        let messages = messages.map(|message| message.encode_to_vec().into());
        self.change(|script| script.end = Some(End::Messages(messages.collect())))
    }

    /// It fails with `code`.
    pub fn fail(&self, code: Code, message: &str) -> &Self {
        self.change(|script| script.end = Some(End::Failure(code, message.to_owned())))
    }

    /// It takes this long before it does anything.
    pub fn delay(&self, delay: Duration) -> &Self {
        self.change(|script| script.delay = delay)
    }

    /// It answers what is made up again.
    pub fn reset(&self) -> &Self {
        self.change(|script| *script = Script::default())
    }

    fn change(&self, change: impl FnOnce(&mut Script)) -> &Self {
        change(
            self.shared
                .scripts
                .lock()
                .entry(self.path.clone())
                .or_default(),
        );
        self
    }
}

/// `package.Service/Method`.
fn path_of(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let metadata = request.headers().clone();
    let message = match frames::read(request.into_body()).await {
        Ok(message) => message,
        Err(status) => return frames::respond(stream::iter([Frame::End(status)])),
    };
    let script = shared
        .scripts
        .lock()
        .get(&path)
        .cloned()
        .unwrap_or_default();
    shared.received.lock().push(Received {
        method: path.clone(),
        metadata,
        message: message.clone(),
    });
    sleep(script.delay).await;
    match script.end {
        Some(End::Messages(messages)) => {
            let messages = messages.into_iter().map(Frame::Message);
            frames::respond(stream::iter(messages.chain([Frame::End(Status::ok())])))
        }
        Some(End::Failure(code, message)) => {
            frames::respond(stream::iter([Frame::End(Status { code, message })]))
        }
        None => match made_up(&shared.pool, &path, message) {
            Ok((messages, pause)) => {
                let messages = stream::iter(messages.into_iter().enumerate());
                let messages = messages.then(move |(n, message)| async move {
                    if n > 0 {
                        sleep(pause).await;
                    }
                    Frame::Message(message)
                });
                let end = stream::iter([Frame::End(Status::ok())]);
                frames::respond(messages.chain(end).boxed())
            }
            Err(status) => frames::respond(stream::iter([Frame::End(status)])),
        },
    }
}

/// The messages that a call of `path` is answered with, and the pause between them.
fn made_up(
    pool: &DescriptorPool,
    path: &str,
    message: Bytes,
) -> Result<(Vec<Bytes>, Duration), Status> {
    let mut methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let method = methods.find(|method| path_of(method) == path);
    let method = method.ok_or_else(|| Status {
        code: Code::Unimplemented,
        message: format!("there is no method {path}"),
    })?;
    let request = DynamicMessage::decode(method.input(), message);
    let request = request.map_err(|error| Status {
        code: Code::InvalidArgument,
        message: error.to_string(),
    })?;
    let length = match method.is_server_streaming() {
        true => STREAMED,
        false => 1,
    };
    let answers = (1..=length).map(|n| values::answer(&method.output(), &request, n));
    let answers = answers.map(|answer| answer.encode_to_vec().into());
    Ok((answers.collect(), PAUSE))
}
