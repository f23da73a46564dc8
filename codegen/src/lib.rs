//! Typed clients of a web tier's upstreams, generated from their `.proto` files by its build script.
//! No `protoc` has to be installed.
//!
//! ```no_run
//! // build.rs
//! use bff_codegen::{Protos, Upstream};
//!
//! fn main() -> Result<(), bff_codegen::Error> {
//!     Protos::new(["proto/shop/catalog/v1/catalog.proto"], ["proto"])
//!         .upstream(Upstream::new("catalog").service("catalog-srv"))
//!         .generate()
//! }
//! ```
//!
//! `bff_engine::upstreams!();` in the crate then is a module `upstreams` with the messages by their
//! package (`upstreams::shop::catalog::v1::Product`) and one type for each upstream
//! (`upstreams::Catalog`), which a resolver calls by `ctx.to::<Catalog>().get_product(request)`.
//!
//! Whether a method may be retried when it is not known whether it ran is what it says itself:
//! `option idempotency_level = NO_SIDE_EFFECTS;` or `IDEMPOTENT`. Methods that take a stream are left
//! out; the upstream's documentation names them.

mod client;
#[doc(hidden)]
pub mod names;
/// What `cargo bff` reads protos with; no part of the door.
#[doc(hidden)]
pub mod protos;
mod services;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::FileDescriptorSet;

pub use self::client::Upstream;
use self::{
    client::Resolved,
    protos::{compile, reachable},
    services::Collector,
};

/// What keeps clients from being generated, for the person who wrote the build script.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files cannot be read, or are no proto files.
    #[error("{0}")]
    Protos(String),
    /// An upstream serves nothing that is there.
    #[error("the upstream {upstream} serves {wanted}, and the files have {known}")]
    NoService {
        /// Its name.
        upstream: String,
        /// What it is to serve.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// Two methods of an upstream would have one name in Rust.
    #[error(
        "the upstream {upstream} has two methods that are called {name} in Rust: {first} and {second}; \
         make two upstreams of it"
    )]
    Clash {
        /// Its name.
        upstream: String,
        /// The name in Rust.
        name: String,
        /// One method, as `package.Service/Method`.
        first: String,
        /// The other.
        second: String,
    },
    /// What is generated cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Proto files and the upstreams that serve them.
#[derive(Debug)]
pub struct Protos {
    sources: Vec<Source>,
    upstreams: Vec<Upstream>,
}

#[derive(Debug)]
enum Source {
    Files {
        files: Vec<PathBuf>,
        includes: Vec<PathBuf>,
    },
    Descriptors(PathBuf),
}

impl Protos {
    /// The proto `files`, whose imports are found in `includes`.
    pub fn new<F, I>(files: F, includes: I) -> Self
    where
        F: IntoIterator<Item: Into<PathBuf>>,
        I: IntoIterator<Item: Into<PathBuf>>,
    {
        let none = Self {
            sources: Vec::new(),
            upstreams: Vec::new(),
        };
        none.and(files, includes)
    }

    /// A descriptor set, as `buf build` and `protoc --include_imports -o` write it.
    pub fn descriptors(file: impl Into<PathBuf>) -> Self {
        Self {
            sources: vec![Source::Descriptors(file.into())],
            upstreams: Vec::new(),
        }
    }

