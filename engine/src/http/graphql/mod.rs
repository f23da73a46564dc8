//! `/graphql` by POST and GET, also as events, and the door to WebSockets: GraphQL over HTTP, as the
//! specification of that name has it.

mod batch;
mod body;
mod compress;
mod events;
mod negotiate;
mod origin;
mod refusal;
mod session;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_graphql::Request;
use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Request as HttpRequest, State, ws::WebSocketUpgrade},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, UPGRADE, VARY},
        request,
    },
    response::Response,
    routing::any,
};
use opentelemetry::metrics::{Counter, Meter};
use tokio::time::Instant;

pub(crate) use self::origin::Origins;
pub(crate) use self::session::{client_of, session};
use self::{
    batch::Shared,
    negotiate::{Form, negotiate},
    refusal::Refusal,
};
use super::{
    Incoming, Lifecycle, Persisted, Proxies, RequestData, Served, SocketCounts,
    parameters::{Parameters, Sent, Wrong},
    websocket::Connection,
};
use crate::{
    call::CallOptions,
    graphql::{self, Completed, Executed, Execution, Limits, Takes},
    telemetry::trace::Span,
    types::{ClientKey, Fair, LONG, NotDone, Place, Turn},
};

/// How long a large answer waits for its turn to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// A client's own, smaller wish for a deadline.
const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// What requests are answered with.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) served: Arc<ArcSwap<Served>>,
    pub(super) execution: Execution,
    pub(super) data: RequestData,
    pub(super) request_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) lifecycle: Lifecycle,
    pub(super) sockets: SocketCounts,
    pub(super) proxies: Proxies,
    pub(super) origins: Origins,
    pub(super) in_flight: InFlight,
    pub(super) persisted: Persisted,
    /// Operations of one request.
    pub(super) max_batch: usize,
}

/// Places for requests that are executed at one time. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    places: Fair<ClientKey>,
    max: usize,
    shed: Counter<u64>,
}

impl InFlight {
    /// `max` places.
    pub(crate) fn new(max: usize, meter: &Meter) -> Self {
        Self {
            places: Fair::default(),
            max,
            shed: meter
                .u64_counter("bff.http.requests.shed")
                .with_description("Requests that were not executed because of http.max_in_flight, or of large ones that wait.")
                .build(),
        }
    }

    /// A place for a request of `client`'s, until it is dropped.
    pub(super) fn take(&self, client: Option<ClientKey>) -> Result<Place<ClientKey>, TooMany> {
        let place = self.places.take(self.max, client, Instant::now);
        place.ok_or_else(|| self.shed())
    }

    /// A request is not executed because there is too much else to do.
    fn shed(&self) -> TooMany {
        self.shed.add(1, &[]);
        TooMany
    }
}

/// There is no place for a request.
pub(super) struct TooMany;

impl TooMany {
    /// Why, for the client.
    pub(super) const PROBLEM: &str = "Too many requests are under way here: try again in a second.";
}

impl From<NotDone> for Refusal {
    fn from(_: NotDone) -> Self {
        let problem = "The request could not be read.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, problem)
    }
}

impl From<TooMany> for Refusal {
    fn from(_: TooMany) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, TooMany::PROBLEM)
    }
}

pub(super) fn routes(endpoint: Endpoint) -> Router {
    let cors = endpoint.origins.layer();
    let routes = Router::new()
        .route("/graphql", any(answer))
        .with_state(endpoint);
    match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
}

