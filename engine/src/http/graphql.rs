//! `/graphql` by POST and WebSocket, and the playground at `/`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_graphql::{
    Data, Error, Executor, Request, Response as Answer,
    http::{ALL_WEBSOCKET_PROTOCOLS, GraphiQLSource},
};
use async_graphql_axum::{GraphQLProtocol, GraphQLRequest, GraphQLResponse, GraphQLWebSocket};
use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, FromRequest, Request as HttpRequest, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt, stream::BoxStream};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tower_http::limit::RequestBodyLimitLayer;

use super::{Incoming, RequestData, Served, client};
use crate::{
    call::{CallOptions, ForwardedHeader, forwarded},
    graphql::{self, Execution, Forwarded},
    telemetry::trace::Span,
};

/// A client's own, smaller wish for a deadline.
const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// Bytes of a request's body, or of a WebSocket message; queries of people and programs are a hundredth of it.
const MAX_BODY: usize = 1 << 20;

/// Bytes of a header that a `connection_init` names: what servers take of a header of their own.
const MAX_HEADER: usize = 8 << 10;

#[derive(Clone)]
struct Endpoint {
    served: Arc<ArcSwap<Served>>,
    execution: Execution,
    data: RequestData,
    request_timeout: Duration,
}

pub(super) fn routes(
    served: Arc<ArcSwap<Served>>,
    execution: Execution,
    data: RequestData,
    request_timeout: Duration,
) -> Router {
    let endpoint = Endpoint {
        served,
        execution,
        data,
        request_timeout,
    };
    Router::new()
        .route("/graphql", post(execute).get(subscribe))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .with_state(endpoint)
}

async fn execute(
    State(endpoint): State<Endpoint>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(span): Extension<Span>,
    request: HttpRequest,
) -> Response {
    let wish = match requested_timeout(request.headers()) {
        Ok(wish) => wish.filter(|wish| *wish < endpoint.request_timeout),
        Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
    };
    // One view of the rules for the whole request.
    let served = endpoint.served.load_full();
    let incoming = Incoming {
        headers: request.headers(),
        peer,
        connection_init: None,
    };
    let mut data = match session(&served, &endpoint.data, &incoming) {
        Ok(data) => data,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
    };
    let request = match <GraphQLRequest>::from_request(request, &()).await {
        Ok(request) => request,
        Err(rejection) => return rejection.into_response(),
    };
    let deadline = Instant::now() + wish.unwrap_or(endpoint.request_timeout);
    let options = CallOptions {
        deadline: Some(deadline),
        client_deadline: wish.is_some(),
        ..CallOptions::default()
    };
    data.insert(options);
    let mut request = request.into_inner();
    request.data = data;
    let answer = graphql::execute(&served.executable, &endpoint.execution, request, &span).await;
    match answer.executed {
        true => GraphQLResponse::from(answer.response).into_response(),
        false => Json(answer).into_response(),
    }
}

/// The timeout a client asks for: milliseconds, or a number with a unit such as `1s`.
fn requested_timeout(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    match text.parse().map(Duration::from_millis) {
        Ok(millis) => Ok(Some(millis)),
        Err(_) => humantime::parse_duration(text).map(Some).map_err(|_| {
            format!("{REQUEST_TIMEOUT}: write milliseconds, or a number with a unit such as 1s\n")
        }),
    }
}

async fn subscribe(
    State(endpoint): State<Endpoint>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(span): Extension<Span>,
    headers: HeaderMap,
    protocol: GraphQLProtocol,
    upgrade: WebSocketUpgrade,
) -> Response {
    let served = endpoint.served.load_full();
    upgrade
        .max_message_size(MAX_BODY)
        .max_frame_size(MAX_BODY)
        .protocols(ALL_WEBSOCKET_PROTOCOLS)
        .on_upgrade(move |socket| {
            let executor = SocketExecutor {
                served: endpoint.served,
                execution: endpoint.execution,
                connection: span,
            };
            GraphQLWebSocket::new(socket, executor, protocol)
                .on_connection_init(move |payload| {
                    let incoming = Incoming {
                        headers: &headers,
                        peer,
                        connection_init: Some(&payload),
                    };
                    let data = session(&served, &endpoint.data, &incoming);
                    std::future::ready(data.map_err(Error::new))
                })
                .serve()
        })
}

