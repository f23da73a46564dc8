//! What is seen of every request: its server span, its duration, and the trace in its answer.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{Method, StatusCode, Version, header},
    middleware::Next,
    response::Response,
};
use opentelemetry::{KeyValue, metrics::Histogram};
use tokio::time::Instant;

use super::Proxies;
use crate::telemetry::trace::{Span, Tracing};

/// Where requests are observed.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) tracing: Tracing,
    pub(super) durations: Arc<Histogram<f64>>,
    pub(super) proxies: Proxies,
}

/// The route whose requests are traced; the others are asked by machines, all the time.
const TRACED: &str = "/graphql";

/// Around every route. Names follow OpenTelemetry's HTTP conventions.
pub(super) async fn observe(
    State(observed): State<Observed>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = match route.as_ref().map(MatchedPath::as_str) {
        Some(TRACED) => {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
            let trusted = peer.is_some_and(|ConnectInfo(peer)| observed.proxies.have(peer.ip()));
            observed.tracing.server(request.headers(), trusted, || {
                (format!("{method} {TRACED}"), attributes(&request, method))
            })
        }
        _ => Span::default(),
    };
    let mut pending = Pending {
        span: span.clone(),
        durations: observed.durations,
        started: Instant::now(),
        method,
        route,
        status: None,
    };
    request.extensions_mut().insert(span.clone());
    let mut response = span.within(next.run(request)).await;
    span.inject_response(response.headers_mut());
    pending.status = Some(response.status());
    response
}

/// A request under way. It is measured when it is dropped: answered, or left by its client.
struct Pending {
    span: Span,
    durations: Arc<Histogram<f64>>,
    started: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    status: Option<StatusCode>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut labels = Vec::with_capacity(5);
        labels.push(KeyValue::new("http.request.method", self.method));
        labels.push(KeyValue::new("url.scheme", "http"));
        // A path that no route has is the client's own text.
        if let Some(route) = self.route.take() {
            labels.push(KeyValue::new("http.route", route.as_str().to_owned()));
        }
        match self.status {
            Some(status) => {
                let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
                self.span
                    .set("http.response.status_code", i64::from(status.as_u16()));
                labels.push(code);
                if status.is_server_error() {
                    self.span.fail("the server failed");
                    labels.push(KeyValue::new("error.type", status.as_str().to_owned()));
                }
            }
            None => {
                self.span.fail("the client left before the answer");
                labels.push(KeyValue::new("error.type", "cancelled"));
            }
        }
        self.span.end();
        self.durations
            .record(self.started.elapsed().as_secs_f64(), &labels);
    }
}

fn attributes(request: &Request, method: &'static str) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.route", TRACED),
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
    attributes
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