async fn answer(
    State(endpoint): State<Endpoint>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(span): Extension<Span>,
    request: HttpRequest,
) -> Response {
    let came = Instant::now();
    let (parts, body) = request.into_parts();
    let upgrade = parts.headers.get(UPGRADE).map(HeaderValue::as_bytes);
    // Clients that offer to go on in HTTP/2 send the header, too.
    let socket = upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"));
    if parts.method == Method::GET && socket {
        return endpoint.upgrade(parts, peer, span).await;
    }
    let form = negotiate(&parts.headers);
    let refused = match form {
        Some(form) => {
            let request = Arriving {
                parts: &parts,
                peer,
                came,
            };
            match endpoint.execute(request, body, form, &span).await {
                Ok(response) => return response,
                Err(refusal) => refusal,
            }
        }
        None => {
            body::drain(&parts.headers, body);
            let problem = "Accept application/graphql-response+json or application/json.";
            Refusal::new(StatusCode::NOT_ACCEPTABLE, problem)
        }
    };
    refused.into_response(form.unwrap_or(Form::Json))
}

/// The head of a request.
#[derive(Clone, Copy)]
struct Arriving<'r> {
    parts: &'r request::Parts,
    peer: SocketAddr,
    came: Instant,
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::bad_request(wrong.to_string()).with_code(wrong.code)
    }
}

impl Endpoint {
    async fn execute(
        &self,
        arriving: Arriving<'_>,
        body: Body,
        form: Form,
        span: &Span,
    ) -> Result<Response, Refusal> {
        let Arriving { parts, peer, came } = arriving;
        let headers = &parts.headers;
        let wish = requested_timeout(headers).map_err(Refusal::bad_request)?;
        let wish = wish.filter(|wish| *wish < self.request_timeout);
        let deadline = came + wish.unwrap_or(self.request_timeout);
        let takes = match parts.method {
            Method::POST if form == Form::Events => Takes::All,
            Method::POST => Takes::OneAnswer,
            Method::GET if origin::may_be_forged(headers, &self.origins) => {
                return Err(Refusal::new(StatusCode::FORBIDDEN, origin::FORGED));
            }
            Method::GET if form == Form::Events => Takes::Reads,
            Method::GET => Takes::Queries,
            _ => {
                let problem = "Send requests by POST, queries also by GET.";
                return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, problem));
            }
        };
        // One view of the rules for the whole request.
        let served = self.served.load_full();
        let incoming = Incoming {
            headers,
            peer,
            trusted: self.proxies.have(peer.ip()),
            connection_init: None,
        };
        let mut data = session(&served, &self.data, &incoming).map_err(Refusal::bad_request)?;
        let client = client_of(&data);
        let sent = match takes {
            Takes::Queries | Takes::Reads => {
                Sent::One(Parameters::of_url(parts.uri.query().unwrap_or_default())?)
            }
            _ => {
                let max = match form {
                    Form::Events => 0,
                    _ => self.max_batch,
                };
                let body = body::read(headers, body, deadline).await?;
                match body.len() {
                    ..LONG => Sent::of_json(&body, max)?,
                    _ => {
                        let turn = Turn::wait(client, deadline).await;
                        let turn = turn.ok_or_else(|| self.in_flight.shed())?;
                        turn.run(move || Sent::of_json(&body, max)).await??
                    }
                }
            }
        };
        let options = CallOptions {
            deadline: Some(deadline),
            client_deadline: wish.is_some(),
            ..CallOptions::default()
        };
        let gzip = compress::takes_gzip(headers);
        let parameters = match sent {
            Sent::One(parameters) => parameters,
            Sent::Many(operations) => {
                let shared = Shared {
                    served: &served,
                    options,
                    deadline,
                    span,
                };
                let form = (form, gzip);
                return self
                    .execute_many(operations, &incoming, &shared, form)
                    .await;
            }
        };
        let mut request: Request = parameters.into_request(&self.persisted)?;
        let place = self.in_flight.take(client)?;
        let (executable, execution) = (&served.executable, &self.execution);
        if form == Form::Events {
            let open = self.sockets.open(client).ok_or_else(|| {
                let problem =
                    "Too many operations with many answers are open here: end some first.";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, problem)
            })?;
            let session = Arc::new(data);
            let timeout = deadline.saturating_duration_since(Instant::now());
            let answers = graphql::execute_stream(
                executable, execution, request, takes, session, timeout, span,
            );
            return match answers.await {
                Ok(answers) => {
                    let (lifecycle, counts) = (self.lifecycle.clone(), self.sockets.clone());
                    // What is no subscription is a request to its end.
                    let place = (!answers.are_events()).then_some(place);
                    Ok(events::respond(answers, lifecycle, counts, (open, place)))
                }
                Err(refused) => {
                    let completed = Completed::refused(refused.0);
                    respond(completed, Form::Response, false, &served, execution).await
                }
            };
        }
        data.insert(options);
        request.data = data;
        let completed =
            graphql::execute(executable, execution, request, takes, deadline, span).await;
        respond(completed, form, gzip, &served, execution).await
    }

    async fn upgrade(self, mut parts: request::Parts, peer: SocketAddr, span: Span) -> Response {
        if !origin::is_own(&parts, peer, &self.origins) {
            let refusal = Refusal::new(StatusCode::FORBIDDEN, origin::FOREIGN);
            return refusal.into_response(Form::Json);
        }
        let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(rejection) => {
                let refusal = Refusal::new(rejection.status(), rejection.body_text());
                return refusal.into_response(Form::Json);
            }
        };
        let connection = Connection {
            served: self.served,
            execution: self.execution,
            data: self.data,
            lifecycle: self.lifecycle,
            counts: self.sockets,
            in_flight: self.in_flight,
            persisted: self.persisted,
            init_timeout: self.header_timeout,
            request_timeout: self.request_timeout,
            headers: parts.headers,
            peer,
            trusted: self.proxies.have(peer.ip()),
            span,
        };
        connection.upgrade(upgrade)
    }
}

