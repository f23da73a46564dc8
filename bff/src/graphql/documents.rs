//! Documents that were parsed before. A frontend asks the same few questions all day, and parsing
//! is more than half of what a small query costs.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_graphql::{
    ServerError,
    parser::{parse_query, types::ExecutableDocument},
};
use lru::LruCache;
use sha2::{Digest, Sha256};

use super::scan;

/// Bytes of the documents that are remembered together. Parsed, a byte may become a hundred, so
/// this bounds the memory at a dozen megabytes, whatever is asked.
const REMEMBERED: usize = 128 * 1024;
/// A longer document is not remembered.
const LONGEST: usize = 8 * 1024;

/// The documents asked for most recently.
#[derive(Debug)]
pub struct Documents {
    parsed: Mutex<Remembered>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
struct Remembered {
    documents: LruCache<Box<str>, Arc<Parsed>>,
    bytes: usize,
}

/// A document, and what is known of its text.
#[derive(Debug)]
pub struct Parsed {
    /// The document, or why the text is not executed.
    pub document: Result<ExecutableDocument, ServerError>,
    /// The first half of its text's SHA-256 in hexadecimal: enough to find it, and no word of a
    /// client's.
    pub hash: String,
}

impl Parsed {
    fn new(query: &str) -> Self {
        let digest = Sha256::digest(query);
        let hash = digest[..16].iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            document: match scan::check(query) {
                Ok(()) => parse_query(query).map_err(ServerError::from),
                Err(too_large) => Err(ServerError::new(too_large.to_string(), None)),
            },
            hash,
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            parsed: Mutex::new(Remembered {
                documents: LruCache::unbounded(),
                bytes: 0,
            }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl Documents {
    /// The document that `query` is.
    pub fn parse(&self, query: &str) -> Arc<Parsed> {
        let lock = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().documents.get(query).cloned();
        if let Some(parsed) = known {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return parsed;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let parsed = Arc::new(Parsed::new(query));
        if parsed.document.is_ok() && query.len() <= LONGEST {
            // Dropped after the lock: documents are trees.
            let _forgotten = lock().remember(query, Arc::clone(&parsed));
        }
        parsed
    }

    /// How many documents had been parsed before, and how many had not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.hits), read(&self.misses))
    }
}

impl Remembered {
    /// Remembers a document and returns those that had to go for it.
    fn remember(&mut self, query: &str, parsed: Arc<Parsed>) -> Vec<Arc<Parsed>> {
        self.bytes += query.len();
        let mut gone = Vec::new();
        if let Some(same) = self.documents.put(query.into(), parsed) {
            self.bytes -= query.len();
            gone.push(same);
        }
        while self.bytes > REMEMBERED
            && let Some((text, parsed)) = self.documents.pop_lru()
        {
            self.bytes -= text.len();
            gone.push(parsed);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_parsed_once_and_only_the_latest_are_remembered() {
        let documents = Documents::default();
        for _ in 0..3 {
            assert!(documents.parse("{ hello { message } }").document.is_ok());
        }
        assert_eq!(documents.hits_and_misses(), (2, 1));
        assert!(documents.parse("{ hello").document.is_err());
        for n in 0..100_000 {
            documents.parse(&format!("{{ a{n} }}"));
        }
        let bytes = |documents: &Documents| {
            let parsed = documents.parsed.lock().unwrap();
            let all: usize = parsed.documents.iter().map(|(text, _)| text.len()).sum();
            assert_eq!(all, parsed.bytes);
            all
        };
        assert!(bytes(&documents) <= REMEMBERED && bytes(&documents) > REMEMBERED / 2);
        let long = format!("{{ {} }}", "a ".repeat(LONGEST));
        documents.parse(&long);
        documents.parse(&long);
        assert_eq!(
            documents.hits_and_misses().0,
            2,
            "a long one is not remembered"
        );
        assert_eq!(documents.parse("{ hello }").hash.len(), 32);
    }
}
