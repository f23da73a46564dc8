//! Reads the body of a request, within its limits.

use std::{io::Read, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    },
};
use bytes::{Buf, BufMut, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::{negotiate::is_utf8, refusal::Refusal};

/// Bytes of a request's body, inflated; queries of people and programs are a hundredth of it.
pub(super) const MAX_BODY: usize = 1 << 20;

/// So much more of a body is read that is too large, and for so long: who sends it reads the answer only
/// when it has sent it all.
const DRAINED: usize = 32 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(10);

/// How the body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    Not,
    Gzip,
}

/// Reads `body`, which has to be JSON, until `deadline`.
///
/// # Errors
/// 415 for what is none, 413 for what is too large, 408 for what does not come, 400 for what is no gzip.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Result<Bytes, Refusal> {
    let packed = match checked(headers) {
        Ok(packed) => packed,
        Err(refusal) => {
            drain(headers, body);
            return Err(refusal);
        }
    };
    let whole = timeout_at(deadline, collect(headers, body)).await;
    let whole = whole.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "The body of the request did not come in time.",
        )
    })??;
    match packed {
        Packed::Not => Ok(whole),
        Packed::Gzip => inflate(&whole),
    }
}

fn too_large() -> Refusal {
    let problem = format!("The body of a request has at most {MAX_BODY} bytes.");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, problem)
}

/// What can be said before a byte of the body has come.
fn checked(headers: &HeaderMap) -> Result<Packed, Refusal> {
    let unsupported = |problem| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem);
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let json = "Send JSON, with the header Content-Type: application/json.";
    // Anything else a browser would send for any page, with its user's cookies.
    let content_type = text(CONTENT_TYPE).ok_or_else(|| unsupported(json))?;
    let mut parts = content_type.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    if !name.eq_ignore_ascii_case("application/json") {
        return Err(unsupported(json));
    }
    let charset = parts
        .filter_map(|part| part.split_once('='))
        .find_map(|(name, value)| {
            let is = name.trim().eq_ignore_ascii_case("charset");
            is.then(|| value.trim().trim_matches('"'))
        });
    if charset.is_some_and(|charset| !is_utf8(charset)) {
        return Err(unsupported("Send JSON in UTF-8."));
    }
    let packed = match text(CONTENT_ENCODING) {
        None => Packed::Not,
        Some(name) if name.eq_ignore_ascii_case("identity") => Packed::Not,
        Some(name) if name.eq_ignore_ascii_case("gzip") => Packed::Gzip,
        Some(_) => return Err(unsupported("Content-Encoding may be gzip, or none.")),
    };
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length.is_some_and(|length| length > MAX_BODY as u64) {
        true => Err(too_large()),
        false => Ok(packed),
    }
}

async fn collect(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    let mut only: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Refusal::bad_request("The body of the request broke off."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = whole.len() + only.as_ref().map_or(0, Bytes::len) + data.len();
        if length > MAX_BODY {
            drain(headers, body);
            return Err(too_large());
        }
        // Most bodies come in one piece, which needs no copy.
        match only.take() {
            None if whole.is_empty() => only = Some(data),
            first => {
                if let Some(first) = first {
                    whole.put(first);
                }
                whole.put(data);
            }
        }
    }
    Ok(only.unwrap_or_else(|| whole.freeze()))
}

fn inflate(packed: &[u8]) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::new();
    let decoder = GzDecoder::new(packed.reader());
    let read = decoder.take(MAX_BODY as u64 + 1).read_to_end(&mut inflated);
    match read {
        Ok(length) if length > MAX_BODY => Err(too_large()),
        Ok(_) => Ok(inflated.into()),
        Err(_) => Err(Refusal::bad_request("The body of the request is no gzip.")),
    }
}

/// Reads what is left of a body that is not wanted, beside the answer that says so.
pub(super) fn drain(headers: &HeaderMap, mut body: Body) {
    // Who has asked first sends nothing.
    if headers.contains_key(EXPECT) {
        return;
    }
    tokio::spawn(async move {
        let reading = async {
            let mut left = DRAINED;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Whether it came to its end or not.
        let _ = timeout(DRAINED_FOR, reading).await;
    });
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::{HeaderName, HeaderValue};
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = list.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    async fn read_all(list: &[(HeaderName, &str)], body: Body) -> Result<Bytes, StatusCode> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let read = read(&headers(list), body, deadline).await;
        read.map_err(|refusal| refusal.status)
    }

    const JSON: (HeaderName, &str) = (CONTENT_TYPE, "application/json");

    #[tokio::test]
    async fn only_json_in_utf_8_is_read() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            let read = read_all(&[(CONTENT_TYPE, good)], Body::from("{}")).await;
            assert_eq!(read.unwrap(), "{}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "application/graphql",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            let read = read_all(&[(CONTENT_TYPE, bad)], Body::from("{}")).await;
            assert_eq!(read, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{bad}");
        }
        let none = read_all(&[], Body::from("{}")).await;
        assert_eq!(none, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }

    #[tokio::test]
    async fn gzip_is_inflated_within_the_limit() {
        let gzip = |data: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            Body::from(encoder.finish().unwrap())
        };
        let packed = [JSON, (CONTENT_ENCODING, "gzip")];
        assert_eq!(read_all(&packed, gzip(b"{}")).await.unwrap(), "{}");
        let bomb = gzip(&vec![b' '; 10 * MAX_BODY]);
        assert_eq!(
            read_all(&packed, bomb).await,
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
        let rubbish = read_all(&packed, Body::from("{}")).await;
        assert_eq!(rubbish, Err(StatusCode::BAD_REQUEST));
        let other = [JSON, (CONTENT_ENCODING, "br")];
        let other = read_all(&other, Body::from("{}")).await;
        assert_eq!(other, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }

    #[tokio::test]
    async fn a_body_is_as_large_as_it_may_be_in_however_many_pieces_and_no_larger() {
        let pieces = |count: usize, size: usize| {
            let piece = move |_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; size]));
            Body::from_stream(futures_util::stream::iter((0..count).map(piece)))
        };
        let whole = read_all(&[JSON], pieces(1024, 1024)).await.unwrap();
        assert_eq!(whole.len(), MAX_BODY);
        let more = read_all(&[JSON], pieces(1025, 1024)).await;
        assert_eq!(more, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let said = [JSON, (CONTENT_LENGTH, "10000000")];
        let said = read_all(&said, pieces(1, 1)).await;
        assert_eq!(said, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(
            read_all(&[JSON], never).await,
            Err(StatusCode::REQUEST_TIMEOUT)
        );
    }
}
