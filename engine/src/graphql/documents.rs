//! Documents that were analysed before. A frontend asks the same few questions all day, and reading
//! one is more than half of what a small query costs.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_graphql::{
    Name, ServerError,
    parser::{
        parse_query,
        types::{ExecutableDocument, OperationType},
    },
};
use opentelemetry::{KeyValue, metrics::Meter};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use sha2::{Digest, Sha256};

use super::{
    order::{Left, Order},
    scan,
};
use crate::telemetry::metrics::{Kind, observe};

/// What the documents that are remembered may weigh together. Parsed, a byte of text may become a
/// hundred, so this bounds the memory at a dozen megabytes, whatever is asked.
const REMEMBERED: u64 = 128 * 1024;
/// A heavier document is not remembered.
const HEAVIEST: u64 = 8 * 1024;
/// What a field weighs, with fragments written out: nearly two hundred bytes are kept of each.
const FIELD: u64 = 2;
/// A document of the usual size.
const USUAL: u64 = 256;
/// Each has room for several of the heaviest.
const SHARDS: usize = 2;

/// The documents asked for most often. Those that are asked for once do not push them out, and a
/// look does not keep others from looking: the cache is in shards, and a hit takes no exclusive lock.
#[derive(Debug)]
pub(crate) struct Documents {
    cache: Cache<Box<str>, Arc<Document>, Weight>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What a remembered document weighs: its text, and its fields as often as they are spread.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Box<str>, Arc<Document>> for Weight {
    fn weight(&self, text: &Box<str>, document: &Arc<Document>) -> u64 {
        let analysed = document.analysed.as_ref();
        let fields = analysed.map_or(0, |analysed| analysed.fields);
        text.len() as u64 + FIELD * fields as u64
    }
}

/// A text that should be a document, and all that is known of it before it runs.
#[derive(Debug)]
pub(crate) struct Document {
    /// The first half of the text's SHA-256 in hexadecimal: enough to find it, and no word of a
    /// client's.
    pub(crate) hash: String,
    /// The document, or why it is not executed.
    pub(crate) analysed: Result<Analysed, ServerError>,
}

/// A document that was read.
#[derive(Debug)]
pub(crate) struct Analysed {
    /// What the library executes.
    pub(crate) parsed: ExecutableDocument,
    operations: Vec<Operation>,
    /// How many fields it has, with its fragments written out.
    fields: usize,
}

/// One operation of a document.
#[derive(Debug)]
pub(crate) struct Operation {
    /// `query`, `mutation` or `subscription`.
    pub(crate) kind: &'static str,
    /// Its name, if it has one.
    pub(crate) name: Option<Name>,
    /// The fields it asks for, and the order its answer has.
    pub(crate) order: Order,
}

impl Document {
    fn new(text: &str) -> Self {
        let digest = Sha256::digest(text);
        let hash = digest[..16].iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            hash,
            analysed: analyse(text),
        }
    }

    /// The operation that a request with this operation name means: without a name, the only one.
    pub(crate) fn operation(&self, name: Option<&str>) -> Option<&Operation> {
        let operations = &self.analysed.as_ref().ok()?.operations;
        match name {
            None if operations.len() == 1 => operations.first(),
            None => None,
            Some(name) => operations
                .iter()
                .find(|operation| operation.name.as_deref() == Some(name)),
        }
    }
}

fn analyse(text: &str) -> Result<Analysed, ServerError> {
    let refused = |problem: String| ServerError::new(problem, None);
    scan::check(text).map_err(|too_large| refused(too_large.to_string()))?;
    let parsed = parse_query(text)?;
    let mut left = Left::default();
    let mut operations = Vec::new();
    for (name, definition) in parsed.operations.iter() {
        let selections = &definition.node.selection_set.node;
        let order = Order::of(&parsed, selections, &mut left);
        operations.push(Operation {
            kind: match definition.node.ty {
                OperationType::Query => "query",
                OperationType::Mutation => "mutation",
                OperationType::Subscription => "subscription",
            },
            name: name.cloned(),
            order: order.map_err(|too_large| refused(too_large.to_string()))?,
        });
    }
    Ok(Analysed {
        parsed,
        operations,
        fields: left.read(),
    })
}

