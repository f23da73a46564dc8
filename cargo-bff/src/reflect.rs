//! What a running server says of itself, by gRPC's reflection, and where one is, by Consul.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::{Code, transport::Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// How long a server may take to be reached, and to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The descriptors of the server at `address`, as a set.
pub(crate) fn descriptors(address: &str) -> anyhow::Result<Vec<u8>> {
    in_time(ask(address))
}

/// The address of an instance of `service` that passes its checks.
pub(crate) fn instance(service: &str, consul: &str) -> anyhow::Result<String> {
    in_time(find(service, consul))
}

fn in_time<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(what)
}

async fn find(service: &str, consul: &str) -> anyhow::Result<String> {
    // As CONSUL_HTTP_ADDR has it, also without a scheme.
    let consul = match consul.contains("://") {
        true => consul.to_owned(),
        false => format!("http://{consul}"),
    };
    let consul = consul.trim_end_matches('/');
    let url = format!("{consul}/v1/health/service/{service}?passing");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let unreachable =
        || format!("{consul} does not answer as Consul does: name the agent by --agent URL");
    let answer = client.get(&url).send().await.with_context(unreachable)?;
    let text = answer
        .error_for_status()
        .with_context(unreachable)?
        .text()
        .await?;
    let list: serde_json::Value = serde_json::from_str(&text).with_context(unreachable)?;
    let Some(first) = list.as_array().and_then(|list| list.first()) else {
        bail!("Consul has no healthy instance of {service}: start one, or use --proto");
    };
    let own = first["Service"]["Address"]
        .as_str()
        .filter(|address| !address.is_empty());
    let host = own
        .or(first["Node"]["Address"].as_str())
        .unwrap_or_default();
    Ok(format!("{host}:{}", first["Service"]["Port"]))
}

async fn ask(address: &str) -> anyhow::Result<Vec<u8>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .with_context(|| format!("{address:?} is no HOST:PORT"))?;
    let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let channel = endpoint
        .connect()
        .await
        .map_err(|_| anyhow::anyhow!("no server listens at {address}: start it, or use --proto"))?;
    let mut client = ServerReflectionClient::new(channel);
    let mut files = BTreeMap::new();
    let listed = one(
        &mut client,
        address,
        MessageRequest::ListServices(String::new()),
    )
    .await?;
    let MessageResponse::ListServicesResponse(listed) = listed else {
        bail!("{address} does not list its services");
    };
    let services: Vec<_> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .filter(|name| !name.starts_with("grpc."))
        .collect();
    ensure!(
        !services.is_empty(),
        "{address} lists no service but gRPC's own"
    );
    let mut waiting = Vec::new();
    for service in services {
        let wanted = MessageRequest::FileContainingSymbol(service);
        waiting.extend(read(one(&mut client, address, wanted).await?)?);
    }
    while let Some(file) = waiting.pop() {
        let name = file.name().to_owned();
        let imports = file.dependency.clone();
        if files.insert(name, file).is_some() {
            continue;
        }
        for import in imports
            .into_iter()
            .filter(|import| !files.contains_key(import))
        {
            let wanted = MessageRequest::FileByFilename(import);
            waiting.extend(read(one(&mut client, address, wanted).await?)?);
        }
    }
    Ok(FileDescriptorSet {
        file: sorted(files),
    }
    .encode_to_vec())
}

async fn one(
    client: &mut ServerReflectionClient<tonic::transport::Channel>,
    address: &str,
    wanted: MessageRequest,
) -> anyhow::Result<MessageResponse> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(wanted),
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => bail!(
            "{address} has no reflection (grpc.reflection.v1): turn it on, or use --proto or --descriptors"
        ),
        Err(status) => bail!("{address}: {}", status.message()),
    };
    let answer = answers.message().await.map_err(|status| match status.code() {
        Code::Unimplemented => anyhow::anyhow!(
            "{address} has no reflection (grpc.reflection.v1): turn it on, or use --proto or --descriptors"
        ),
        _ => anyhow::anyhow!("{address}: {}", status.message()),
    })?;
    match answer.and_then(|answer| answer.message_response) {
        Some(MessageResponse::ErrorResponse(error)) => bail!("{address}: {}", error.error_message),
        Some(answer) => Ok(answer),
        None => bail!("{address} ended the reflection without an answer"),
    }
}

fn read(answer: MessageResponse) -> anyhow::Result<Vec<FileDescriptorProto>> {
    let MessageResponse::FileDescriptorResponse(answer) = answer else {
        bail!("the server answered something else than files");
    };
    let files = answer.file_descriptor_proto.iter();
    let files = files.map(|bytes| FileDescriptorProto::decode(bytes.as_slice()));
    files
        .collect::<Result<_, _>>()
        .context("the server's descriptors cannot be read")
}

/// Files before those that import them.
fn sorted(mut files: BTreeMap<String, FileDescriptorProto>) -> Vec<FileDescriptorProto> {
    let mut done: Vec<FileDescriptorProto> = Vec::new();
    while !files.is_empty() {
        let is_next = |file: &&FileDescriptorProto| {
            file.dependency
                .iter()
                .all(|import| !files.contains_key(import))
        };
        // Imports in a circle have no order; whoever reads the set says so.
        let next = files.values().find(is_next).or(files.values().next());
        let Some(name) = next.map(|file| file.name().to_owned()) else {
            break;
        };
        done.extend(files.remove(&name));
    }
    done
}
