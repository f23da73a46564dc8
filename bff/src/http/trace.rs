//! What is seen of every request: its server span, its duration, and the trace in its answer.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{Method, Version, header},
    middleware::Next,
    response::Response,
};
use opentelemetry::{KeyValue, metrics::Histogram};
use tokio::time::Instant;

use crate::telemetry::trace::{Span, Tracing};

/// Where requests are observed.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) tracing: Tracing,
    pub(super) durations: Arc<Histogram<f64>>,
}

/// The route whose requests are traced; the others are asked by machines, all the time.
const TRACED: &str = "/graphql";

/// Around every route. Names follow OpenTelemetry's HTTP conventions.
pub(super) async fn observe(
    State(observed): State<Observed>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let span = match route.as_deref() {
        Some(route @ TRACED) => server_span(&observed.tracing, &request, method, route),
        _ => Span::default(),
    };
    request.extensions_mut().insert(span.clone());
    let mut response = span.within(next.run(request)).await;
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail("the server failed");
    }
    span.tell(response.headers_mut());
    span.end();
    let labels = [
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        // A path that no route has is the client's own text.
        KeyValue::new("http.route", route.unwrap_or_default()),
    ];
    observed
        .durations
        .record(started.elapsed().as_secs_f64(), &labels);
    response
}

fn server_span(tracing: &Tracing, request: &Request, method: &'static str, route: &str) -> Span {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.route", route.to_owned()),
        KeyValue::new("url.path", request.uri().path().to_owned()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new(
            "network.protocol.version",
            match request.version() {
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
        ),
    ];
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        attributes.push(KeyValue::new("client.address", peer.ip().to_string()));
    }
    if let Some(agent) = request.headers().get(header::USER_AGENT)
        && let Ok(agent) = agent.to_str()
    {
        attributes.push(KeyValue::new("user_agent.original", agent.to_owned()));
    }
    let name = format!("{method} {route}");
    tracing.server(name, request.headers(), attributes)
}

/// The methods of HTTP; any other word is a client's own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}