impl Default for Documents {
    fn default() -> Self {
        let items = (REMEMBERED / USUAL) as usize;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(REMEMBERED)
            .shards(SHARDS)
            .build();
        let cache = match options {
            Ok(options) => Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // It is complete.
            Err(_) => Cache::with_weighter(items, REMEMBERED, Weight),
        };
        Self {
            cache,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl Documents {
    /// The document that `text` is.
    pub(crate) fn get(&self, text: &str) -> Arc<Document> {
        if let Some(document) = self.cache.get(text) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return document;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let document = Arc::new(Document::new(text));
        // Also one that is refused: it costs as much to read as a good one.
        let key = text.into();
        if Weight.weight(&key, &document) <= HEAVIEST {
            self.cache.insert(key, Arc::clone(&document));
        }
        document
    }

    /// How many documents had been analysed before, and how many had not.
    fn hits_and_misses(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.hits), read(&self.misses))
    }

    /// Registers the instruments of `documents`.
    pub(crate) fn register(meter: &Meter, documents: &Arc<Self>) {
        let each = Arc::clone(documents);
        observe(
            meter,
            Kind::Counter,
            "bff.graphql.documents",
            "",
            "Documents that had been analysed before (hit), and had not (miss).",
            move |observe| {
                let (hits, misses) = each.hits_and_misses();
                observe(hits as f64, &[KeyValue::new("outcome", "hit")]);
                observe(misses as f64, &[KeyValue::new("outcome", "miss")]);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_analysed_once_also_one_that_is_refused() {
        let documents = Documents::default();
        for _ in 0..3 {
            assert!(documents.get("{ hello { message } }").analysed.is_ok());
            assert!(documents.get("{ hello").analysed.is_err());
        }
        assert_eq!(documents.hits_and_misses(), (4, 2));
        assert_eq!(documents.get("{ hello }").hash.len(), 32);
        let long = format!("{{ {} }}", "a ".repeat(HEAVIEST as usize / 2));
        let misses = documents.hits_and_misses().1;
        documents.get(&long);
        documents.get(&long);
        assert_eq!(
            documents.hits_and_misses().1,
            misses + 2,
            "a long one is not remembered"
        );
    }

    #[test]
    fn documents_that_are_asked_for_once_neither_fill_the_memory_nor_wipe_the_hot_ones() {
        let documents = Documents::default();
        let hot: Vec<_> = (0..20)
            .map(|n| format!("{{ hot{n} {{ message }} }}"))
            .collect();
        let ask_hot = || hot.iter().for_each(|text| drop(documents.get(text)));
        (0..5).for_each(|_| ask_hot());
        for n in 0..100_000 {
            documents.get(&format!("{{ cold{n} {{ message }} }}"));
        }
        assert!(documents.cache.weight() <= REMEMBERED);
        let hits = documents.hits_and_misses().0;
        ask_hot();
        assert_eq!(documents.hits_and_misses().0 - hits, 20);
    }

    #[test]
    fn a_document_that_is_small_to_send_and_large_to_keep_is_not_kept() {
        let documents = Documents::default();
        let mut text = "{ ...A0 }".to_owned();
        for n in 0..4 {
            let spread = |alias| format!("a{alias}: a {{ ...A{} }} ", n + 1);
            let spreads: String = (0..7).map(spread).collect();
            text += &format!(" fragment A{n} on Q {{ {spreads} }}");
        }
        text += " fragment A4 on Q { a }";
        assert!(documents.get(&text).analysed.is_ok() && text.len() < 1000);
        documents.get(&text);
        assert_eq!(documents.hits_and_misses(), (0, 2));
    }

    #[test]
    fn two_dozen_documents_of_four_kilobytes_are_all_remembered() {
        let documents = Documents::default();
        let large = |n: usize| format!("{{ a{n} }} #{}", " ".repeat(4000));
        for n in 0..24 {
            documents.get(&large(n));
        }
        for n in 0..24 {
            documents.get(&large(n));
        }
        assert_eq!(documents.hits_and_misses(), (24, 24));
    }

    #[test]
    fn the_operation_that_runs_is_found_by_its_name_or_is_the_only_one() {
        let documents = Documents::default();
        let kind = |text: &str, name: Option<&str>| {
            let document = documents.get(text);
            document.operation(name).map(|operation| operation.kind)
        };
        let two = "query A { a } subscription B { b }";
        assert_eq!(kind(two, Some("B")), Some("subscription"));
        assert_eq!(kind(two, Some("C")), None);
        assert_eq!(kind(two, None), None, "which one is not said");
        assert_eq!(kind("{ a }", None), Some("query"));
        assert_eq!(kind("query A { a }", None), Some("query"));
        assert_eq!(kind("{ a }", Some("A")), None);
        let document = documents.get("{ x: a ...F } fragment F on Q { b }");
        let operation = document.operation(None).unwrap();
        let fields = operation.order.fields();
        let fields: Vec<_> = fields
            .map(|(key, name)| (key.as_str(), name.as_str()))
            .collect();
        assert_eq!(fields, [("x", "a"), ("b", "b")]);
    }
}
