//! A configuration as TOML that says where each value came from.

use toml_edit::{DocumentMut, Item, Table, ser};

use super::{Config, Origins};

/// `config` as TOML, each value followed by a comment that names its origin, secrets redacted.
///
/// # Errors
/// Never for a configuration that came out of a source; the TOML writer's type asks for it.
pub(super) fn annotated(config: &Config, origins: &Origins) -> anyhow::Result<String> {
    let mut document: DocumentMut = ser::to_string_pretty(config)?.parse()?;
    annotate(document.as_table_mut(), &mut Vec::new(), origins);
    Ok(document.to_string())
}

fn annotate(table: &mut Table, path: &mut Vec<String>, origins: &Origins) {
    for (key, item) in table.iter_mut() {
        path.push(key.get().to_owned());
        match item {
            Item::Table(table) => annotate(table, path, origins),
            Item::ArrayOfTables(tables) => tables
                .iter_mut()
                .for_each(|table| annotate(table, path, origins)),
            Item::Value(value) => {
                let origin = origins.at(path.iter().map(String::as_str));
                let comment = format!("  # {}", origin.unwrap_or("default"));
                value.decor_mut().set_suffix(comment);
            }
            Item::None => {}
        }
        path.pop();
    }
}
