//! Documents that were analysed before. A frontend asks the same few questions all day, and reading
//! one is more than half of what a small query costs.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_graphql::{Name, ServerError, Value, parser::types::OperationType};
use opentelemetry::{KeyValue, metrics::Meter};
use parking_lot::Mutex;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    coerce::{self, Coerced, Variable},
    collect::{Left, Limited, Plan, TooLarge, collect},
    error::Code,
    language::{ast, parse},
    types::Types,
    validate::{Problem, validate},
};
use crate::telemetry::metrics::{Kind, observe};

/// What the documents that are remembered may weigh together. Read, a byte of text may become a
/// hundred, so this bounds the memory at a dozen megabytes, whatever is asked.
const REMEMBERED: u64 = 128 * 1024;
/// A heavier document is not remembered.
const HEAVIEST: u64 = 16 * 1024;
/// What each part of an operation weighs, written out: up to four hundred bytes are kept of each.
const PART: u64 = 4;
/// From this length on a document is analysed where nobody waits for it.
const LARGE: usize = 4 * 1024;
/// A document of the usual size.
const USUAL: u64 = 256;
/// Each has room for several of the heaviest.
const SHARDS: usize = 2;
/// Of an operation whose fields depend on variables, so many ways to decide are remembered.
const MAX_PLANS: usize = 4;

/// The documents asked for most often. Those that are asked for once do not push them out, and a
/// look does not keep others from looking: the cache is in shards, and a hit takes no exclusive lock.
#[derive(Debug)]
pub(crate) struct Documents {
    cache: Cache<Box<str>, Arc<Document>, Weight>,
    types: Arc<Types>,
    limited: Arc<Limited>,
    looks: Arc<Looks>,
    /// Places for large documents that are being analysed.
    analysts: Arc<Semaphore>,
}

/// How often a document was looked for.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What a remembered document weighs: its text, and what is kept of its operations.
#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Box<str>, Arc<Document>> for Weight {
    fn weight(&self, text: &Box<str>, document: &Arc<Document>) -> u64 {
        let analysed = document.analysed.as_ref();
        let parts = analysed.map_or(0, |analysed| analysed.parts);
        text.len() as u64 + PART * parts as u64
    }
}

/// A text that should be a document, and all that is known of it before it runs.
#[derive(Debug)]
pub(crate) struct Document {
    /// The first half of the text's SHA-256 in hexadecimal: enough to find it, and no word of a
    /// client's.
    pub(super) hash: String,
    /// The document, or why it is not executed.
    pub(super) analysed: Result<Analysed, Refusal>,
}

/// Why a text is not executed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) problems: Vec<Problem>,
}

impl Refusal {
    fn new(code: Code, message: String, pos: Option<async_graphql::Pos>) -> Self {
        let problem = Problem {
            message,
            nearest: None,
            at: pos.into_iter().collect(),
        };
        Self {
            code,
            problems: vec![problem],
        }
    }

    /// The errors of the request; names are only suggested to who may see the schema.
    pub(super) fn errors(&self, with_names: bool) -> Vec<ServerError> {
        let problems = self.problems.iter().map(|problem| {
            let mut message = problem.message.clone();
            if let Some(nearest) = problem.nearest.as_ref().filter(|_| with_names) {
                // Writing to a String cannot fail.
                let _ = write!(message, " Did you mean \"{nearest}\"?");
            }
            let mut error = self.code.error(message, None);
            error.locations.clone_from(&problem.at);
            error
        });
        problems.collect()
    }
}

/// A document that was read and is valid.
#[derive(Debug)]
pub(super) struct Analysed {
    operations: Vec<Operation>,
    /// How many parts are kept, with fragments written out.
    parts: usize,
}

/// One operation of a document.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) ty: OperationType,
    /// Its name, if it has one.
    pub(super) name: Option<Name>,
    pub(super) variables: Vec<Variable>,
    plans: Plans,
}

/// What is executed of an operation.
#[derive(Debug)]
enum Plans {
    /// Whatever the variables say.
    One(Arc<Plan>),
    /// By what the variables in `@skip` and `@include` say.
    Many {
        document: Arc<ast::Document>,
        /// The operation's place in the document.
        index: usize,
        /// The parts that each may have to be remembered.
        parts: usize,
        /// The one that was asked for last is the last.
        known: Mutex<Vec<(Vec<bool>, Arc<Plan>)>>,
    },
}

