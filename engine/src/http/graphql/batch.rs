//! Several operations in one request, as a list: what clients send that collect what their components ask for
//! (Apollo's `BatchHttpLink`). GraphQL over HTTP has no word on it; the answer is the list of their answers.

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    super::{Incoming, Served, parameters::Parameters},
    Endpoint, client_of, json,
    negotiate::Form,
    refusal::Refusal,
    send, session,
};
use crate::{
    call::CallOptions,
    graphql::{self, Completed, Takes},
    telemetry::trace::Span,
};

/// What all operations of a request share.
pub(super) struct Shared<'r> {
    pub(super) served: &'r Served,
    pub(super) options: CallOptions,
    pub(super) deadline: Instant,
    pub(super) span: &'r Span,
}

impl Endpoint {
    /// Executes `operations` at the same time and answers with the list of their answers.
    ///
    /// # Errors
    /// When there is not a place for each of them.
    pub(super) async fn execute_many(
        &self,
        operations: Vec<Parameters>,
        incoming: &Incoming<'_>,
        shared: &Shared<'_>,
        (form, gzip): (Form, bool),
    ) -> Result<Response, Refusal> {
        let Shared { served, span, .. } = shared;
        let mut executing = Vec::with_capacity(operations.len());
        for parameters in operations {
            let mut data = session(served, &self.data, incoming).map_err(Refusal::bad_request)?;
            let place = self.in_flight.take(client_of(&data))?;
            data.insert(shared.options.clone());
            let request = parameters.into_request(&self.persisted);
            executing.push(async move {
                let _place = place;
                let mut request = match request {
                    Ok(request) => request,
                    Err(wrong) => {
                        let error = wrong.code.error(wrong.to_string(), None);
                        return Completed::refused(vec![error]);
                    }
                };
                request.data = data;
                let (executable, execution) = (&served.executable, &self.execution);
                let takes = Takes::OneAnswer;
                graphql::execute(executable, execution, request, takes, shared.deadline, span).await
            });
        }
        let mut body = vec![b'['];
        let mut said = HeaderMap::new();
        for mut completed in join_all(executing).await {
            let headers = std::mem::take(&mut completed.response.http_headers);
            for (name, value) in &headers {
                said.append(name, value.clone());
            }
            if body.len() > 1 {
                body.push(b',');
            }
            let limits = &served.executable.limits;
            body.extend(json(completed, limits, &self.execution).await?);
        }
        body.push(b']');
        // Each says for itself how it went.
        Ok(send(body, StatusCode::OK, said, form, gzip).await)
    }
}
