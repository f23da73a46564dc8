//! The services of the proto files, as prost-build tells of them.

use std::{cell::RefCell, rc::Rc};

use prost_build::{Service, ServiceGenerator};
use prost_types::method_options::IdempotencyLevel;

use crate::names::from_root;

/// One service.
#[derive(Clone, Debug)]
pub(crate) struct FoundService {
    /// `package.Service`.
    pub(crate) name: String,
    pub(crate) docs: Vec<String>,
    pub(crate) methods: Vec<FoundMethod>,
}

/// One method.
#[derive(Clone, Debug)]
pub(crate) struct FoundMethod {
    /// `SayHello`.
    pub(crate) proto_name: String,
    pub(crate) docs: Vec<String>,
    /// Types as seen from the module around all packages.
    pub(crate) request: String,
    pub(crate) reply: String,
    pub(crate) takes_stream: bool,
    pub(crate) answers_stream: bool,
    pub(crate) idempotent: bool,
}

/// Keeps what prost-build tells; writes nothing into the packages' modules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector(Rc<RefCell<Vec<FoundService>>>);

impl Collector {
    /// The services, in the order of the files.
    pub(crate) fn services(&self) -> Vec<FoundService> {
        self.0.borrow().clone()
    }
}

impl ServiceGenerator for Collector {
    fn generate(&mut self, service: Service, _: &mut String) {
        let package = &service.package;
        let methods = service.methods.into_iter().map(|method| FoundMethod {
            proto_name: method.proto_name,
            docs: docs(&method.comments),
            request: from_root(package, &method.input_type),
            reply: from_root(package, &method.output_type),
            takes_stream: method.client_streaming,
            answers_stream: method.server_streaming,
            idempotent: method.options.idempotency_level() != IdempotencyLevel::IdempotencyUnknown,
        });
        let name = match package.is_empty() {
            true => service.proto_name.clone(),
            false => format!("{package}.{}", service.proto_name),
        };
        self.0.borrow_mut().push(FoundService {
            name,
            methods: methods.collect(),
            docs: docs(&service.comments),
        });
    }
}

/// The leading comment, line by line.
fn docs(comments: &prost_build::Comments) -> Vec<String> {
    comments
        .leading
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}
