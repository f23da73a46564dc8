//! `[http.tls]`: connections in TLS, by a certificate that is read again when it changes.

use std::{io, path::PathBuf, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use garde::Validate;
use opentelemetry::metrics::Meter;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use super::socket::Socket;
use crate::types::WatchedFiles;

/// What is spoken inside, dearest first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a client reads that has forgotten the S of HTTPS.
const NOT_PLAIN: &str = "This port speaks HTTPS: write https:// in the address.\n";

/// `[http.tls]`.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A file with the certificate and those between it and its root, in PEM. Read again when it or the key
    /// changes.
    #[garde(skip)]
    pub(crate) cert_file: PathBuf,
    /// A file with the certificate's private key, in PEM.
    #[garde(skip)]
    pub(crate) key_file: PathBuf,
}

impl Config {
    /// What is offered to clients.
    ///
    /// # Errors
    /// When a file is not there, is no PEM, or the two do not belong together; the error names the file.
    fn read(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let cert = || format!("http.tls.cert_file: {}", self.cert_file.display());
        let key = || format!("http.tls.key_file: {}", self.key_file.display());
        let chain = CertificateDer::pem_file_iter(&self.cert_file).with_context(cert)?;
        let chain: Vec<_> = chain.collect::<Result<_, _>>().with_context(cert)?;
        if chain.is_empty() {
            return Err(anyhow::anyhow!("there is no certificate in it").context(cert()));
        }
        let private = PrivateKeyDer::from_pem_file(&self.key_file).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                anyhow::anyhow!("there is no private key in it, or an encrypted one")
            }
            error => error.into(),
        });
        let private = private.with_context(key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| format!("{}, {}", cert(), key()))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// What makes TLS of a client's socket. Clones share the certificate.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
    _watching: Arc<AbortOnDropHandle<()>>,
}

impl Tls {
    /// That of `config`, which is followed from now on.
    ///
    /// # Errors
    /// When there is no such certificate.
    pub(crate) fn new(config: &Config, meter: &Meter) -> anyhow::Result<Self> {
        let mut files = WatchedFiles::new([config.cert_file.clone(), config.key_file.clone()]);
        let current = Arc::new(ArcSwap::new(config.read()?));
        let failures = meter
            .u64_counter("bff.http.tls.errors")
            .with_description("Certificates that could not be read; the one before stays.")
            .build();
        let (kept, config) = (Arc::clone(&current), config.clone());
        let watching = tokio::spawn(async move {
            loop {
                files.changed().await;
                match config.read() {
                    Ok(read) => {
                        info!("new connections get another certificate");
                        kept.store(read);
                    }
                    // One of the two may be written a moment before the other.
                    Err(problem) => {
                        failures.add(1, &[]);
                        error!(
                            problem = format!("{problem:#}"),
                            "the certificate before stays"
                        );
                    }
                }
            }
        });
        Ok(Self {
            current,
            _watching: Arc::new(AbortOnDropHandle::new(watching)),
        })
    }

    /// Does the handshake with the client of `socket`. One that speaks plain HTTP is told so.
    ///
    /// # Errors
    /// When it does not agree.
    pub(super) async fn handshake(&self, mut socket: Socket) -> io::Result<TlsStream<Socket>> {
        // A handshake begins with 22, a request with a letter.
        if socket.first_byte().await?.is_ascii_uppercase() {
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
                 content-length: {}\r\n\r\n{NOT_PLAIN}",
                NOT_PLAIN.len()
            );
            socket.write_all(answer.as_bytes()).await?;
            socket.shutdown().await?;
            return Err(io::Error::other("it speaks plain HTTP"));
        }
        TlsAcceptor::from(self.current.load_full())
            .accept(socket)
            .await
    }
}
