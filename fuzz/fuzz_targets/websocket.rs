//! Messages of a client over a WebSocket, one in each line; behind a NUL, bytes that are no frames.

#![no_main]

use libfuzzer_sys::fuzz_target;

const UPGRADE: &str = "GET /graphql HTTP/1.1\r\nhost: bff\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       sec-websocket-protocol: graphql-transport-ws\r\n\r\n";

fuzz_target!(|said: &[u8]| {
    let mut parts = said.splitn(2, |byte| *byte == 0);
    let (messages, rest) = (parts.next().unwrap_or_default(), parts.next());
    let mut bytes = UPGRADE.as_bytes().to_vec();
    for message in messages.split(|byte| *byte == b'\n') {
        frame(message, &mut bytes);
    }
    bytes.extend_from_slice(rest.unwrap_or_default());
    bff_fuzz::Fuzzed::get().answers(&bytes);
});

/// A text frame, masked with zeros (RFC 6455, 5.2).
fn frame(message: &[u8], into: &mut Vec<u8>) {
    into.push(0x81);
    match message.len() {
        short @ ..126 => into.push(0x80 | short as u8),
        long => {
            into.push(0x80 | 126);
            into.extend_from_slice(&(long.min(65_535) as u16).to_be_bytes());
        }
    }
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(message);
}
