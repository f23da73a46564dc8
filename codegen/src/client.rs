//! An upstream's typed client.

use std::{collections::HashMap, fmt::Write};

use crate::{
    Error,
    names::upper_camel,
    services::{FoundMethod, FoundService},
};

/// A server that resolvers call.
#[derive(Clone, Debug)]
pub struct Upstream {
    name: String,
    service: Option<String>,
    serves: Vec<String>,
}

impl Upstream {
    /// The upstream `name`: its section of the configuration is `[upstreams.<name>]`, its type
    /// `Name`. Without more it is called the same in Consul, and serves every service of the files
    /// that no other upstream does.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            service: None,
            serves: Vec::new(),
        }
    }

    /// Its service name in Consul, unless configured otherwise.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    pub(crate) fn services(&self) -> &[String] {
        &self.serves
    }

    /// A gRPC service that it has: `package.Service`.
    pub fn serves(mut self, service: impl Into<String>) -> Self {
        self.serves.push(service.into());
        self
    }
}

/// An upstream with the services it has.
pub(crate) struct Resolved<'r> {
    upstream: &'r Upstream,
    services: Vec<&'r FoundService>,
}

impl<'r> Resolved<'r> {
    /// All of `upstreams` with what they have of `services`.
    pub(crate) fn all(
        upstreams: &'r [Upstream],
        services: &'r [FoundService],
    ) -> Result<Vec<Self>, Error> {
        let named: Vec<_> = upstreams
            .iter()
            .flat_map(|upstream| &upstream.serves)
            .collect();
        let resolve = |upstream: &'r Upstream| {
            let has = |service: &&FoundService| match upstream.serves.is_empty() {
                true => !named.contains(&&service.name),
                false => upstream.serves.contains(&service.name),
            };
            let has: Vec<_> = services.iter().filter(has).collect();
            let missing = upstream
                .serves
                .iter()
                .find(|wanted| !services.iter().any(|service| service.name == **wanted));
            if has.is_empty() || missing.is_some() {
                let known: Vec<_> = services
                    .iter()
                    .map(|service| service.name.as_str())
                    .collect();
                return Err(Error::NoService {
                    upstream: upstream.name.clone(),
                    wanted: missing
                        .map_or("what no other does", |wanted| wanted)
                        .to_owned(),
                    known: match known.is_empty() {
                        true => "no service".to_owned(),
                        false => known.join(", "),
                    },
                });
            }
            Ok(Self {
                upstream,
                services: has,
            })
        };
        upstreams.iter().map(resolve).collect()
    }

    /// Its methods, each with its service and its name in Rust: where two services have one of a name,
    /// both carry their service's.
    fn methods(&self) -> Result<Vec<(&FoundService, &FoundMethod, String)>, Error> {
        let all = self.services.iter().flat_map(|service| {
            let methods = service.methods.iter().filter(|method| !method.takes_stream);
            methods.map(move |method| (*service, method))
        });
        let all: Vec<_> = all.collect();
        let names: Vec<_> = all
            .iter()
            .map(|(service, method)| (service.name.as_str(), method.proto_name.as_str()))
            .collect();
        let names = crate::names::methods(&names);
        let named = all.into_iter().zip(names);
        let named = named.map(|((service, method), name)| (service, method, name));
        let named: Vec<_> = named.collect();
        let mut seen: HashMap<&str, String> = HashMap::new();
        for (service, method, name) in &named {
            let path = format!("{}/{}", service.name, method.proto_name);
            if let Some(first) = seen.insert(name, path.clone()) {
                return Err(Error::Clash {
                    upstream: self.upstream.name.clone(),
                    name: name.clone(),
                    first,
                    second: path,
                });
            }
        }
        Ok(named)
    }

    /// Its type, and the client of it.
    pub(crate) fn generate(&self) -> Result<String, Error> {
        let Upstream { name, service, .. } = self.upstream;
        let (ty, service) = (upper_camel(name), service.as_ref().unwrap_or(name));
        let mut text = String::new();
        let services: Vec<_> = self
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        doc(
            &mut text,
            "",
            &[format!(" The upstream `{name}`: {}.", services.join(", "))],
        );
        for service in &self.services {
            if !service.docs.is_empty() {
                doc(&mut text, "", &[String::new()]);
                doc(&mut text, "", &service.docs);
            }
        }
        let left_out = self.services.iter().flat_map(|service| {
            let methods = service.methods.iter().filter(|method| method.takes_stream);
            methods.map(|method| format!("`{}/{}`", service.name, method.proto_name))
        });
        let left_out: Vec<_> = left_out.collect();
        if !left_out.is_empty() {
            let line = format!(
                " Left out, because they take a stream: {}.",
                left_out.join(", ")
            );
            doc(&mut text, "", &[String::new(), line]);
        }
        let named = self.methods()?;
        let methods = named.iter().map(|(service, method, _)| {
            format!("{:?}", format!("{}/{}", service.name, method.proto_name))
        });
        let methods = methods.collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "#[derive(Clone, Copy, Debug)]
pub struct {ty};

impl ::bff_engine::Upstream for {ty} {{
    const NAME: &'static str = {name:?};
    const SERVICE: &'static str = {service:?};
    const METHODS: &'static [&'static str] = &[{methods}];
    const DESCRIPTORS: &'static [u8] = DESCRIPTORS;
}}

