//! A second opinion: the same requests to graphql-js, over the same schema, and what differs.
//!
//! Compared are the answer as text, so also the order of its keys; the places of errors; at what
//! step a request was refused; and how often each resolver was called.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
};

use async_graphql::Value;
use bff_engine::internals::Graph;
use bff_tests::everything::{Calls, everything};
use serde::{Deserialize, Serialize};

use crate::generator::{Case, Model, case};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Before anything was executed, at this step.
    Refused(String),
    Executed {
        answers: Vec<Answered>,
        calls: BTreeMap<String, u32>,
    },
    /// The other side gave up.
    Threw(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answered {
    data: String,
    /// Where errors are, up to the `null` that they led to.
    errors: BTreeSet<String>,
}

impl Answered {
    fn new(data: &Value, errors: &[Vec<serde_json::Value>]) -> Self {
        let errors = errors.iter().map(|path| {
            let mut here = Some(data);
            let mut shown = String::new();
            for segment in path {
                if here.is_none_or(|here| *here == Value::Null) {
                    break;
                }
                shown += &format!("/{segment}");
                here = match (here, segment) {
                    (Some(Value::Object(object)), serde_json::Value::String(key)) => {
                        object.get(key.as_str())
                    }
                    (Some(Value::List(list)), serde_json::Value::Number(index)) => {
                        index.as_u64().and_then(|index| list.get(index as usize))
                    }
                    _ => None,
                };
            }
            shown
        });
        Self {
            data: serde_json::to_string(data).unwrap(),
            errors: errors.collect(),
        }
    }
}

#[derive(Deserialize)]
struct OursAnswered {
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<OursError>,
}

#[derive(Deserialize)]
struct OursError {
    message: String,
    #[serde(default)]
    path: Vec<serde_json::Value>,
    #[serde(default)]
    extensions: BTreeMap<String, serde_json::Value>,
}

/// What we answer.
pub(crate) struct Ours {
    graph: Graph,
    calls: Calls,
    pub(crate) model: Model,
    pub(crate) messages: Vec<String>,
}

impl Ours {
    pub(crate) fn new() -> Self {
        let (graph, calls) = everything("").unwrap();
        let model = Model::of(graph.sdl());
        Self {
            graph,
            calls,
            model,
            messages: Vec::new(),
        }
    }

    pub(crate) fn sdl(&self) -> &str {
        self.graph.sdl()
    }

    pub(crate) async fn answer(&mut self, body: serde_json::Value, subscribes: bool) -> Outcome {
        self.calls.take();
        let texts = match subscribes {
            true => self.graph.subscribe(body).await.unwrap(),
            false => vec![self.graph.execute(body).await.unwrap()],
        };
        let calls = self.calls.take();
        let mut answers = Vec::new();
        self.messages.clear();
        for text in &texts {
            let answered: OursAnswered = serde_json::from_str(text).unwrap();
            let errors = answered.errors.iter();
            self.messages
                .extend(errors.map(|error| error.message.clone()));
            let of_request = |error: &OursError| error.path.is_empty();
            let refused = !answered.errors.is_empty() && answered.errors.iter().all(of_request);
            // A stream always has `data`.
            let no_data = match subscribes {
                true => refused,
                false => !text.contains("\"data\":"),
            };
            if no_data && refused {
                let code = answered.errors[0].extensions.get("code");
                let step = match code.and_then(|code| code.as_str()).unwrap_or_default() {
                    "GRAPHQL_PARSE_FAILED" => "parse",
                    "GRAPHQL_VALIDATION_FAILED" => "validate",
                    "BAD_USER_INPUT" | "OPERATION_RESOLUTION_FAILURE" => "request",
                    _ => "?",
                };
                return Outcome::Refused(step.to_owned());
            }
            let paths: Vec<_> = answered
                .errors
                .into_iter()
                .map(|error| error.path)
                .collect();
            answers.push(Answered::new(&answered.data.unwrap_or_default(), &paths));
        }
        Outcome::Executed { answers, calls }
    }
}

#[derive(Deserialize)]
struct TheirsAnswered {
    data: Option<String>,
    errors: Vec<Vec<serde_json::Value>>,
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct TheirsOutcome {
    refused: Option<String>,
    threw: Option<String>,
    #[serde(default)]
    messages: Vec<String>,
    #[serde(default)]
    answers: Vec<TheirsAnswered>,
    #[serde(default)]
    calls: BTreeMap<String, u32>,
}

/// What graphql-js answers.
pub(crate) struct Oracle {
    child: Child,
    input: ChildStdin,
    /// Lines as they come: whoever reads late does not keep it from reading.
    output: mpsc::Receiver<String>,
    pub(crate) messages: Vec<String>,
}

impl Oracle {
    /// Starts it where `node_modules` has graphql-js.
    pub(crate) fn start(modules: &Path, sdl: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphql");
        let program = modules.join("oracle.mjs");
        std::fs::copy(here.join("oracle.mjs"), &program).unwrap();
        let schema = modules.join("schema.graphql");
        std::fs::write(&schema, sdl).unwrap();
        let mut child = Command::new("node")
            .arg(program)
            .arg(schema)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, output) = mpsc::channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        Self {
            child,
            input,
            output,
            messages: Vec::new(),
        }
    }

    fn ask(&mut self, case: &Case) {
        let mut body = case.body();
        body["subscribe"] = case.subscribes.into();
        writeln!(self.input, "{body}").unwrap();
    }

    /// The answer to what was asked first of what is not answered.
    fn answer(&mut self) -> Outcome {
        let line = self.output.recv().unwrap();
        let outcome: TheirsOutcome = serde_json::from_str(&line).unwrap();
        self.messages = outcome.messages;
        if let Some(step) = outcome.refused {
            return Outcome::Refused(step);
        }
        if let Some(threw) = outcome.threw {
            return Outcome::Threw(threw);
        }
        let answers = outcome.answers.iter().map(|answered| {
            self.messages.extend(answered.messages.iter().cloned());
            let data = answered.data.as_deref().unwrap_or("null");
            Answered::new(&serde_json::from_str(data).unwrap(), &answered.errors)
        });
        Outcome::Executed {
            answers: answers.collect(),
            calls: outcome.calls,
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why the two may differ; a fault of graphql-js says so.
fn reason(
    ours: &Outcome,
    theirs: &Outcome,
    text: &str,
    messages: [&[String]; 2],
) -> Option<&'static str> {
    let says = |words: &str| {
        messages
            .concat()
            .iter()
            .any(|message| message.contains(words))
    };
    match (ours, theirs) {
        (_, Outcome::Threw(_)) => Some("graphql-js throws"),
        (Outcome::Refused(step), _)
            if step == "validate" && conflicts_with_typename(text, messages[0]) =>
        {
            Some("graphql-js does not look at the fields under `__typename`'s key")
        }
        (Outcome::Refused(_), Outcome::Executed { .. })
            if says("must not be null: @skip or @include asks") =>
        {
            Some("null for @skip or @include refuses the request, and not only the selection")
        }
        (
            Outcome::Executed { answers, calls },
            Outcome::Executed {
                answers: same,
                calls: more,
            },
        ) if answers == same && answers.iter().any(|answered| !answered.errors.is_empty()) => {
            let fewer = |(of, more): (&String, &u32)| {
                let calls = calls.get(of).copied().unwrap_or_default();
                calls == *more || calls < *more && !of.starts_with("Mutation.")
            };
            let fewer = more.iter().all(fewer) && calls.keys().all(|of| more.contains_key(of));
            fewer.then_some("nobody is called for an object that is null because of an argument")
        }
        _ => None,
    }
}

/// Whether a conflict is about a key under which `text` asks for `__typename`.
fn conflicts_with_typename(text: &str, messages: &[String]) -> bool {
    let keys = messages
        .iter()
        .filter(|message| message.contains("conflict because"));
    let mut keys = keys.filter_map(|message| message.split('"').nth(1));
    keys.any(|key| text.contains(&format!("{key}: __typename")))
}

/// A request with what graphql-js answered.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) body: serde_json::Value,
    pub(crate) subscribes: bool,
    pub(crate) outcome: Outcome,
}

/// `count` short requests on which both sides agree, a line each.
pub(crate) async fn record(modules: &Path, count: usize) -> String {
    let mut ours = Ours::new();
    let mut oracle = Oracle::start(modules, ours.sdl());
    let mut lines = Vec::new();
    let mut seeds = 1..;
    while lines.len() < count {
        let case = case(&ours.model, seeds.next().unwrap());
        let (one, outcome) = both(&mut ours, &mut oracle, &case).await;
        let recorded = Recorded {
            body: case.body(),
            subscribes: case.subscribes,
            outcome,
        };
        let line = serde_json::to_string(&recorded).unwrap();
        if one == recorded.outcome && line.len() < 1000 {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// Requests that the other side may be ahead.
const AHEAD: usize = 32;

/// Compares `count` requests from `seed` on, and shows what differs, made small.
pub(crate) async fn compare(modules: &Path, seed: u64, count: u64, most: usize) -> usize {
    let mut ours = Ours::new();
    let mut oracle = Oracle::start(modules, ours.sdl());
    let mut executed = 0;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = 0;
    // Both sides work at the same time.
    let mut asked = VecDeque::new();
    let mut seeds = seed..seed + count;
    loop {
        while asked.len() < AHEAD
            && let Some(seed) = seeds.next()
        {
            let case = case(&ours.model, seed);
            oracle.ask(&case);
            asked.push_back((seed, case));
        }
        let Some((seed, case)) = asked.pop_front() else {
            break;
        };
        let one = ours.answer(case.body(), case.subscribes).await;
        let other = oracle.answer();
        executed += usize::from(matches!(one, Outcome::Executed { .. }));
        if let (Outcome::Refused(_), Some(message)) = (&one, ours.messages.first()) {
            let words = message.split('"').step_by(2).collect::<Vec<_>>().join("_");
            *refusals.entry(words).or_default() += 1;
        }
        if one == other {
            continue;
        }
        if let Some(reason) = reason(
            &one,
            &other,
            &case.text(),
            [&ours.messages, &oracle.messages],
        ) {
            *reasons.entry(reason).or_default() += 1;
            continue;
        }
        found += 1;
        // Those are asked again when the difference is small.
        let waiting = asked.len();
        (0..waiting).for_each(|_| drop(oracle.answer()));
        let small = shrink(&mut ours, &mut oracle, case).await;
        let (one, other) = both(&mut ours, &mut oracle, &small).await;
        println!(
            "seed {seed}: {}\n  {}\n  ours:   {one:?} {:?}\n  theirs: {other:?} {:?}",
            small.text(),
            small.body()["variables"],
            ours.messages,
            oracle.messages
        );
        if found == most {
            break;
        }
        asked.iter().for_each(|(_, case)| oracle.ask(case));
    }
    let mut refusals: Vec<_> = refusals.into_iter().collect();
    refusals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (words, count) in refusals {
        println!("{count:>7} refused: {words}");
    }
    println!(
        "{count} requests, {executed} executed, {found} differences; with a reason: {reasons:?}"
    );
    found
}

async fn both(ours: &mut Ours, oracle: &mut Oracle, case: &Case) -> (Outcome, Outcome) {
    oracle.ask(case);
    let answer = ours.answer(case.body(), case.subscribes).await;
    (answer, oracle.answer())
}

/// Leaves out of `case` what the difference does not need.
async fn shrink(ours: &mut Ours, oracle: &mut Oracle, mut case: Case) -> Case {
    let (one, other) = both(ours, oracle, &case).await;
    let kind = |outcome: &Outcome| std::mem::discriminant(outcome);
    'smaller: loop {
        for smaller in case.smaller() {
            let (a, b) = both(ours, oracle, &smaller).await;
            if a != b
                && kind(&a) == kind(&one)
                && kind(&b) == kind(&other)
                && reason(&a, &b, &smaller.text(), [&ours.messages, &oracle.messages]).is_none()
            {
                case = smaller;
                continue 'smaller;
            }
        }
        return case;
    }
}
