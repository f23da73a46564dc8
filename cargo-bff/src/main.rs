//! `cargo bff new | add | diff`: a web tier's crate, made of proto files.
//!
//! What it writes is a first draft that belongs to its owner: it is never written a second time.

mod comments;
mod diff;
mod edit;
mod names;
mod reflect;
mod roots;
mod sources;
mod types;
mod verbs;
mod write;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Prints a line; a reader that has left is no reason to fail.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(crate) use say;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};

use self::{
    sources::Read,
    verbs::Said,
    write::{Protos, Published},
};

/// A GraphQL backend-for-frontend of your own, made of proto files.
#[derive(Debug, Parser)]
#[command(name = "cargo bff", bin_name = "cargo bff", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a crate that serves the services of proto files.
    New {
        /// Where; it must not be there yet, or be empty.
        dir: PathBuf,
        #[command(flatten)]
        source: Source,
        /// The repository of `bff-engine`.
        #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        engine: PathBuf,
    },
    /// Add an upstream to the crate in this folder.
    Add {
        #[command(flatten)]
        source: Source,
    },
    /// Tell what services offer and the schema lacks (+), and what it uses that is gone (-, exit code 1). Without
    /// a source, of the crate's own copies.
    Diff {
        #[command(flatten)]
        origin: Origin,
    },
}

/// Where services are described.
#[derive(Debug, Args)]
struct Origin {
    /// A proto file with services; further ones are of the same server.
    #[arg(long, value_name = "FILE")]
    proto: Vec<PathBuf>,
    /// A folder that imports are found in.
    #[arg(long, value_name = "DIR")]
    include: Vec<PathBuf>,
    /// A descriptor set, as `buf build` and `protoc --include_imports -o` write it.
    #[arg(long, value_name = "SET", conflicts_with = "proto")]
    descriptors: Option<PathBuf>,
    /// A running server, which is asked by gRPC's reflection.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["proto", "descriptors"])]
    reflect: Option<String>,
    /// A service in Consul, an instance of which is asked by gRPC's reflection.
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["proto", "descriptors", "reflect"])]
    consul: Option<String>,
    /// The Consul agent.
    #[arg(
        long,
        value_name = "URL",
        env = "CONSUL_HTTP_ADDR",
        default_value = "http://127.0.0.1:8500"
    )]
    agent: String,
}

/// What an upstream is made of.
#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    origin: Origin,
    /// The upstream's name, in the configuration and in Consul.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Methods that are fields of Query; `*` stands for anything.
    #[arg(long, value_name = "PATTERN")]
    query: Vec<String>,
    /// Methods that are fields of Mutation.
    #[arg(long, value_name = "PATTERN")]
    mutation: Vec<String>,
}

/// What was read, and the descriptor set it was read from, if it was one.
struct Given {
    read: Read,
    descriptors: Option<Vec<u8>>,
}

impl Origin {
    /// What it says; `None` if nothing is named.
    fn read(&self) -> anyhow::Result<Option<Given>> {
        let (bytes, origin) = match (&self.descriptors, &self.reflect, &self.consul) {
            (Some(file), ..) => {
                let bytes = fs::read(file).with_context(|| file.display().to_string())?;
                (bytes, file.display().to_string())
            }
            (_, Some(address), _) => (reflect::descriptors(address)?, address.clone()),
            (.., Some(service)) => {
                let address = reflect::instance(service, &self.agent)?;
                (
                    reflect::descriptors(&address)?,
                    format!("{service} at {address}"),
                )
            }
            _ if self.proto.is_empty() => return Ok(None),
            _ => {
                let read = sources::protos(&self.proto, &self.include)?;
                return Ok(Some(Given {
                    read,
                    descriptors: None,
                }));
            }
        };
        Ok(Some(Given {
            read: sources::from_descriptors(&bytes, &origin)?,
            descriptors: Some(bytes),
        }))
    }
}

impl Source {
    fn read(&self) -> anyhow::Result<Given> {
        let given = self.origin.read()?;
        given.context("name what it is made of: --proto FILE, --descriptors SET, --reflect HOST:PORT or --consul SERVICE")
    }

    fn said(&self) -> Said {
        Said {
            queries: self.query.clone(),
            mutations: self.mutation.clone(),
        }
    }

    /// The upstream's name.
    fn name(&self, read: &Read) -> anyhow::Result<String> {
        let name = match self.service.as_ref().or(self.origin.consul.as_ref()) {
            Some(name) => name.clone(),
            None => read.upstream(&read.methods()?),
        };
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = name.chars().all(fits) && name.starts_with(|c: char| c.is_ascii_lowercase());
        ensure!(
            good,
            "{name:?} is no name for an upstream: lower-case letters, digits and dashes, by --service NAME"
        );
        const TAKEN: [&str; 14] = [
            "defaults",
            "lib",
            "main",
            "upstreams",
            "self",
            "super",
            "crate",
            "std",
            "core",
            "alloc",
            "tokio",
            "async-graphql",
            "bff-engine",
            "futures-util",
        ];
        ensure!(
            !TAKEN.contains(&name.as_str()),
            "an upstream cannot be called {name:?}: name it by --service NAME"
        );
        Ok(name)
    }
}

