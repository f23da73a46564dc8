//! One attempt: a message there, a message or a stream of them back, within its time.
//!
//! It reads with tonic's call for server streams also where one message is expected: the one for
//! unary methods takes a second message for a success and loses the headers of an error.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, stream as streaming};
use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use tokio::time::Instant;
use tonic::{
    Extensions, Request, Status, Streaming,
    client::Grpc,
    codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use super::{
    super::{
        AttemptElapsed, BadReply, BoxFuture, Call, CallContext, CallError, Failed, Lost, Messages,
        RawMethod, Reply, ReplyBody, Retry, Timing, boxed, now, timeout_at,
    },
    Channel, Established,
    clean::Clean,
    status,
    streams::{Lease, Streams, no_further},
};

/// How many headers are added to those that a call has, so that their map grows once.
const OWN_HEADERS: usize = 8;
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How often a stream looks for another connection when the one that it was to go on had just ended.
const LOOKS: usize = 3;

/// Sends `call` over `connection` and reads the answer: all of it for a unary method, the first
/// message for a stream, which goes on a connection for streams. Ends within `timing`, whatever the peer does.
pub(crate) fn attempt<C: Channel>(
    connection: Arc<Established<C>>,
    call: Call,
    timing: Timing,
) -> BoxFuture<Result<Reply, Failed>> {
    let streams = connection.streams.as_ref();
    match streams.filter(|_| call.context.method.streaming) {
        Some(streams) => boxed(stream(Arc::clone(streams), connection, call, timing)),
        None => {
            connection.use_it();
            boxed(send(connection, call, timing, None))
        }
    }
}

/// Sends a call whose answer is a stream, beside the instance's `main` connection.
async fn stream<C: Channel>(
    streams: Arc<Streams<C>>,
    main: Arc<Established<C>>,
    call: Call,
    timing: Timing,
) -> Result<Reply, Failed> {
    let mut looks = 1..=LOOKS;
    loop {
        let place = timeout_at(timing.deadline, streams.place()).await;
        let place = place
            .unwrap_or_else(|_| Err(no_further("none came up in time")))
            .map_err(|error| Failed::new(error, &timing, now()))?;
        let place = Arc::new(place);
        let connection = Arc::clone(place.connection());
        let sent = send(
            Arc::clone(&connection),
            call.clone(),
            timing,
            Some(Arc::clone(&place)),
        )
        .await;
        match sent {
            // It is this connection that takes no more, and not the instance.
            Err(failed) if failed.outcome().retry == Retry::Transparent => {
                place.spent();
                looks.next();
                if looks.is_empty() {
                    return Err(failed);
                }
            }
            sent => {
                if connection.has_answered() {
                    main.answered();
                }
                return sent;
            }
        }
    }
}

/// Sends `call` over `connection`. A stream keeps its `place` to its end.
async fn send<C: Channel>(
    connection: Arc<Established<C>>,
    call: Call,
    timing: Timing,
    place: Option<Arc<Lease<C>>>,
) -> Result<Reply, Failed> {
    let method = call.context.method;
    let answer = timeout_at(timing.deadline, exchange(&connection, call, timing));
    let result = match answer.await {
        Ok(result) => result,
        Err(_) => Err(elapsed(&timing)),
    };
    if matches!(
        result,
        Ok(_) | Err(CallError::Peer { .. } | CallError::BadReply(_))
    ) {
        connection.answered();
    }
    let at = now();
    match result {
        Ok((first, None)) => match first.map(method.decode) {
            Some(Ok(message)) => Ok(Reply {
                at,
                body: ReplyBody::One(message),
            }),
            Some(Err(error)) => Err(undecodable(&error, &timing, at)),
            None => Err(Failed::new(BadReply::NoMessage, &timing, at)),
        },
        Ok((first, Some(rest))) => {
            let first = match first.map(method.decode).transpose() {
                Ok(first) => first,
                Err(error) => return Err(undecodable(&error, &timing, at)),
            };
            let on = (connection, place);
            Ok(Reply {
                at,
                body: ReplyBody::Many(Box::new(messages(first, rest, method, timing, on))),
            })
        }
        Err(error) => Err(Failed::new(error, &timing, at)),
    }
}

fn elapsed(timing: &Timing) -> CallError {
    let after = timing.deadline.saturating_duration_since(timing.began);
    AttemptElapsed { after }.into()
}

/// A connection that is lost is one failure, whoever was on it.
fn once<C>(mut error: CallError, connection: &Established<C>) -> CallError {
    if let CallError::Transport { lost, .. } = &mut error
        && *lost == Lost::Connection
        && !connection.lost_first()
    {
        *lost = Lost::Beside;
    }
    error
}

/// A call that was answered with headers is committed (gRPC A6): whatever the peer says then, it has looked
/// at it.
fn processed(mut error: CallError) -> CallError {
    if let CallError::Transport { lost, .. } = &mut error
        && matches!(lost, Lost::Unsent | Lost::Refused)
    {
        *lost = Lost::InFlight;
    }
    error
}

fn undecodable(error: &prost::DecodeError, timing: &Timing, at: Instant) -> Failed {
    Failed::new(BadReply::Undecodable(error.to_string()), timing, at)
}

/// The first message, if there is one, and the rest of a stream.
type Answer = (Option<Bytes>, Option<Streaming<Bytes>>);

async fn exchange<C: Channel>(
    connection: &Established<C>,
    call: Call,
    timing: Timing,
) -> Result<Answer, CallError> {
    let Call {
        context,
        mut headers,
        ..
    } = call;
    let method = context.method;
    headers.reserve(OWN_HEADERS);
    let mut metadata = MetadataMap::from_headers(headers);
    // Servers hold a whole stream to what is announced, and only its first message is meant.
    if !method.streaming {
        let left = timing.deadline.saturating_duration_since(timing.began);
        metadata.as_mut().insert(GRPC_TIMEOUT, announced(left));
    }
    let mut grpc = Grpc::new(Clean(connection.channel.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(context.config.max_message.as_u64() as usize);
    let translated = |status| once(status::translate(status, || elapsed(&timing)), connection);
    grpc.ready()
        .await
        .map_err(|error| translated(Status::from_error(error)))?;
    let codec = BytesCodec {
        message: context.message.len(),
    };
    let request = Request::from_parts(metadata, Extensions::default(), context);
    let path = PathAndQuery::from_static(method.path);
    let answer = grpc.server_streaming(request, path, codec).await;
    let mut stream = answer.map_err(translated)?.into_inner();
    let translated = |status| processed(translated(status));
    let first = next(&mut stream).await.map_err(translated)?;
    if method.streaming {
        return Ok((first, Some(stream)));
    }
    let only = first.ok_or(BadReply::NoMessage)?;
    match next(&mut stream).await.map_err(translated)? {
        None => Ok((Some(only), None)),
        Some(_) => Err(BadReply::ManyMessages.into()),
    }
}

/// The next message. Tonic says only at the poll behind the last one that a message was cut off.
async fn next(stream: &mut Streaming<Bytes>) -> Result<Option<Bytes>, Status> {
    match stream.message().await? {
        None => stream.message().await,
        message => Ok(message),
    }
}

/// The rest of a stream, which ends with its first error: tonic would go on behind it.
fn messages<C: Channel>(
    first: Option<super::super::Decoded>,
    rest: Streaming<Bytes>,
    method: &'static RawMethod,
    timing: Timing,
    on: (Arc<Established<C>>, Option<Arc<Lease<C>>>),
) -> Messages {
    // What comes later is not held to the first message's deadline.
    let timing = Timing {
        deadline: timing.deadline + std::time::Duration::from_secs(86_400),
        hurried: false,
        ..timing
    };
    let rest = streaming::unfold(Some((rest, on)), move |state| async move {
        let (mut rest, on) = state?;
        let failed = match next(&mut rest).await {
            Ok(None) => return None,
            Ok(Some(bytes)) => match (method.decode)(bytes) {
                Ok(message) => return Some((Ok(message), Some((rest, on)))),
                Err(error) => undecodable(&error, &timing, now()),
            },
            Err(status) => {
                let error = status::translate(status, || elapsed(&timing));
                Failed::new(processed(once(error, &on.0)), &timing, now())
            }
        };
        Some((Err(failed), None))
    });
    Messages::new(first, rest.boxed())
}

/// What is left, as `grpc-timeout` has it: at most eight digits, rounded down so that the peer gives
/// up first.
fn announced(left: std::time::Duration) -> HeaderValue {
    let (number, unit) = match left.as_micros() {
        micros @ 0..=99_999_999 => (micros as u32, b'u'),
        micros => ((micros / 1000).min(99_999_999) as u32, b'm'),
    };
    let mut text = [0; 9];
    let mut place = text.len() - 1;
    text[place] = unit;
    let mut rest = number;
    loop {
        place -= 1;
        text[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 || place == 0 {
            break;
        }
    }
    // Digits and a letter are always a header's value.
    let mut value =
        HeaderValue::from_bytes(&text[place..]).unwrap_or(HeaderValue::from_static("0u"));
    // A number that never repeats is not worth a place in the connection's header table.
    value.set_sensitive(true);
    value
}

/// Puts an encoded message in, takes encoded messages out.
struct BytesCodec {
    /// Bytes of the request.
    message: usize,
}

/// Bytes of the buffer that an answer begins to be read into; it grows as messages need.
const READ_BUFFER: usize = 512;
/// A compression flag and a length stand before each message.
const FRAME_HEADER: usize = 5;

impl Codec for BytesCodec {
    type Encode = Arc<CallContext>;
    type Decode = Bytes;
    type Encoder = BytesEncoder;
    type Decoder = BytesDecoder;

    fn encoder(&mut self) -> BytesEncoder {
        BytesEncoder(self.message + FRAME_HEADER)
    }

    fn decoder(&mut self) -> BytesDecoder {
        BytesDecoder
    }
}

struct BytesEncoder(usize);

impl Encoder for BytesEncoder {
    type Item = Arc<CallContext>;
    type Error = Status;

    fn encode(&mut self, call: Arc<CallContext>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&call.message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.0, self.0)
    }
}

struct BytesDecoder;

impl Decoder for BytesDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(READ_BUFFER, READ_BUFFER)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn grpc_timeout_has_at_most_eight_digits_and_is_rounded_down() {
        for (left, text) in [
            (Duration::from_micros(1_999_999), "1999999u"),
            (Duration::from_nanos(1500), "1u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(u64::from(u32::MAX)), "99999999m"),
            (Duration::ZERO, "0u"),
        ] {
            assert_eq!(announced(left).to_str().unwrap(), text);
        }
    }
}
