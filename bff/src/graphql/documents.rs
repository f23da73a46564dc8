//! Documents that were parsed before. A frontend asks the same few questions all day, and parsing
//! is more than half of what a small query costs.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_graphql::parser::{parse_query, types::ExecutableDocument};
use lru::LruCache;

/// Documents that are remembered, and how long one may be: together they bound the memory at some
/// twenty megabytes, whatever is asked.
const DOCUMENTS: NonZeroUsize = NonZeroUsize::new(512).unwrap();
const LONGEST: usize = 4096;

/// The documents asked for most recently.
#[derive(Debug)]
pub struct Documents {
    parsed: Mutex<LruCache<Box<str>, ExecutableDocument>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            parsed: Mutex::new(LruCache::new(DOCUMENTS)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl Documents {
    /// The document that `query` is; `None` if it is none.
    pub fn parse(&self, query: &str) -> Option<ExecutableDocument> {
        if query.len() > LONGEST {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return parse_query(query).ok();
        }
        let lock = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = lock().get(query) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(document.clone());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let document = parse_query(query).ok()?;
        lock().put(query.into(), document.clone());
        Some(document)
    }

    /// How many documents had been parsed before, and how many had not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.hits), read(&self.misses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_parsed_once_and_only_the_latest_are_remembered() {
        let documents = Documents::default();
        for _ in 0..3 {
            assert!(documents.parse("{ hello { message } }").is_some());
        }
        assert_eq!(documents.hits_and_misses(), (2, 1));
        assert!(documents.parse("{ hello").is_none());
        for n in 0..10_000 {
            documents.parse(&format!("{{ a{n} }}"));
        }
        assert!(documents.parsed.lock().unwrap().len() <= DOCUMENTS.get());
        let long = format!("{{ {} }}", "a ".repeat(LONGEST));
        documents.parse(&long);
        documents.parse(&long);
        assert_eq!(
            documents.hits_and_misses().0,
            2,
            "a long one is not remembered"
        );
    }
}