fn main() -> ExitCode {
    // Cargo hands its own word on: `cargo-bff bff new …`. As an alias it does not.
    let mut args: Vec<_> = env::args_os().collect();
    if args.get(1).is_some_and(|first| first == "bff") {
        args.remove(1);
    }
    let cli = Cli::parse_from(args);
    let done = match cli.command {
        Command::New {
            dir,
            source,
            engine,
        } => new(&dir, &source, &engine).map(|()| true),
        Command::Add { source } => add(Path::new("."), &source).map(|()| true),
        Command::Diff { origin } => origin
            .read()
            .and_then(|given| diff::run(Path::new("."), given.map(|given| given.read))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo bff: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The files of a crate, by their path in it.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn new(dir: &Path, source: &Source, engine: &Path) -> anyhow::Result<()> {
    let is_free = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !dir.exists(),
    };
    ensure!(
        is_free,
        "{} is not empty: name a folder that is not there yet",
        dir.display()
    );
    let krate = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let krate = krate.unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        krate.starts_with(|c: char| c.is_ascii_alphabetic()) && krate.chars().all(fits),
        "{krate:?} cannot be a crate's name: letters, digits, - and _"
    );
    let engine = fs::canonicalize(engine).with_context(|| {
        format!(
            "{}: name the repository of bff-engine by --engine",
            engine.display()
        )
    })?;
    ensure!(
        engine.join("engine/Cargo.toml").is_file(),
        "{} is no repository of bff-engine: name it by --engine",
        engine.display()
    );
    let Given { read, descriptors } = source.read()?;
    let name = source.name(&read)?;
    let upstream = write::upstream(&read, &name, &krate, &source.said(), &Published::default())?;
    let mut files = protos_of(&read, descriptors.as_deref(), &name)?;
    let set = format!("proto/{name}.bin");
    let protos = match &descriptors {
        Some(_) => Protos::Descriptors(&set),
        None => Protos::Files(&read.named),
    };
    let mut text = |path: &str, text: String| files.push((path.into(), text.into_bytes()));
    text("Cargo.toml", write::manifest(&krate, &engine));
    text("build.rs", write::build_script(&protos, &upstream));
    text("bff.toml", write::configuration(&krate, &upstream));
    text("src/main.rs", write::main_file(&krate));
    text("src/lib.rs", write::library(&krate, &upstream));
    text(".gitignore", "/target\n".to_owned());
    // The versions that the engine was tested with.
    if let Ok(lock) = fs::read_to_string(engine.join("Cargo.lock")) {
        text("Cargo.lock", lock);
    }
    files.extend(edit::modules(&upstream));
    write::check()?;
    put(dir, &files)?;
    say!("{}: {}", dir.display(), upstream.summary());
    tell(&upstream.notes);
    say!(
        "\nNext:\n\n  cd {}\n  cargo test\n  cargo run -- dev --config bff.toml",
        dir.display()
    );
    Ok(())
}

/// Copies of the proto files, or the descriptor set.
fn protos_of(read: &Read, descriptors: Option<&[u8]>, name: &str) -> anyhow::Result<Files> {
    if let Some(bytes) = descriptors {
        return Ok(vec![(format!("proto/{name}.bin").into(), bytes.to_vec())]);
    }
    let files = read.files.iter().map(|(file, path)| {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Ok((Path::new("proto").join(file), bytes))
    });
    files.collect()
}

/// Writes all of it, or nothing.
fn put(dir: &Path, files: &Files) -> anyhow::Result<()> {
    let parent = dir
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let half = parent.join(format!(".{name}.{}", std::process::id()));
    let written = files.iter().try_for_each(|(path, bytes)| {
        let path = half.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)
    });
    let moved = written.and_then(|()| {
        // An empty folder gives way.
        if dir.exists() {
            fs::remove_dir(dir)?;
        }
        fs::rename(&half, dir)
    });
    if let Err(error) = moved {
        // Whatever is there of it; the error is the one that counts.
        let _ = fs::remove_dir_all(&half);
        bail!("{}: {error}", dir.display());
    }
    Ok(())
}

fn add(dir: &Path, source: &Source) -> anyhow::Result<()> {
    let krate = edit::Crate::open(dir)?;
    let Given { read, descriptors } = source.read()?;
    let name = source.name(&read)?;
    krate.is_free(&name)?;
    let upstream = write::upstream(&read, &name, &krate.name, &source.said(), &krate.published)?;
    let protos = protos_of(&read, descriptors.as_deref(), &name)?;
    let by_hand = krate.add(&upstream, protos, &read.named, descriptors.is_some())?;
    say!("{}", upstream.summary());
    tell(&upstream.notes);
    for line in by_hand {
        say!("by hand: {line}");
    }
    Ok(())
}

fn tell(notes: &[String]) {
    for note in notes {
        say!("  {note}");
    }
}