impl ::bff_engine::Typed for {ty} {{
    type Client<'c> = {ty}Client<'c>;
}}

/// Calls to `{name}` from a resolver: `ctx.to::<{ty}>()`.
#[derive(Debug)]
pub struct {ty}Client<'c>(::bff_engine::Client<'c, {ty}>);

impl<'c> From<::bff_engine::Client<'c, {ty}>> for {ty}Client<'c> {{
    fn from(client: ::bff_engine::Client<'c, {ty}>) -> Self {{
        Self(client)
    }}
}}

impl {ty}Client<'_> {{
"
        );
        for (service, method, name) in named {
            text += &generate_method(&ty, service, method, &name);
        }
        text += "}\n";
        Ok(text)
    }
}

fn generate_method(
    upstream: &str,
    service: &FoundService,
    method: &FoundMethod,
    name: &str,
) -> String {
    let FoundMethod {
        request,
        reply,
        proto_name,
        ..
    } = method;
    let mut text = String::new();
    let path = format!("/{}/{proto_name}", service.name);
    match method.docs.is_empty() {
        true => doc(&mut text, "    ", &[format!(" Calls `{path}`.")]),
        false => doc(&mut text, "    ", &method.docs),
    }
    let (kind, answer, call) = match method.answers_stream {
        true => (
            "server_streaming",
            format!(
                "::bff_engine::codegen::BoxStream<'static, ::bff_engine::codegen::Result<{reply}>>"
            ),
            "stream",
        ),
        false => ("unary", reply.clone(), "call"),
    };
    let idempotent = if method.idempotent {
        ".idempotent()"
    } else {
        ""
    };
    let errors = [
        String::new(),
        " # Errors".to_owned(),
        " A field error with its code, fit for a client; details are in the log.".to_owned(),
    ];
    doc(&mut text, "    ", &errors);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "    pub async fn {name}(&self, request: impl ::bff_engine::codegen::Requested<{request}>) -> ::bff_engine::codegen::Result<{answer}> {{
        static METHOD: ::bff_engine::Method<{upstream}, {request}, {reply}> =
            ::bff_engine::Method::{kind}({path:?}){idempotent};
        self.0.{call}(&METHOD, &request.requested()?).await
    }}

"
    );
    text
}

fn doc(text: &mut String, indent: &str, lines: &[String]) {
    for line in lines {
        // An indented line would be an example, and be compiled.
        let line = match line.trim() {
            "" => String::new(),
            line => format!(" {line}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}///{line}");
    }
}