/// The answer to an operation, in `form`.
async fn respond(
    mut completed: Completed,
    form: Form,
    gzip: bool,
    served: &Served,
    execution: &Execution,
) -> Result<Response, Refusal> {
    let executed = completed.executed;
    // What resolvers have said.
    let said = std::mem::take(&mut completed.response.http_headers);
    let limits = &served.executable.limits;
    let body = json(completed, limits, execution).await?;
    let status = match (executed, form) {
        (Executed::NotThisWay, _) => StatusCode::METHOD_NOT_ALLOWED,
        (Executed::Shed, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Executed::No, Form::Response) => StatusCode::BAD_REQUEST,
        (Executed::No | Executed::Yes, _) => StatusCode::OK,
    };
    let mut response = send(body, status, said, form, gzip).await;
    let headers = response.headers_mut();
    if executed == Executed::NotThisWay {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if executed == Executed::Shed {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// An answer as it is sent.
async fn json(
    completed: Completed,
    limits: &Limits,
    execution: &Execution,
) -> Result<Vec<u8>, Refusal> {
    let turn = match completed.size() {
        ..LONG => None,
        _ => Turn::wait(None, Instant::now() + WRITTEN_WITHIN).await,
    };
    let json = match turn {
        // It is executed, so it is answered, turn or no turn.
        None => completed.json(limits, execution),
        Some(turn) => {
            let (limits, execution) = (*limits, execution.clone());
            let written = turn.run(move || completed.json(&limits, &execution));
            written.await.map_err(|NotDone| Refusal::no_json())?
        }
    };
    json.map_err(|_| Refusal::no_json())
}

/// An answer's body and what its resolvers have said, in `form`.
async fn send(
    body: Vec<u8>,
    status: StatusCode,
    said: HeaderMap,
    form: Form,
    gzip: bool,
) -> Response {
    // Another client may take it otherwise; caches have to know.
    let varies = body.len() >= compress::WORTH_IT;
    let (body, packed) = match varies && gzip {
        true => match compress::gzip(body).await {
            Ok(packed) => (packed, true),
            Err(plain) => (plain, false),
        },
        false => (body, false),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = said;
    headers.insert(CONTENT_TYPE, form.content_type());
    if varies {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
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
