//! `dev`: a made-up service for every upstream that nobody runs.

use std::time::Duration;

use crate::{
    app::Bff,
    config::Sources,
    discovery::{Catalog, consul::Consul},
    made_up::MadeUp,
};

/// How long Consul may take to say who runs.
const CONSUL_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes up every upstream of `bff` that has no addresses in `sources` and no instance in Consul, and
/// names them in `sources`. They end when they are dropped.
///
/// # Errors
/// When the configuration is not good, or an upstream has no descriptors.
pub(super) async fn make_up(bff: &Bff, sources: &mut Sources) -> anyhow::Result<Vec<MadeUp>> {
    let loaded = sources.read(bff.known())?.with(None)?;
    let consul = Consul::new(&loaded.config.consul)?;
    let mut services = Vec::new();
    for upstream in bff.upstreams() {
        let config = loaded.config.upstreams.get(upstream.name);
        let service = config.and_then(|config| config.service.as_ref());
        // With addresses of its own it has no service.
        let Some(service) = service else { continue };
        let asked = consul.passing(service, 0, Duration::ZERO);
        let asked = tokio::time::timeout(CONSUL_TIMEOUT, asked).await;
        let runs = matches!(asked, Ok(Ok(answer)) if !answer.instances.is_empty());
        if runs {
            eprintln!("{}: {service} as Consul has it", upstream.name);
            continue;
        }
        let service = MadeUp::of(upstream.name, upstream.descriptors).await?;
        eprintln!("{}: made up, at {}", upstream.name, service.addr());
        // Whoever named the service by a flag is answered by the made-up one too.
        let named = format!("upstreams.{}.service", upstream.name);
        sources.flags.retain(|(key, _)| *key != named);
        let key = format!("upstreams.{}.endpoints", upstream.name);
        let value = serde_json::json!([format!("http://{}", service.addr())]);
        sources.flags.push((key, value.to_string()));
        services.push(service);
    }
    let registers = ("consul.register".to_owned(), "false".to_owned());
    sources.flags.push(registers);
    Ok(services)
}
