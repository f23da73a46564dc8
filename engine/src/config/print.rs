//! A configuration as TOML that says where each value came from.

use toml_edit::{DocumentMut, Item, Table, ser};

use super::Config;

/// `config` as TOML, each value followed by a comment that names its origin, secrets redacted.
///
/// # Errors
/// Never for a configuration that came out of a source; the TOML writer's type asks for it.
pub(super) fn annotated<'o>(
    config: &Config,
    origin: impl Fn(&[String]) -> Option<&'o str>,
) -> anyhow::Result<String> {
    let mut document: DocumentMut = ser::to_string_pretty(config)?.parse()?;
    annotate(document.as_table_mut(), &mut Vec::new(), &origin);
    Ok(document.to_string())
}

fn annotate<'o>(
    table: &mut Table,
    path: &mut Vec<String>,
    origin: &impl Fn(&[String]) -> Option<&'o str>,
) {
    for (key, item) in table.iter_mut() {
        path.push(key.get().to_owned());
        match item {
            Item::Table(table) => annotate(table, path, origin),
            Item::ArrayOfTables(tables) => tables
                .iter_mut()
                .for_each(|table| annotate(table, path, origin)),
            Item::Value(value) => {
                let comment = format!("  # {}", origin(path).unwrap_or("default"));
                value.decor_mut().set_suffix(comment);
            }
            Item::None => {}
        }
        path.pop();
    }
}
