//! Comments of protos, as documentation.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// The longest documentation that is taken over.
const LONGEST: usize = 1000;

/// Comments of files, by the place of what they belong to.
#[derive(Debug, Default)]
pub(crate) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(crate) fn of(files: impl Iterator<Item = FileDescriptor>) -> Self {
        let mut comments = HashMap::new();
        for file in files {
            let name = file.name().to_owned();
            let info = file.file_descriptor_proto().source_code_info.clone();
            for location in info.unwrap_or_default().location {
                let text = match (location.leading_comments(), location.trailing_comments()) {
                    ("", trailing) => trailing,
                    (leading, _) => leading,
                };
                let text = cleaned(text);
                if !text.is_empty() {
                    comments.insert((name.clone(), location.path), text);
                }
            }
        }
        Self(comments)
    }

    /// The lines for what stands at `path` of `file`.
    pub(crate) fn at(&self, file: &FileDescriptor, path: &[i32]) -> Vec<String> {
        let text = self.0.get(&(file.name().to_owned(), path.to_vec()));
        let lines = text.into_iter().flat_map(|text| text.lines());
        lines.map(str::to_owned).collect()
    }
}

/// Without remarks for linters and heads of licences, and not beyond reason.
fn cleaned(text: &str) -> String {
    let is_remark = |line: &str| {
        [
            "buf:lint",
            "nolint",
            "protolint",
            "lint:",
            "api-linter",
            "(--",
            "--)",
            "@exclude",
            "SPDX-",
        ]
        .iter()
        .any(|mark| line.starts_with(mark))
    };
    let lines = text.lines().map(str::trim).filter(|line| !is_remark(line));
    // A frame of stars or slashes says nothing.
    let lines = lines.map(|line| line.trim_start_matches(['*', '/']).trim());
    let mut in_code = false;
    let lines = lines.map(|line| match line.strip_prefix("```") {
        Some(language) => {
            in_code = !in_code;
            // Without a language it would be Rust's, and a test.
            match in_code && ["", "rust", "rs"].contains(&language.trim()) {
                true => "```text",
                false => line,
            }
        }
        None => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.trim();
    if text.contains("Licensed under") || text.starts_with("Copyright") {
        return String::new();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
