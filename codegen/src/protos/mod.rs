//! From proto files to descriptors, whatever third-party options stand in them.
//!
//! Options of one's own (`(google.api.http)`, `(buf.validate.field)` …) say nothing that a client needs,
//! and the files that define them are often not at hand. So they are noted where they tell something
//! (`facts.rs`), taken out as a file is read, and what they alone were imported for need not be there.

mod bundled;
mod facts;
mod reach;
mod roots;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

pub use self::{
    facts::{Behavior, Facts},
    reach::reachable,
    roots::{Root, root_of},
};
use crate::Error;

/// What was read.
#[derive(Debug)]
pub struct Compiled {
    /// All files, those first that others import.
    pub descriptors: FileDescriptorSet,
    /// What options said that were taken out.
    pub facts: Facts,
    /// The files that were read from `includes`, by their name within it.
    pub read: Vec<(String, PathBuf)>,
}

/// Reads `files`, by their names within `includes`, with what they import.
///
/// # Errors
/// [`Error::Protos`], which says what is wrong and where.
pub fn compile(files: &[String], includes: &[PathBuf]) -> Result<Compiled, Error> {
    let read = Arc::new(Mutex::new(Read::default()));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources {
        includes: includes.to_vec(),
        read: Arc::clone(&read),
    });
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    for file in files {
        compiler
            .open_file(file)
            .map_err(|error| Error::Protos(describe(&error, &error.to_string())))?;
    }
    let descriptors = compiler.file_descriptor_set();
    let read = std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Compiled {
        descriptors,
        facts: read.facts,
        read: read.files,
    })
}

/// An error in one line, with its place.
fn describe(error: &protox::Error, text: &str) -> String {
    match error.file() {
        Some(file) if !text.contains(file) => format!("{file}: {text}"),
        _ => text.to_owned(),
    }
}

#[derive(Default)]
struct Read {
    facts: Facts,
    files: Vec<(String, PathBuf)>,
}

/// Files of the user's folders, and those that come along.
struct Sources {
    includes: Vec<PathBuf>,
    read: Arc<Mutex<Read>>,
}

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self
            .includes
            .iter()
            .map(|root| root.join(name))
            .find(|path| path.is_file());
        let source = match &found {
            Some(path) => fs::read_to_string(path).map_err(protox::Error::new)?,
            None => match bundled::source(name) {
                Some(source) => source.to_owned(),
                None => return Err(protox::Error::file_not_found(name)),
            },
        };
        if let Some(edition) = edition(&source) {
            let problem =
                format!("{name}: edition {edition} cannot be read yet; write syntax = \"proto3\"");
            return Err(protox::Error::new(problem));
        }
        let mut file = File::from_source(name, &source)?
            .file_descriptor_proto()
            .clone();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        facts::take_out(&mut file, &mut read.facts);
        drop_imports(&mut file, |import| self.can_be_missing(import));
        if let Some(path) = found {
            read.files.push((name.to_owned(), path));
        }
        Ok(File::from_file_descriptor_proto(file))
    }
}

impl Sources {
    fn can_be_missing(&self, import: &str) -> bool {
        let is_there = self.includes.iter().any(|root| root.join(import).is_file());
        !is_there && bundled::is_for_options(import)
    }
}

/// The edition that a file is written in, if it is in one.
pub fn edition(source: &str) -> Option<String> {
    let rest = without_comments(source);
    let rest = rest.trim_start().strip_prefix("edition")?.trim_start();
    let rest = rest.strip_prefix('=')?.trim_start();
    let quote = rest
        .chars()
        .next()
        .filter(|quote| ['"', '\''].contains(quote))?;
    Some(rest[1..].split(quote).next()?.to_owned())
}

/// The text behind the comments that it begins with.
fn without_comments(source: &str) -> &str {
    let mut rest = source.trim_start_matches('\u{feff}').trim_start();
    loop {
        let behind = match rest {
            _ if rest.starts_with("//") => rest.split_once('\n').map_or("", |(_, rest)| rest),
            _ if rest.starts_with("/*") => rest.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return rest,
        };
        rest = behind.trim_start();
    }
}

/// Takes imports out, and keeps the numbers right that stand for the others.
fn drop_imports(file: &mut FileDescriptorProto, is_dropped: impl Fn(&str) -> bool) {
    let kept: Vec<_> = (0..file.dependency.len())
        .filter(|n| !is_dropped(&file.dependency[*n]))
        .collect();
    let renumber = |numbers: &[i32]| -> Vec<i32> {
        let place = |number: &i32| kept.iter().position(|kept| *kept as i32 == *number);
        numbers
            .iter()
            .filter_map(|number| place(number).map(|n| n as i32))
            .collect()
    };
    file.public_dependency = renumber(&file.public_dependency);
    file.weak_dependency = renumber(&file.weak_dependency);
    file.dependency = kept.iter().map(|n| file.dependency[*n].clone()).collect();
}
