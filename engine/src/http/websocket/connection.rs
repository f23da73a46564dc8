//! One connection: what its client says, the operations that run, and its end.

use std::{
    collections::HashMap, ops::ControlFlow, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use async_graphql::Data;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{FutureExt, SinkExt, StreamExt, stream::SplitSink};
use parking_lot::Mutex;
use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::graphql::{TooMany, client_of},
    super::outbox::{Full, Out, Outbox},
    super::parameters::Parameters,
    Connection,
    message::{Close, PROTOCOL, Said, Told, next, read},
};
use crate::{
    graphql::{self, Refused, Takes},
    types::{LONG, Turn},
};

/// How often a client is asked whether it is there; one that says nothing until the next time is not.
const PING: Duration = Duration::from_secs(25);
/// How long one message may take to leave.
const SEND: Duration = Duration::from_secs(30);
/// How long the client may take to agree to the end.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a large message waits for its turn to be read.
const TURN: Duration = Duration::from_secs(1);
/// Operations of one connection at one time.
const OPERATIONS: usize = 200;

type Running = Arc<Mutex<HashMap<String, Operation>>>;

/// An operation that runs.
struct Operation {
    /// Tells it from an earlier one of the same id.
    number: u64,
    _task: AbortOnDropHandle<()>,
}

/// Serves `connection` on `socket` until one of the two sides ends it.
pub(super) async fn serve(socket: WebSocket, connection: Connection) {
    let acceptable = socket
        .protocol()
        .is_some_and(|protocol| protocol.as_bytes() == PROTOCOL.as_bytes());
    let (sink, mut messages) = socket.split();
    let outbox = Arc::new(Outbox::default());
    let mut writer = AbortOnDropHandle::new(tokio::spawn(write(sink, Arc::clone(&outbox))));
    let mut client = Client {
        connection: Arc::new(connection),
        outbox,
        running: Running::default(),
        session: None,
        begun: 0,
    };
    let began = Instant::now();
    let no_init = began + client.connection.init_timeout;
    let (mut ask, mut heard) = (began + PING, true);
    let close = loop {
        if !acceptable {
            break Some(Close::NOT_ACCEPTABLE);
        }
        let said = select! {
            biased;
            () = client.connection.lifecycle.closing() => {
                client.complete_all();
                break Some(Close::GOING_AWAY);
            }
            // What is sent does not leave any more.
            _ = &mut writer => return,
            () = sleep_until(no_init), if client.session.is_none() => break Some(Close::NO_INIT),
            () = sleep_until(ask) => {
                if !heard || client.outbox.reply(Out::Ping).is_err() {
                    return;
                }
                (ask, heard) = (Instant::now() + PING, false);
                continue;
            }
            message = messages.next() => match message {
                Some(Ok(Message::Text(text))) if text.len() < LONG => read(text.as_str()),
                Some(Ok(Message::Text(text))) => {
                    let key = client.session.as_ref().and_then(|session| client_of(session));
                    match Turn::wait(key, Instant::now() + TURN).await {
                        Some(turn) => {
                            let said = turn.run(move || read(text.as_str())).await;
                            said.unwrap_or(Err(Close::BUSY))
                        }
                        None => read(text.as_str()),
                    }
                }
                Some(Ok(Message::Binary(_))) => break Some(Close::NOT_TEXT),
                // Answered by the library, or an answer.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    heard = true;
                    continue;
                }
                Some(Ok(Message::Close(_))) => break None,
                None => return,
                Some(Err(error)) => match too_large(&error) {
                    true => break Some(Close::TOO_LARGE),
                    false => return,
                },
            },
        };
        heard = true;
        if client.outbox.is_unread() {
            break Some(Close::UNREAD);
        }
        match said.map(|said| client.said(said)) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(close)) | Err(close) => break Some(close),
        }
    };
    // The library confirms an end that the client has asked for.
    let ours = close.is_some();
    if let Some(close) = close {
        client.outbox.close(close);
    }
    drop(client);
    // It is sent, and the client agrees: otherwise it might never read it.
    let goodbye = async {
        if ours {
            let _ = writer.await;
        }
        while let Some(Ok(_)) = messages.next().await {}
    };
    let _ = timeout(GOODBYE, goodbye).await;
}

