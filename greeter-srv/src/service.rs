//! The greetings themselves.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use proto::helloworld::{HelloReply, HelloRequest, greeter_server::Greeter};
use rand::Rng;
use tonic::{Code, Request, Response, Status};

use crate::{Options, pause};

/// The greeter, as fast and as reliable as its options say.
#[derive(Clone, Debug)]
pub(crate) struct GreeterService {
    latency: Duration,
    error_ratio: f64,
    error_code: Code,
    greetings: u32,
    greeting_interval: Duration,
}

impl GreeterService {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            latency: options.latency,
            error_ratio: options.error_ratio,
            error_code: options.error_code,
            greetings: options.greetings,
            greeting_interval: options.greeting_interval,
        }
    }

    async fn spar(&self) -> Result<(), Status> {
        pause(self.latency).await;
        match rand::rng().random::<f64>() < self.error_ratio {
            true => Err(Status::new(
                self.error_code,
                "failing as --error-ratio says",
            )),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Greeter for GreeterService {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        self.spar().await?;
        let name = request.into_inner().name;
        Ok(Response::new(HelloReply {
            message: format!("Hello, {name}!"),
        }))
    }

    type SayHelloStreamReplyStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        self.spar().await?;
        let name = request.into_inner().name;
        let (count, interval) = (self.greetings, self.greeting_interval);
        let replies = stream::iter(1..=count).then(move |n| {
            let message = format!("Hello, {name}! ({n} of {count})");
            async move {
                if n > 1 {
                    pause(interval).await;
                }
                Ok(HelloReply { message })
            }
        });
        Ok(Response::new(replies.boxed()))
    }
}