    /// The same with more proto files.
    pub fn and<F, I>(mut self, files: F, includes: I) -> Self
    where
        F: IntoIterator<Item: Into<PathBuf>>,
        I: IntoIterator<Item: Into<PathBuf>>,
    {
        self.sources.push(Source::Files {
            files: files.into_iter().map(Into::into).collect(),
            includes: includes.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// The same with a descriptor set as well.
    pub fn and_descriptors(mut self, file: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Descriptors(file.into()));
        self
    }

    /// The same with an upstream: a server, which may have several of the files' services.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Writes `upstreams.rs` and what it includes into `OUT_DIR`, and tells Cargo what they are made
    /// from. Called by a build script.
    ///
    /// # Errors
    /// [`Error`]; a build script's `main` returns it.
    pub fn generate(self) -> Result<(), Error> {
        let out = env::var_os("OUT_DIR").map(PathBuf::from);
        let out =
            out.ok_or_else(|| Error::Protos("OUT_DIR is not set: call it in build.rs".into()))?;
        for source in &self.sources {
            let (files, includes): (&[_], &[_]) = match source {
                Source::Files { files, includes } => (files, includes),
                Source::Descriptors(file) => (std::slice::from_ref(file), &[]),
            };
            for file in files.iter().chain(includes) {
                println!("cargo:rerun-if-changed={}", file.display());
            }
        }
        self.generate_into(out)
    }

    /// All files of all sources, each once.
    fn read(&self) -> Result<FileDescriptorSet, Error> {
        let mut all = FileDescriptorSet::default();
        for source in &self.sources {
            let set = match source {
                Source::Files { files, includes } => {
                    let names: Vec<_> = files
                        .iter()
                        .map(|file| name_within(file, includes))
                        .collect();
                    compile(&names, includes)?.descriptors
                }
                Source::Descriptors(file) => {
                    let problem = |error: &dyn std::fmt::Display| {
                        Error::Protos(format!("{}: {error}", file.display()))
                    };
                    let bytes = fs::read(file).map_err(|error| problem(&error))?;
                    let set = FileDescriptorSet::decode(bytes.as_slice());
                    set.map_err(|error| problem(&error))?
                }
            };
            for file in set.file {
                if !all.file.iter().any(|known| known.name == file.name) {
                    all.file.push(file);
                }
            }
        }
        Ok(all)
    }

    fn generate_into(self, out: PathBuf) -> Result<(), Error> {
        let descriptors = self.read()?;
        // What no method reaches is not compiled. An upstream that names no service has all the others.
        let all = self
            .upstreams
            .iter()
            .any(|upstream| upstream.services().is_empty());
        let services: Vec<_> = self
            .upstreams
            .iter()
            .flat_map(Upstream::services)
            .cloned()
            .collect();
        let known = |service: &String| has_service(&descriptors, service);
        // One that is not there is told of later, with what there is.
        let all = all || !services.iter().all(known);
        let descriptors = reachable(&descriptors, if all { &[] } else { &services });
        let collector = Collector::default();
        let write = |path: PathBuf, error| Error::Write { path, error };
        let path = out.join("descriptors.bin");
        let mut plain = descriptors.clone();
        // Comments are for those who read the generated code.
        plain
            .file
            .iter_mut()
            .for_each(|file| file.source_code_info = None);
        fs::write(&path, plain.encode_to_vec()).map_err(|error| write(path, error))?;
        prost_build::Config::new()
            .out_dir(&out)
            .include_file("messages.rs")
            .prost_path("::bff_engine::codegen::prost")
            .prost_types_path("::bff_engine::codegen::prost_types")
            .service_generator(Box::new(collector.clone()))
            .compile_fds(descriptors)
            .map_err(|error| write(out.clone(), error))?;
        let services = collector.services();
        let resolved = Resolved::all(&self.upstreams, &services)?;
        let mut text = include_messages(&out)?;
        text += "const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/descriptors.bin\"));\n\n";
        for upstream in &resolved {
            text += &upstream.generate()?;
        }
        let path = out.join("upstreams.rs");
        fs::write(&path, text).map_err(|error| write(path, error))
    }
}

/// Whether the files have a service of this full name.
fn has_service(descriptors: &FileDescriptorSet, name: &str) -> bool {
    descriptors.file.iter().any(|file| {
        let mut services = file.service.iter();
        services.any(|service| match file.package() {
            "" => service.name() == name,
            package => format!("{package}.{}", service.name()) == name,
        })
    })
}

/// The name of `file` within the first of `includes` that it is in.
fn name_within(file: &Path, includes: &[PathBuf]) -> String {
    let mut within = includes
        .iter()
        .filter_map(|root| file.strip_prefix(root).ok());
    let name = within.next().unwrap_or(file);
    name.to_string_lossy().replace('\\', "/")
}

/// The modules of all packages, with what they include in place: a file that is included cannot name
/// others beside it in every crate.
fn include_messages(out: &std::path::Path) -> Result<String, Error> {
    let read =
        |path: PathBuf| fs::read_to_string(&path).map_err(|error| Error::Write { path, error });
    let mut text = String::new();
    for line in read(out.join("messages.rs"))?.lines() {
        let included = line.trim().strip_prefix("include!(");
        let name = included.and_then(|rest| rest.split('"').rfind(|part| part.ends_with(".rs")));
        match name {
            Some(name) => text += &read(out.join(name.trim_start_matches('/')))?,
            None => text += line,
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
