//! Answers in gzip, for clients that take it (RFC 9110, 12.5.3).

use std::io::Write;

use axum::http::{HeaderMap, header::ACCEPT_ENCODING};
use flate2::{Compression, write::GzEncoder};

/// A smaller answer fits into a packet, and gains nothing.
pub(super) const WORTH_IT: usize = 1 << 10;
/// A larger one takes milliseconds, which others on the thread would wait for.
const AT_ONCE: usize = 32 << 10;

/// Whether a client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let (mut named, mut any) = (None, None);
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters
            .split(';')
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map(|(_, quality)| quality)
            .map_or(Some(1.0), |quality| quality.trim().parse::<f64>().ok());
        let taken = quality.is_some_and(|quality| quality > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => named = Some(taken),
            "*" => any = Some(taken),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

/// `body` in gzip; the body as it was if that does not make it smaller.
pub(super) async fn gzip(body: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
    if body.len() <= AT_ONCE {
        return pack(body);
    }
    let plain = body.clone();
    let packed = tokio::task::spawn_blocking(move || pack(body)).await;
    // The runtime ends.
    packed.unwrap_or(Err(plain))
}

fn pack(body: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let packed = encoder.write_all(&body).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) if packed.len() < body.len() => Ok(packed),
        // A Vec takes everything.
        Ok(_) | Err(_) => Err(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_what_it_names_and_nothing_that_it_excludes() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            takes_gzip(&headers)
        };
        for accept in [
            "gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, GZIP;q=0.8",
            "*",
        ] {
            assert!(of(accept), "{accept}");
        }
        for accept in [
            "",
            "identity",
            "gzip;q=0",
            "gzip; Q = 0",
            "*, gzip;q=0.0",
            "gzip;q=much",
            "x-gzip2",
        ] {
            assert!(!of(accept), "{accept}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