/// Whether a message was refused for its size.
fn too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // The library's own error type is not among what it shows.
        if error.to_string().contains("Space limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Sends what is on its way, until the last message or for as long as each leaves in time.
async fn write(mut sink: SplitSink<WebSocket, Message>, outbox: Arc<Outbox>) {
    loop {
        let out = outbox.next().await;
        let (message, last) = match out {
            Out::Text(text) => (Message::Text(text.into()), false),
            Out::Ping => (Message::Ping(Default::default()), false),
            Out::Close(Close { code, reason }) => {
                let reason = reason.as_ref().into();
                (Message::Close(Some(CloseFrame { code, reason })), true)
            }
        };
        if !matches!(timeout(SEND, sink.send(message)).await, Ok(Ok(()))) || last {
            return;
        }
    }
}

/// The other side of a connection.
struct Client {
    connection: Arc<Connection>,
    outbox: Arc<Outbox>,
    running: Running,
    /// What resolvers have of it, once it has said who it is.
    session: Option<Arc<Data>>,
    /// How many operations there were.
    begun: u64,
}

/// However its connection ends, its operations do. They hold what holds them.
impl Drop for Client {
    fn drop(&mut self) {
        self.running.lock().clear();
    }
}

impl Client {
    /// It has said something: what becomes of the connection.
    fn said(&mut self, said: Said) -> ControlFlow<Close> {
        match said {
            Said::ConnectionInit { payload } => self.init(&payload),
            Said::Ping { payload } => self.reply(&Told::Pong { payload }),
            Said::Pong { .. } => ControlFlow::Continue(()),
            Said::Subscribe { id, payload } => match self.session.clone() {
                Some(session) => self.subscribe(id, *payload, session),
                None => ControlFlow::Break(Close::UNAUTHORIZED),
            },
            Said::Complete { id } => {
                // One that has ended by itself may not know it yet.
                if self.running.lock().remove(&id).is_some() {
                    self.outbox.forget(&id);
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn reply(&self, told: &Told<'_>) -> ControlFlow<Close> {
        match self.outbox.reply(Out::Text(told.text())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Full) => ControlFlow::Break(Close::UNREAD),
        }
    }

    fn init(&mut self, payload: &serde_json::Value) -> ControlFlow<Close> {
        if self.session.is_some() {
            return ControlFlow::Break(Close::TWO_INITS);
        }
        match self.connection.begin(payload) {
            Ok(session) => self.session = Some(session),
            Err(close) => return ControlFlow::Break(close),
        }
        self.reply(&Told::ConnectionAck)
    }

    fn subscribe(
        &mut self,
        id: String,
        parameters: Parameters,
        session: Arc<Data>,
    ) -> ControlFlow<Close> {
        let mut running = self.running.lock();
        if running.contains_key(&id) {
            return ControlFlow::Break(Close::exists(&id));
        }
        let request = match parameters.into_request(&self.connection.persisted) {
            Ok(request) if running.len() < OPERATIONS => Ok(request),
            Ok(_) => Err(graphql::too_many(OPERATIONS)),
            Err(wrong) => Err([wrong.code.error(wrong.to_string(), None)]),
        };
        let request = match request {
            Ok(request) => request,
            Err(errors) => {
                let payload = errors.as_slice();
                let told = Told::Error { id: &id, payload };
                self.outbox.last(&id, told.text());
                return ControlFlow::Continue(());
            }
        };
        self.begun += 1;
        let operation = Started {
            id: id.clone(),
            number: self.begun,
            connection: Arc::clone(&self.connection),
            outbox: Arc::clone(&self.outbox),
            running: Arc::clone(&self.running),
        };
        let task = tokio::spawn(async move {
            let run = AssertUnwindSafe(operation.run(request, session));
            // A resolver that panics takes its operation along, and nothing else.
            if run.catch_unwind().await.is_err() {
                let (id, errors) = (operation.id.as_str(), graphql::panicked());
                let payload = errors.as_slice();
                operation.end(&Told::Error { id, payload });
            }
        });
        let _task = AbortOnDropHandle::new(task);
        let number = self.begun;
        running.insert(id, Operation { number, _task });
        ControlFlow::Continue(())
    }

    /// Ends every operation as if it had come to its end.
    fn complete_all(&self) {
        for (id, _) in self.running.lock().drain() {
            self.outbox.last(&id, Told::Complete { id: &id }.text());
        }
    }
}

/// An operation on its way.
struct Started {
    id: String,
    number: u64,
    connection: Arc<Connection>,
    outbox: Arc<Outbox>,
    running: Running,
}

impl Started {
    async fn run(&self, request: async_graphql::Request, session: Arc<Data>) {
        let connection = &self.connection;
        let id = self.id.as_str();
        let client = client_of(&session);
        let Some(_open) = connection.counts.open(client) else {
            let errors = graphql::too_many_streams();
            let payload = errors.as_slice();
            return self.end(&Told::Error { id, payload });
        };
        let Ok(place) = connection.in_flight.take(client) else {
            let errors = graphql::too_many_requests(TooMany::PROBLEM);
            let payload = errors.as_slice();
            return self.end(&Told::Error { id, payload });
        };
        let served = connection.served.load_full();
        let span = connection.operation();
        let started = graphql::execute_stream(
            &served.executable,
            &connection.execution,
            request,
            Takes::All,
            session,
            connection.request_timeout,
            &span,
        )
        .await;
        let mut answers = match started {
            Ok(answers) => answers,
            Err(Refused(errors)) => {
                let payload = errors.as_slice();
                return self.end(&Told::Error { id, payload });
            }
        };
        // Once it has begun, a subscription waits most of the time; anything else is a request to its end.
        let _place = (!answers.are_events()).then_some(place);
        while let Some(answer) = answers.next().await {
            match self.add(next(id, &answer)) {
                Some(Ok(())) => {}
                None => return,
                Some(Err(Full)) => {
                    connection.counts.slow();
                    let errors = graphql::slow_client();
                    let payload = errors.as_slice();
                    self.outbox.forget(id);
                    return self.end(&Told::Error { id, payload });
                }
            }
        }
        self.end(&Told::Complete { id });
    }

    fn is(&self, current: Option<&Operation>) -> bool {
        current.is_some_and(|current| current.number == self.number)
    }

    /// Adds an event; `None` if it is wanted no more.
    fn add(&self, text: String) -> Option<Result<(), Full>> {
        let running = self.running.lock();
        self.is(running.get(&self.id))
            .then(|| self.outbox.event(&self.id, text))
    }

    /// Says the last word, if it is still this operation's: the client may use the id again from then on.
    fn end(&self, told: &Told<'_>) {
        let mut running = self.running.lock();
        if self.is(running.get(&self.id)) {
            // The task that this drops is this one, at its end.
            let ended = running.remove(&self.id);
            self.outbox.last(&self.id, told.text());
            drop(running);
            drop(ended);
        }
    }
}
