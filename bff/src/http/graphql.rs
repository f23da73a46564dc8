//! `/graphql` by POST and WebSocket, and the playground at `/`.

use async_graphql::http::{ALL_WEBSOCKET_PROTOCOLS, GraphiQLSource};
use async_graphql_axum::{GraphQLProtocol, GraphQLRequest, GraphQLResponse, GraphQLWebSocket};
use axum::{
    Router,
    extract::{State, WebSocketUpgrade},
    response::{Html, Response},
    routing::post,
};

use crate::graphql::Schema;

pub(super) fn routes(schema: Schema) -> Router {
    Router::new()
        .route("/graphql", post(execute).get(subscribe))
        .with_state(schema)
}

async fn execute(State(schema): State<Schema>, request: GraphQLRequest) -> GraphQLResponse {
    schema.execute(request.into_inner()).await.into()
}

async fn subscribe(
    State(schema): State<Schema>,
    protocol: GraphQLProtocol,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .protocols(ALL_WEBSOCKET_PROTOCOLS)
        .on_upgrade(move |socket| GraphQLWebSocket::new(socket, schema, protocol).serve())
}

pub(super) async fn playground() -> Html<String> {
    let page = GraphiQLSource::build()
        .endpoint("/graphql")
        .subscription_endpoint("/graphql")
        .title("BFF playground")
        .finish();
    Html(page)
}
