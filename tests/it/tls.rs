//! `[http.tls]`: the public listener in TLS.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::interval,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::{System, dev, soon};

const NAME: &str = "bff.example";

/// A certificate and its key, in files.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> (Self, CertificateDer<'static>) {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let certificate = files.renew();
        (files, certificate)
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("tls.key")
    }

    /// Puts another certificate and its key there as Kubernetes does: the files are links through a link to a
    /// folder, and it is that one which changes.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let folder = tempfile::tempdir_in(&self.dir).unwrap().keep();
        fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        let (data, next) = (self.dir.path().join("..data"), folder.join("next"));
        symlink(&folder, &next).unwrap();
        fs::rename(next, data).unwrap();
        for name in ["tls.crt", "tls.key"] {
            let file = self.dir.path().join(name);
            if !file.is_symlink() {
                symlink(Path::new("..data").join(name), file).unwrap();
            }
        }
        made.cert.der().clone()
    }

    async fn system(&self) -> System {
        System::with(1, |bff| {
            bff.set("http.tls.cert_file", self.cert().display())
                .set("http.tls.key_file", self.key().display())
                .set("http.header_timeout", "500ms")
        })
        .await
    }
}

/// A connection of a client that trusts nothing but `root`.
async fn connect(
    addr: SocketAddr,
    root: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(addr).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// What is answered to a greeting asked for over HTTP/1.1.
async fn greets(mut stream: TlsStream<TcpStream>) -> Value {
    let body = r#"{"query":"{ hello { message } }"}"#;
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_and_wss_are_spoken_with_the_certificate_that_is_there() {
    let (files, root) = Files::new();
    let system = files.system().await;
    let addr = system.bff.addr();
    let stream = connect(addr, &root, &[b"http/1.1"]).await.unwrap();
    let answer = greets(stream).await;
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    // What clients want most is taken.
    let stream = connect(addr, &root, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::get(format!("https://{NAME}/livez"));
    let (answer, _) = requests
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    drop(requests);
    soon(driven).await.unwrap().unwrap();
    // A page of this origin opens a socket.
    let stream = connect(addr, &root, &[]).await.unwrap();
    let mut request = format!("wss://{NAME}/graphql")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("origin", format!("https://{NAME}").parse().unwrap());
    let protocol = "graphql-transport-ws".parse().unwrap();
    headers.insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    use futures_util::{SinkExt, StreamExt};
    let init = json!({ "type": "connection_init" }).to_string();
    socket.send(Message::text(init)).await.unwrap();
    let acknowledged = soon(socket.next()).await.unwrap().unwrap();
    assert!(acknowledged.to_string().contains("connection_ack"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_is_used_and_one_that_is_broken_changes_nothing() {
    let (files, old) = Files::new();
    let system = files.system().await;
    let addr = system.bff.addr();
    fs::write(files.cert(), "no certificate").unwrap();
    system
        .bff
        .wait_page("/metrics", |_, page| {
            page.contains("bff_http_tls_errors_total 1")
        })
        .await;
    greets(connect(addr, &old, &[]).await.unwrap()).await;
    let new = files.renew();
    let mut pace = interval(Duration::from_millis(50));
    let stream = soon(async {
        loop {
            if let Ok(stream) = connect(addr, &new, &[]).await {
                return stream;
            }
            pace.tick().await;
        }
    })
    .await;
    greets(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgets_the_s_is_told_so_and_who_does_not_greet_is_closed() {
    let (files, root) = Files::new();
    let system = files.system().await;
    let answer = reqwest::get(system.bff.url("/livez")).await.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("write https://"), "{text}");
    let mut silent = Vec::new();
    for (said, leaves) in [
        (b"".as_slice(), false),
        (b"\x16\x03\x01\x02\x00", false),
        // One that ends in the middle of its greeting.
        (b"\x16\x03\x01\x02\x00", true),
    ] {
        let mut socket = TcpStream::connect(system.bff.addr()).await.unwrap();
        socket.write_all(said).await.unwrap();
        if leaves {
            socket.shutdown().await.unwrap();
        }
        silent.push(socket);
    }
    // Nobody waits for them.
    let stream = connect(system.bff.addr(), &root, &[]).await.unwrap();
    greets(stream).await;
    for mut socket in silent {
        let mut rest = Vec::new();
        // An end, or a reset of what was not read.
        let _ = soon(socket.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_none_keeps_it_from_starting_and_is_named() {
    let (files, _) = Files::new();
    let (other, _) = Files::new();
    let empty = files.dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let nowhere = PathBuf::from("/nowhere.pem");
    for (cert, key, words) in [
        (
            nowhere.clone(),
            files.key(),
            "http.tls.cert_file: /nowhere.pem",
        ),
        (empty.clone(), files.key(), "there is no certificate in it"),
        (files.cert(), nowhere, "http.tls.key_file: /nowhere.pem"),
        (files.cert(), empty, "there is no private key in it"),
        (files.cert(), other.key(), "http.tls.key_file"),
    ] {
        let run = tokio::process::Command::new(dev())
            .args(["bff", "run", "--listen=127.0.0.1:0", "--admin=none"])
            .arg("--set=consul.register=false")
            .arg(format!("--set=http.tls.cert_file={}", cert.display()))
            .arg(format!("--set=http.tls.key_file={}", key.display()))
            .output()
            .await
            .unwrap();
        assert!(!run.status.success());
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(error.contains(words), "{words}: {error}");
    }
}
