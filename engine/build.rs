//! Puts the playground's files into the program, if they are there: `npm ci --prefix engine/playground` brings
//! them.

use std::{env, path::Path};

const FILES: [&str; 4] = [
    "react/umd/react.production.min.js",
    "react-dom/umd/react-dom.production.min.js",
    "graphiql/graphiql.min.js",
    "graphiql/graphiql.min.css",
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(playground)");
    let Ok(root) = env::var("CARGO_MANIFEST_DIR") else {
        return;
    };
    let folder = Path::new(&root).join("playground");
    let files = FILES.map(|file| folder.join("node_modules").join(file));
    if !files.iter().all(|file| file.is_file()) {
        // Changes when they come. What is not there would have everything built anew each time.
        println!("cargo::rerun-if-changed={}", folder.display());
        return;
    }
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rustc-cfg=playground");
}
