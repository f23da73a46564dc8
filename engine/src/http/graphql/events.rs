//! An operation's answers as server-sent events: graphql-sse's "distinct connections mode"
//! (github.com/enisdenjo/graphql-sse, PROTOCOL.md).

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::{select, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{
        Lifecycle, SocketCounts,
        outbox::{Full, Out, Outbox},
        websocket::{Close, Open},
    },
    negotiate::Form,
};
use crate::{
    graphql::{self, Written},
    types::{ClientKey, Place},
};

/// How often a comment is sent when there is nothing else: who does not get it knows that nobody is there,
/// and proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// The only operation of its outbox.
const ID: &str = "";

/// The response that sends `answers` as they come, until they end or the program does.
pub(super) fn respond(
    answers: impl Stream<Item = Written> + Send + 'static,
    lifecycle: Lifecycle,
    counts: SocketCounts,
    held: (Open, Option<Place<ClientKey>>),
) -> Response {
    let outbox = Arc::new(Outbox::default());
    let filled = Arc::clone(&outbox);
    let filling = async move {
        let _held = held;
        let filling = AssertUnwindSafe(fill(answers, &filled, lifecycle, counts));
        // A resolver that panics ends what it was asked for.
        if filling.catch_unwind().await.is_err() {
            let told = Written::errors(&graphql::panicked());
            filled.last(ID, event(&told));
        }
        filled.close(Close::DONE);
    };
    // Ends with the body: the client has left then, or all is sent.
    let filling = AbortOnDropHandle::new(tokio::spawn(filling));
    let events = stream::unfold(
        (outbox, filling, false),
        async |(outbox, filling, ended)| {
            if ended {
                return None;
            }
            let (text, ended) = match timeout(KEEP_ALIVE, outbox.next()).await {
                Ok(Out::Text(text)) => (text, false),
                Ok(Out::Ping) | Err(_) => (":\n\n".to_owned(), false),
                Ok(Out::Close(_)) => ("event: complete\ndata:\n\n".to_owned(), true),
            };
            let text = Ok::<_, Infallible>(Bytes::from(text));
            Some((text, (outbox, filling, ended)))
        },
    );
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, Form::Events.content_type());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // What nginx asks for to send things as they come.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn fill(
    answers: impl Stream<Item = Written>,
    outbox: &Outbox,
    lifecycle: Lifecycle,
    counts: SocketCounts,
) {
    let mut answers = std::pin::pin!(answers);
    loop {
        let answer = select! {
            answer = answers.next() => answer,
            () = lifecycle.closing() => None,
        };
        let Some(answer) = answer else {
            break;
        };
        if let Err(Full) = outbox.event(ID, event(&answer)) {
            counts.slow();
            outbox.forget(ID);
            let told = Written::errors(&graphql::slow_client());
            outbox.last(ID, event(&told));
            break;
        }
    }
}

/// One answer. JSON has no line ends of its own.
fn event(answer: &Written) -> String {
    format!("event: next\ndata: {}\n\n", answer.as_str())
}
