//! This program's own entry in Consul.

use std::{net::SocketAddr, time::Duration};

use rand::Rng;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    Config,
    consul::{Consul, ConsulError},
};
use crate::types::OutageLog;

/// What is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Unique per instance: service, host and port. A restart at the same address replaces its
    /// predecessor instead of leaving it behind.
    pub(crate) id: String,
    /// Service name.
    pub(crate) service: String,
    /// Host that Consul and other programs reach this one at.
    pub(crate) host: String,
    /// Port of the same.
    pub(crate) port: u16,
    /// What Consul asks to know whether this instance is healthy.
    pub(crate) check_url: String,
    /// How often it asks.
    pub(crate) check_interval: Duration,
    /// How long an unhealthy entry is kept.
    pub(crate) critical_after: Duration,
}

impl Registration {
    /// The entry of a BFF that listens on `bound`, in TLS or plain.
    ///
    /// # Errors
    /// A sentence for the operator, when `bound` is a wildcard address and `consul.advertise`
    /// does not say where this program is reached.
    pub(crate) fn new(config: &Config, bound: SocketAddr, is_tls: bool) -> Result<Self, String> {
        let (host, port) = match &config.advertise {
            Some(text) => {
                let authority: http::uri::Authority = text
                    .parse()
                    .map_err(|_| format!("consul.advertise: `{text}` is no host:port"))?;
                let port = authority.port_u16().unwrap_or(bound.port());
                (authority.host().trim_matches(['[', ']']).to_owned(), port)
            }
            None if bound.ip().is_unspecified() => {
                return Err(format!(
                    "http.listen is {bound}, which is every address and so none that Consul could \
                     reach: set consul.advertise to host:port, or consul.register to false"
                ));
            }
            None => (bound.ip().to_string(), bound.port()),
        };
        let url_host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let scheme = if is_tls { "https" } else { "http" };
        let service = config.service.as_str();
        Ok(Self {
            id: format!("{service}-{host}-{port}").replace(':', "-"),
            service: service.to_owned(),
            check_url: format!("{scheme}://{url_host}:{port}/readyz"),
            host,
            port,
            check_interval: config.check_interval,
            critical_after: config.deregister_critical_after,
        })
    }

    /// How long Consul waits for the check's answer: never longer than its interval.
    pub(super) fn check_timeout(&self) -> Duration {
        self.check_interval.min(Duration::from_secs(2))
    }
}

/// A registration that is kept up until it is [ended](Registrar::deregister).
#[derive(Debug)]
pub(crate) struct Registrar {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Registrar {
    /// Registers now, and again whenever the agent turns out to have forgotten it; looks every
    /// `heartbeat`. An agent that is away is asked again, for ever.
    pub(crate) fn start(consul: Consul, registration: Registration, heartbeat: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keep(consul, registration, heartbeat, stopped));
        Self { stop, task }
    }

    /// Removes the entry. Takes at most as long as three requests to the agent may.
    pub(crate) async fn deregister(self) {
        // A task that is gone has nothing registered that it could remove.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn keep(
    consul: Consul,
    registration: Registration,
    heartbeat: Duration,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut outage = OutageLog::default();
    let mut registered = false;
    loop {
        // Not cancelled half-way: an entry made while we look away would never be removed.
        match ensure(&consul, &registration, registered).await {
            Ok(()) => {
                registered = true;
                outage.recovered(|| info!(id = registration.id, "the registration in Consul is kept up again"));
            }
            Err(error) => outage.failed(Instant::now(), || {
                warn!(id = registration.id, %error, "the registration in Consul cannot be kept up, trying again");
            }),
        }
        // Spread, so that a fleet started together does not ask together.
        let pause = heartbeat.mul_f64(rand::rng().random_range(0.8..=1.0));
        tokio::select! {
            _ = &mut stopped => break,
            () = sleep(pause) => {}
        }
    }
    match consul.deregister(&registration.id).await {
        Ok(()) => info!(id = registration.id, "deregistered"),
        Err(error) => warn!(
            id = registration.id, %error,
            "could not be deregistered, Consul removes the entry after its critical time"
        ),
    }
}

async fn ensure(
    consul: &Consul,
    registration: &Registration,
    registered: bool,
) -> Result<(), ConsulError> {
    // The first time in any case: an entry with our id may be a predecessor's, with its check.
    if registered && consul.is_registered(&registration.id).await? {
        return Ok(());
    }
    consul.register(registration).await?;
    info!(
        id = registration.id,
        check = registration.check_url,
        "registered"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_has_to_say_where_it_is_reached() {
        let bound = "0.0.0.0:8000".parse().unwrap();
        let error = Registration::new(&Config::default(), bound, false).unwrap_err();
        assert!(error.contains("consul.advertise"), "{error}");
        let config = Config {
            advertise: Some("bff.internal:80".to_owned()),
            ..Config::default()
        };
        let registration = Registration::new(&config, bound, false).unwrap();
        assert_eq!(registration.id, "bff-bff.internal-80");
        assert_eq!(registration.check_url, "http://bff.internal:80/readyz");
    }

    #[test]
    fn an_ipv6_address_gives_a_url_with_brackets_and_an_id_without_colons() {
        let registration =
            Registration::new(&Config::default(), "[::1]:8000".parse().unwrap(), false).unwrap();
        assert_eq!(registration.check_url, "http://[::1]:8000/readyz");
        assert_eq!(registration.id, "bff---1-8000");
    }
}
