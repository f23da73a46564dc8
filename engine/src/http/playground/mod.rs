//! The playground at `/`: GraphiQL, from this program if it was built with its files, from a folder of them, or
//! else from a CDN.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    extract::{Path as FileName, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{Html, IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde_json::json;
use tracing::warn;

/// A file of GraphiQL's, and where it is.
struct File {
    /// Its name here.
    name: &'static str,
    /// Where npm puts it.
    module: &'static str,
    /// Package and version, for the CDN.
    package: &'static str,
    /// What it has to be (W3C Subresource Integrity).
    integrity: &'static str,
    #[cfg(playground)]
    text: &'static [u8],
}

macro_rules! file {
    ($name:literal, $module:literal, $package:literal, $integrity:literal) => {
        File {
            name: $name,
            module: $module,
            package: $package,
            integrity: $integrity,
            #[cfg(playground)]
            text: include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/playground/node_modules/",
                $module
            )),
        }
    };
}

/// In the order in which the page needs them; versions are those of `playground/package.json`.
const FILES: [File; 4] = [
    file!(
        "react.js",
        "react/umd/react.production.min.js",
        "react@18.3.1",
        "sha384-DGyLxAyjq0f9SPpVevD6IgztCFlnMF6oW/XQGmfe+IsZ8TqEiDrcHkMLKI6fiB/Z"
    ),
    file!(
        "react-dom.js",
        "react-dom/umd/react-dom.production.min.js",
        "react-dom@18.3.1",
        "sha384-gTGxhz21lVGYNMcdJOyq01Edg0jhn/c22nsx0kyqP0TxaV5WVdsSH1fSDUf5YJj1"
    ),
    file!(
        "graphiql.js",
        "graphiql/graphiql.min.js",
        "graphiql@3.9.0",
        "sha384-8NGfVj4CVlqHajlZj+bPJT4thxPMHMJYn7DWK2CvtopLd02E7qsPHazniBYvVjOO"
    ),
    file!(
        "graphiql.css",
        "graphiql/graphiql.min.css",
        "graphiql@3.9.0",
        "sha384-QMux00XgRtwRLSYIY3kw2rj1ovk5AuuliAchk+HSQbqdbGFnz9GYuqIlOqxhwCE2"
    ),
];

/// The files that this program serves itself.
type Own = Arc<Vec<(&'static str, Bytes)>>;

/// The page, and its files. `folder` is what npm has made of `playground/package.json`, or absent;
/// `operations` are what the page opens with.
pub(super) fn routes(folder: Option<&Path>, operations: &[String]) -> Router {
    let own = own_files(folder);
    let page = page(&own, operations);
    Router::new()
        .route("/", get(move || async move { Html(page) }))
        .route("/playground/{file}", get(file))
        .with_state(own)
}

fn own_files(folder: Option<&Path>) -> Own {
    let Some(folder) = folder else {
        return Arc::new(embedded());
    };
    let read = FILES.iter().map(|file| {
        let text = std::fs::read(folder.join("node_modules").join(file.module))?;
        Ok((file.name, Bytes::from(text)))
    });
    let read: std::io::Result<Vec<_>> = read.collect();
    Arc::new(read.unwrap_or_else(|error| {
        warn!(folder = %folder.display(), %error, "graphql.playground_files has no playground");
        embedded()
    }))
}

/// What the program was built with; empty if with none.
fn embedded() -> Vec<(&'static str, Bytes)> {
    #[cfg(playground)]
    return FILES
        .iter()
        .map(|file| (file.name, Bytes::from_static(file.text)))
        .collect();
    #[cfg(not(playground))]
    Vec::new()
}

async fn file(State(own): State<Own>, FileName(name): FileName<String>) -> Response {
    let Some((name, text)) = own.iter().find(|(own, _)| *own == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = match name.ends_with(".css") {
        true => "text/css; charset=utf-8",
        false => "text/javascript; charset=utf-8",
    };
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")];
    (headers, text.clone()).into_response()
}

fn page(own: &Own, operations: &[String]) -> String {
    let link = |file: &File| {
        let (at, integrity) = match own.is_empty() {
            false => (format!("playground/{}", file.name), String::new()),
            true => {
                let path = file.module.split_once('/').map_or("", |(_, path)| path);
                (
                    format!("https://unpkg.com/{}/{path}", file.package),
                    format!(" integrity=\"{}\" crossorigin", file.integrity),
                )
            }
        };
        match file.name.ends_with(".css") {
            true => format!("<link rel=\"stylesheet\" href=\"{at}\"{integrity}>\n"),
            false => format!("<script src=\"{at}\"{integrity}></script>\n"),
        }
    };
    let links: String = FILES.iter().map(link).collect();
    let tabs: Vec<_> = operations
        .iter()
        .map(|query| json!({ "query": query }))
        .collect();
    // What would end the script is not in it.
    let tabs = json!(tabs).to_string().replace('<', "\\u003c");
    include_str!("page.html")
        .replace("<!-- files -->\n", &links)
        .replace("\"operations\"", &tabs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_files_of_its_own_takes_them_from_elsewhere_and_only_if_they_are_the_right_ones()
     {
        let operations = ["query A { a(b: \"</script>\") }".to_owned()];
        let page = page(&Own::default(), &operations);
        assert_eq!(page.matches("https://unpkg.com/").count(), FILES.len());
        assert_eq!(page.matches("integrity=\"sha384-").count(), FILES.len());
        assert!(
            page.contains("query A { a(b: \\\"\\u003c/script>\\\") }"),
            "{page}"
        );
        let own = Arc::new(vec![("react.js", Bytes::new())]);
        assert!(!super::page(&own, &operations).contains("https://"));
    }
}