/// What resolvers and the engine have of a request, or of a connection: who the client is, what of its
/// headers upstreams are to have, and what the owner makes of it.
///
/// # Errors
/// What is wrong with the headers that a `connection_init` names, for its sender.
pub(crate) fn session(
    served: &Served,
    owners: &RequestData,
    incoming: &Incoming<'_>,
) -> Result<Data, String> {
    let mut data = Data::default();
    data.insert(client::identify(
        &served.clients,
        incoming.peer,
        incoming.headers,
    ));
    let headers = forwarded(incoming.headers, &served.forward);
    let headers = match incoming.connection_init {
        Some(payload) => with_payload(headers, &served.forward, payload)?,
        None => headers,
    };
    if !headers.is_empty() {
        data.insert(Forwarded(Arc::new(headers)));
    }
    owners.fill(incoming, &mut data);
    Ok(data)
}

/// `headers` with those that the keys of a `connection_init` name: a browser cannot set any for a
/// WebSocket. Those that the upgrade has stay: a proxy that has checked who somebody is says so there.
fn with_payload(
    mut headers: HeaderMap,
    forward: &[ForwardedHeader],
    payload: &serde_json::Value,
) -> Result<HeaderMap, String> {
    let upgrade = headers.clone();
    for (key, value) in payload.as_object().into_iter().flatten() {
        let wanted = forward.iter().map(ForwardedHeader::name);
        let wanted = wanted.filter(|name| key.eq_ignore_ascii_case(name.as_str()));
        for name in wanted.filter(|name| !upgrade.contains_key(*name)) {
            let Some(text) = value.as_str() else {
                continue;
            };
            let value = HeaderValue::try_from(text).ok();
            let Some(mut value) = value.filter(|_| text.len() <= MAX_HEADER) else {
                return Err(format!(
                    "connection_init: {key} is no header's value, or longer than {MAX_HEADER} bytes"
                ));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// Executes each operation of a connection with the schema that is effective when it starts: a
/// connection may outlive many.
#[derive(Clone)]
struct SocketExecutor {
    served: Arc<ArcSwap<Served>>,
    execution: Execution,
    /// The span of the request that the connection began with.
    connection: Span,
}

impl SocketExecutor {
    /// The span of one operation on the connection: in a trace of its own, because a connection
    /// may last for days, unless the client named one.
    fn operation(&self) -> Span {
        self.connection.follower("WebSocket /graphql", || {
            vec![KeyValue::new("http.route", "/graphql")]
        })
    }
}

impl Executor for SocketExecutor {
    async fn execute(&self, request: Request) -> Answer {
        let served = self.served.load_full();
        let span = self.operation();
        let answer = graphql::execute(&served.executable, &self.execution, request, &span);
        answer.await.response
    }

    fn execute_stream(
        &self,
        request: Request,
        session_data: Option<Arc<Data>>,
    ) -> BoxStream<'static, Answer> {
        let served = self.served.load_full();
        let span = self.operation();
        let executable = &served.executable;
        graphql::execute_stream(executable, &self.execution, request, session_data, &span).boxed()
    }
}

pub(super) async fn playground() -> Html<String> {
    let page = GraphiQLSource::build()
        .endpoint("/graphql")
        .subscription_endpoint("/graphql")
        .title("BFF playground")
        .finish();
    Html(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_in_milliseconds_or_with_a_unit_and_is_told_when_it_cannot_be_read() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_TIMEOUT, text.parse().unwrap());
            requested_timeout(&headers)
        };
        assert_eq!(asked("800"), Ok(Some(Duration::from_millis(800))));
        assert_eq!(asked("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(asked("soon").unwrap_err().contains("x-request-timeout"));
        assert!(asked("-1").is_err());
        assert_eq!(requested_timeout(&HeaderMap::new()), Ok(None));
    }
}
