//! The greeter: `helloworld.Greeter`.

use futures_util::{Stream, StreamExt};
use http::Uri;
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};

use super::{CallOptions, Calls, Known, Outgoing, UpstreamError};
use crate::resilience::{Method, UpstreamService};

/// The greeter's description.
pub const KNOWN: Known = Known {
    name: "greeter",
    service: "greeter-srv",
};

/// Greeting twice greets no harder than greeting once.
const SAY_HELLO: Method = Method {
    idempotent: true,
    streaming: false,
};
const SAY_HELLO_STREAM_REPLY: Method = Method {
    idempotent: true,
    streaming: true,
};

/// The typed client of the greeter.
#[derive(Clone, Debug)]
pub struct Greeter {
    client: GreeterClient<UpstreamService>,
    calls: Calls,
}

impl Greeter {
    pub(super) fn new(service: UpstreamService, calls: Calls) -> Self {
        // The balancer decides where a call goes; the origin only fills the URI in.
        Self {
            client: GreeterClient::with_origin(service, Uri::from_static("http://greeter")),
            calls,
        }
    }

    /// One greeting for `name`.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer within the upstream's deadline.
    pub async fn say_hello(
        &self,
        name: String,
        options: CallOptions,
    ) -> Result<String, UpstreamError> {
        let message = HelloRequest { name };
        let Outgoing { request, mut call } =
            Outgoing::new(&self.calls, message, SAY_HELLO, options);
        match self.client.clone().say_hello(request).await {
            Ok(reply) => {
                call.answered();
                Ok(reply.into_inner().message)
            }
            Err(status) => Err(call.failed(&status)),
        }
    }

    /// A series of greetings for `name`, until the greeter ends it. Dropping the stream cancels
    /// the call.
    ///
    /// # Errors
    /// [`UpstreamError`] when the first greeting does not come within the upstream's deadline;
    /// the same as the last item when the stream breaks later.
    pub async fn greetings(
        &self,
        name: String,
        options: CallOptions,
    ) -> Result<impl Stream<Item = Result<String, UpstreamError>> + use<>, UpstreamError> {
        let message = HelloRequest { name };
        let Outgoing { request, mut call } =
            Outgoing::new(&self.calls, message, SAY_HELLO_STREAM_REPLY, options);
        match self.client.clone().say_hello_stream_reply(request).await {
            Ok(replies) => Ok(replies.into_inner().map(move |reply| match reply {
                Ok(reply) => {
                    call.answered();
                    Ok(reply.message)
                }
                Err(status) => Err(call.failed(&status)),
            })),
            Err(status) => Err(call.failed(&status)),
        }
    }
}