impl Document {
    fn new(text: &str, types: &Types, limited: &Limited) -> Self {
        let digest = Sha256::digest(text);
        let hash = digest[..16].iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            hash,
            analysed: analyse(text, types, limited),
        }
    }

    /// One that was not looked at.
    fn refused(code: Code, why: &str) -> Self {
        Self {
            hash: String::new(),
            analysed: Err(Refusal::new(code, why.to_owned(), None)),
        }
    }

    /// Whether it was not looked at because others were.
    pub(super) fn is_shed(&self) -> bool {
        let refusal = self.analysed.as_ref().err();
        refusal.is_some_and(|refusal| refusal.code == Code::Overloaded)
    }

    /// The operation that a request with this operation name means: without a name, the only one.
    pub(super) fn operation(&self, name: Option<&str>) -> Option<&Operation> {
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

impl Operation {
    /// What is executed of it with these variables.
    ///
    /// # Errors
    /// [`TooLarge`], which for an operation without `@skip` and `@include` was said before.
    pub(super) fn plan(
        &self,
        documents: &Documents,
        variables: &Coerced,
    ) -> Result<Arc<Plan>, TooLarge> {
        let (document, index, parts, known) = match &self.plans {
            Plans::One(plan) => return Ok(Arc::clone(plan)),
            Plans::Many {
                document,
                index,
                parts,
                known,
            } => (document, *index, *parts, known),
        };
        let is = |name: &Name, wanted| variables.get(name) == Some(&Value::Boolean(wanted));
        let deciding = self.variables.iter().filter(|variable| variable.decides);
        let decided: Vec<_> = deciding.map(|variable| is(&variable.name, true)).collect();
        let find = |known: &mut Vec<(Vec<bool>, Arc<Plan>)>| {
            let place = known.iter().position(|known| known.0 == decided)?;
            known[place..].rotate_left(1);
            known.last().map(|(_, plan)| Arc::clone(plan))
        };
        if let Some(plan) = find(&mut known.lock()) {
            return Ok(plan);
        }
        let operation = &document.operations[index];
        let (types, limited) = (&documents.types, &documents.limited);
        let mut left = Left::default();
        let plan = Arc::new(collect(
            types, limited, document, operation, &is, &mut left,
        )?);
        // A fragment that is not included may be written out elsewhere, and then for fewer objects.
        if plan.size.parts <= parts {
            let mut known = known.lock();
            if find(&mut known).is_none() {
                if known.len() == MAX_PLANS {
                    known.remove(0);
                }
                known.push((decided, Arc::clone(&plan)));
            }
        }
        Ok(plan)
    }
}

fn analyse(text: &str, types: &Types, limited: &Limited) -> Result<Analysed, Refusal> {
    let document = parse(text)
        .map_err(|error| Refusal::new(Code::ParseFailed, error.to_string(), error.pos()))?;
    validate(types, &document).map_err(|problems| Refusal {
        code: Code::ValidationFailed,
        problems,
    })?;
    let document = Arc::new(document);
    let mut left = Left::default();
    let mut parts = 0;
    let mut operations = Vec::with_capacity(document.operations.len());
    for (index, operation) in document.operations.iter().enumerate() {
        let variables = variables(types, &document, operation);
        // With all that variables could exclude.
        let plan = collect(
            types,
            limited,
            &document,
            operation,
            &|_, _| true,
            &mut left,
        );
        let plan = plan.map_err(|too_large| {
            let message = too_large.to_string();
            Refusal::new(Code::ValidationFailed, message, Some(operation.pos))
        })?;
        let decided = variables.iter().any(|variable| variable.decides);
        parts += plan.size.parts * if decided { MAX_PLANS } else { 1 };
        let plans = match decided {
            true => Plans::Many {
                document: Arc::clone(&document),
                index,
                parts: plan.size.parts,
                known: Mutex::default(),
            },
            false => Plans::One(Arc::new(plan)),
        };
        operations.push(Operation {
            ty: operation.kind,
            name: operation.name.as_ref().map(|name| name.node.clone()),
            variables,
            plans,
        });
    }
    Ok(Analysed { operations, parts })
}

fn variables(types: &Types, document: &ast::Document, operation: &ast::Operation) -> Vec<Variable> {
    let deciding = document.deciding(operation);
    let variables = operation.variables.iter().filter_map(|variable| {
        let name = &variable.name;
        // Validation has seen to it that there is such a type.
        let ty = types.of_variable(&variable.ty)?;
        let default = variable.default.as_ref();
        let default = default
            .and_then(|default| coerce::literal(types, default, ty, &Coerced::default()).ok()?);
        Some(Variable {
            name: name.node.clone(),
            pos: name.pos,
            ty,
            default,
            decides: deciding.contains(&name.node),
        })
    });
    variables.collect()
}

impl Documents {
    /// An empty cache for the schema of `types`; `limited` are the fields with rules of their own.
    pub(super) fn new(types: Arc<Types>, limited: Limited, looks: Arc<Looks>) -> Self {
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
        // One in two, so that requests go on beside them.
        let analysts =
            std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Self {
            cache,
            types,
            limited: Arc::new(limited),
            looks,
            analysts: Arc::new(Semaphore::new(analysts)),
        }
    }

    /// The schema's types.
    pub(super) fn types(&self) -> &Types {
        &self.types
    }

    /// The fields with rules of their own.
    pub(super) fn limited(&self) -> &Limited {
        &self.limited
    }

    /// The document that `text` is. A large one that is not known is analysed on a thread of its own, and only
    /// a few at one time: it takes longer than others should wait. One whose turn does not come before
    /// `deadline` is refused.
    pub(super) async fn read(&self, text: &str, deadline: Instant) -> Arc<Document> {
        if text.len() < LARGE || self.cache.peek(text).is_some() {
            return self.get(text);
        }
        let place = Arc::clone(&self.analysts).acquire_owned();
        let Ok(place) = timeout_at(deadline, place).await else {
            return Arc::new(Document::refused(
                Code::Overloaded,
                "Too many large documents wait to be read: try again in a second.",
            ));
        };
        // Another request may have asked for it meanwhile.
        if self.cache.peek(text).is_some() {
            return self.get(text);
        }
        self.looks.misses.fetch_add(1, Ordering::Relaxed);
        let (types, limited) = (Arc::clone(&self.types), Arc::clone(&self.limited));
        let owned: Box<str> = text.into();
        let analysed = tokio::task::spawn_blocking(move || {
            // A client that leaves does not end this, and its place is taken until then.
            let _place = place;
            let document = Arc::new(Document::new(&owned, &types, &limited));
            (owned, document)
        });
        match analysed.await {
            Ok((text, document)) => {
                self.remember(text, &document);
                document
            }
            // The runtime ends, or the analysis has panicked.
            Err(_) => Arc::new(Document::refused(
                Code::Internal,
                "The document could not be analysed.",
            )),
        }
    }

    /// The document that `text` is.
    pub(super) fn get(&self, text: &str) -> Arc<Document> {
        if let Some(document) = self.cache.get(text) {
            self.looks.hits.fetch_add(1, Ordering::Relaxed);
            return document;
        }
        self.looks.misses.fetch_add(1, Ordering::Relaxed);
        let document = Arc::new(Document::new(text, &self.types, &self.limited));
        self.remember(text.into(), &document);
        document
    }

    /// Also one that is refused: it costs as much to read as a good one.
    fn remember(&self, text: Box<str>, document: &Arc<Document>) {
        if Weight.weight(&text, document) <= HEAVIEST {
            self.cache.insert(text, Arc::clone(document));
        }
    }
}

impl Looks {
    /// How many documents had been analysed before, and how many had not.
    fn hits_and_misses(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.hits), read(&self.misses))
    }

    /// Registers the instruments of `looks`.
    pub(crate) fn register(meter: &Meter, looks: &Arc<Self>) {
        let each = Arc::clone(looks);
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
    use async_graphql::{EmptyMutation, Schema, SimpleObject, Subscription};
    use futures_util::{Stream, stream};

    use std::time::Duration;

    use super::*;
    use crate::graphql::schema::types_of;

    #[derive(Clone, Default, SimpleObject)]
    struct Greeting {
        message: String,
        again: Option<Box<Greeting>>,
    }

    #[derive(Default, SimpleObject)]
    struct Query {
        hello: Greeting,
    }

    struct Ticks;

    #[Subscription]
    impl Ticks {
        async fn tick(&self) -> impl Stream<Item = i32> {
            stream::empty()
        }
    }

    fn documents() -> Documents {
        let types = types_of(Schema::build(Query::default(), EmptyMutation, Ticks)).unwrap();
        Documents::new(types, Limited::default(), Arc::default())
    }

    #[test]
    fn a_document_is_analysed_once_also_one_that_is_refused() {
        let documents = documents();
        for _ in 0..3 {
            assert!(documents.get("{ hello { message } }").analysed.is_ok());
            assert!(documents.get("{ hello").analysed.is_err());
            assert!(documents.get("{ hello }").analysed.is_err());
        }
        assert_eq!(documents.looks.hits_and_misses(), (6, 3));
        assert_eq!(documents.get("{ hello }").hash.len(), 32);
        let long = format!("{{ __typename }}#{}", "a".repeat(HEAVIEST as usize));
        let misses = documents.looks.hits_and_misses().1;
        documents.get(&long);
        documents.get(&long);
        assert_eq!(
            documents.looks.hits_and_misses().1,
            misses + 2,
            "a long one is not remembered"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_document_whose_turn_does_not_come_is_refused_and_a_small_one_is_read() {
        let documents = documents();
        let large = format!("{{ __typename }} #{}", "a".repeat(LARGE));
        let soon = || Instant::now() + Duration::from_secs(1);
        let all = documents.analysts.available_permits() as u32;
        let taken = Arc::clone(&documents.analysts).acquire_many_owned(all);
        let taken = taken.await.unwrap();
        assert!(documents.read(&large, soon()).await.is_shed());
        assert!(
            documents
                .read("{ __typename }", soon())
                .await
                .analysed
                .is_ok()
        );
        drop(taken);
        assert!(documents.read(&large, soon()).await.analysed.is_ok());
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_make_room_for_another_analysis() {
        let documents = documents();
        let all = documents.analysts.available_permits();
        let fields = "hello { message } ".repeat(20_000);
        let large = format!("{{ {fields} }}");
        let later = Instant::now() + Duration::from_secs(60);
        let mut reading = Box::pin(documents.read(&large, later));
        // It has begun, and its client leaves.
        assert!(futures_util::poll!(&mut reading).is_pending());
        drop(reading);
        assert_eq!(documents.analysts.available_permits(), all - 1);
        // What it takes is given back when it is through.
        let all = Arc::clone(&documents.analysts).acquire_many_owned(all as u32);
        drop(all.await.unwrap());
    }

    #[test]
    fn documents_that_are_asked_for_once_neither_fill_the_memory_nor_wipe_the_hot_ones() {
        let documents = documents();
        let ask = |name: &str, n| drop(documents.get(&format!("{{ {name}{n}: __typename }}")));
        let ask_hot = || (0..20).for_each(|n| ask("hot", n));
        (0..5).for_each(|_| ask_hot());
        (0..100_000).for_each(|n| ask("cold", n));
        assert!(documents.cache.weight() <= REMEMBERED);
        let hits = documents.looks.hits_and_misses().0;
        ask_hot();
        assert_eq!(documents.looks.hits_and_misses().0 - hits, 20);
    }

    #[test]
    fn a_document_that_is_small_to_send_and_large_to_keep_is_not_kept() {
        let documents = documents();
        let mut text = "{ hello { ...A0 } }".to_owned();
        for n in 0..4 {
            let spread = |alias| format!("a{alias}: again {{ ...A{} }} ", n + 1);
            let spreads: String = (0..7).map(spread).collect();
            text += &format!(" fragment A{n} on Greeting {{ {spreads} }}");
        }
        text += " fragment A4 on Greeting { message }";
        assert!(documents.get(&text).analysed.is_ok() && text.len() < 1100);
        documents.get(&text);
        assert_eq!(documents.looks.hits_and_misses(), (0, 2));
    }

    #[test]
    fn half_a_dozen_documents_of_four_kilobytes_are_all_remembered_wherever_they_fall() {
        let documents = documents();
        let ask = |n| drop(documents.get(&format!("{{ a{n}: __typename }} #{}", " ".repeat(4000))));
        // As many as fit into one shard: which one a text falls into is random.
        (0..6).for_each(ask);
        (0..6).for_each(ask);
        assert_eq!(documents.looks.hits_and_misses(), (6, 6));
    }

    #[test]
    fn the_operation_that_runs_is_found_by_its_name_or_is_the_only_one() {
        let documents = documents();
        let ty = |text: &str, name: Option<&str>| {
            let document = documents.get(text);
            document.operation(name).map(|operation| operation.ty)
        };
        let two = "query A { __typename } subscription B { tick }";
        assert_eq!(ty(two, Some("B")), Some(OperationType::Subscription));
        assert_eq!(ty(two, Some("C")), None);
        assert_eq!(ty(two, None), None, "which one is not said");
        assert_eq!(ty("{ __typename }", None), Some(OperationType::Query));
        assert_eq!(
            ty("query A { __typename }", None),
            Some(OperationType::Query)
        );
        assert_eq!(ty("{ __typename }", Some("A")), None);
    }

    #[test]
    fn what_variables_decide_is_collected_once_for_each_way_to_decide() {
        let documents = documents();
        let text = "query($a: Boolean!) { hello { message @include(if: $a) } }";
        let document = documents.get(text);
        let operation = document.operation(None).unwrap();
        let plan = |decided: bool| {
            let mut given = async_graphql::Variables::default();
            given.insert(Name::new("a"), decided.into());
            let variables = &operation.variables;
            let variables = coerce::variables(documents.types(), variables, &mut given).unwrap();
            operation.plan(&documents, &variables).unwrap()
        };
        assert!(Arc::ptr_eq(&plan(true), &plan(true)));
        assert_eq!(plan(true).size.fields, 2);
        assert_eq!(plan(false).size.fields, 1);
    }
}
