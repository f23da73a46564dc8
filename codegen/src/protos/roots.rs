//! The folder that a proto file's imports are relative to: found, not asked for.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::bundled;
use crate::Error;

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The folder.
    pub folder: PathBuf,
    /// The file's name within it.
    pub name: String,
}

/// The nearest folder above `file` from which its imports, and theirs, are found, there or in
/// `includes`. Of several files the folder that suits all is wanted: those in `others` are tried first.
///
/// # Errors
/// [`Error::Protos`] that names the import which is missing, and who wants it.
pub fn root_of(file: &Path, includes: &[PathBuf], others: &[Root]) -> Result<Root, Error> {
    let whole = fs::canonicalize(file)
        .map_err(|error| Error::Protos(format!("{}: {error}", file.display())))?;
    let known = others.iter().map(|root| root.folder.clone());
    let above = whole.ancestors().skip(1).map(Path::to_owned);
    let mut missing = None;
    for folder in known.chain(above_package(&whole)).chain(above) {
        let Ok(name) = whole.strip_prefix(&folder) else {
            continue;
        };
        let name = name.to_string_lossy().replace('\\', "/");
        let roots: Vec<_> = [folder.clone()]
            .into_iter()
            .chain(includes.iter().cloned())
            .collect();
        // Two files of one name would be one.
        if others
            .iter()
            .any(|other| other.name == name && other.folder != folder)
        {
            continue;
        }
        match first_missing(&name, &roots, &mut BTreeSet::new())? {
            None => return Ok(Root { folder, name }),
            // The nearest folder's is the one that people mean.
            Some(import) => missing = missing.or(Some(import)),
        }
    }
    let Some((import, wanted_by)) = missing else {
        return Err(Error::Protos(format!(
            "{} has the name of another file: name a folder above both by --include",
            file.display()
        )));
    };
    Err(Error::Protos(format!(
        "{wanted_by} imports {import}, which is in no folder above {}: name the folder it is in by --include",
        file.display()
    )))
}

/// The folder above those that a file's package names, where it lies in such: of `acme.orders.v1` in
/// `protos/acme/orders/v1/` it is `protos/`.
fn above_package(file: &Path) -> Option<PathBuf> {
    let source = fs::read_to_string(file).ok()?;
    let package = statements(&source).into_iter().find_map(|statement| {
        let name = statement.strip_prefix("package")?;
        name.starts_with(char::is_whitespace)
            .then(|| name.trim().to_owned())
    })?;
    let mut folder = file.parent()?;
    for segment in package.trim().split('.').rev() {
        if folder.file_name()? != segment {
            return None;
        }
        folder = folder.parent()?;
    }
    Some(folder.to_owned())
}

/// The first import that cannot be found, with who wants it.
fn first_missing(
    name: &str,
    roots: &[PathBuf],
    seen: &mut BTreeSet<String>,
) -> Result<Option<(String, String)>, Error> {
    if !seen.insert(name.to_owned()) {
        return Ok(None);
    }
    let Some(path) = roots
        .iter()
        .map(|root| root.join(name))
        .find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let source = fs::read_to_string(&path)
        .map_err(|error| Error::Protos(format!("{}: {error}", path.display())))?;
    for import in imports(&source) {
        let is_there = roots.iter().any(|root| root.join(&import).is_file());
        if !is_there && !bundled::is_known(&import) {
            return Ok(Some((import, name.to_owned())));
        }
        if let Some(missing) = first_missing(&import, roots, seen)? {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

/// The files that a source imports.
fn imports(source: &str) -> Vec<String> {
    let imports = statements(source).into_iter().filter_map(|statement| {
        let rest = statement.strip_prefix("import")?.trim_start();
        let rest = rest
            .strip_prefix("public")
            .or(rest.strip_prefix("weak"))
            .unwrap_or(rest)
            .trim();
        let quote = rest
            .chars()
            .next()
            .filter(|quote| ['"', '\''].contains(quote))?;
        Some(rest[1..].split(quote).next()?.to_owned())
    });
    imports.collect()
}

/// What stands between semicolons, without comments: enough for a file's head.
fn statements(source: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
            plain.push(' ');
        } else if next == '"' || next == '\'' {
            // A text may hold what looks like a comment, such as an address.
            let end = rest[1..]
                .find([next, '\n'])
                .map_or(rest.len(), |end| end + 2);
            plain.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            plain.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    plain
        .split(';')
        .map(|statement| statement.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_stand_and_not_in_comments() {
        let source = "/* import \"gone.proto\";\n*/ syntax = \"proto3\"; // import 'x.proto';\n\
                      import public \"a.proto\"; import'b.proto';\toption u = \"http://x\"; import \"c.proto\";";
        assert_eq!(imports(source), ["a.proto", "b.proto", "c.proto"]);
    }
}
