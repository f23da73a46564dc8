//! `[nacos]`.

use std::{fmt, time::Duration};

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::types::{Secret, secs, within};

/// The port of a Nacos server whose address names none.
const DEFAULT_PORT: u16 = 8848;

/// How far above a server's port its gRPC port is.
const GRPC_OFFSET: u16 = 1000;

/// The configuration centre whose document is followed. Without this section there is none.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `host:port`; several, separated by commas, are the nodes of one cluster. The gRPC port is
    /// a thousand above it, as Nacos has it.
    #[garde(custom(addresses(self.grpc_port)))]
    pub(crate) server: String,
    /// Another gRPC port, where something in between maps ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) grpc_port: Option<u16>,
    /// The namespace's id; empty is the public one.
    #[garde(length(max = 128))]
    pub(crate) namespace: String,
    /// The document's group.
    #[garde(length(min = 1, max = 128))]
    pub(crate) group: String,
    /// The document's name.
    #[garde(length(min = 1, max = 256))]
    pub(crate) data_id: String,
    /// Who asks, if the server wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(both_or_neither(&self.password)))]
    pub(crate) username: Option<String>,
    /// The password of `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) password: Option<Secret>,
    /// How often the document is fetched in any case, in case word of a change got lost.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(1)..=secs(3600))))]
    pub(crate) reconcile: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: format!("127.0.0.1:{DEFAULT_PORT}"),
            grpc_port: None,
            namespace: String::new(),
            group: "DEFAULT_GROUP".to_owned(),
            data_id: "bff.toml".to_owned(),
            username: None,
            password: None,
            reconcile: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The document as messages name it.
    pub(crate) fn document(&self) -> String {
        format!("nacos {self}")
    }
}

impl Config {
    /// The addresses, each with its port: what is missing the client would take from a variable.
    pub(super) fn servers(&self) -> String {
        let full = self.server.split(',').map(|address| {
            let address = address.trim();
            match address.parse::<http::uri::Authority>() {
                Ok(authority) if authority.port().is_none() => format!("{address}:{DEFAULT_PORT}"),
                _ => address.to_owned(),
            }
        });
        full.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}/{}", self.group, self.data_id)
    }
}

fn addresses(grpc_port: Option<u16>) -> impl FnOnce(&str, &()) -> garde::Result {
    move |server, ()| {
        if server.contains('@') {
            return Err(garde::Error::new("carries a user name; set `username`"));
        }
        for address in server.split(',').map(str::trim) {
            let authority: Option<http::uri::Authority> = address.parse().ok();
            let Some(authority) = authority.filter(|authority| !authority.host().is_empty()) else {
                return Err(garde::Error::new(format!(
                    "`{address}` is no address; write it like 127.0.0.1:{DEFAULT_PORT}, without a \
                     scheme"
                )));
            };
            let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
            if grpc_port.is_none() && port.checked_add(GRPC_OFFSET).is_none() {
                return Err(garde::Error::new(format!(
                    "`{address}` has no port a thousand above it; set `grpc_port`"
                )));
            }
        }
        Ok(())
    }
}

fn both_or_neither(
    password: &Option<Secret>,
) -> impl FnOnce(&Option<String>, &()) -> garde::Result + '_ {
    move |username, ()| match username.is_some() == password.is_some() {
        true => Ok(()),
        false => Err(garde::Error::new(
            "set `username` and `password`, or neither",
        )),
    }
}
