//! What one call and one query cost in things that can be counted: allocations, reads of the clock,
//! boxed futures, timers. Beyond what the same costs without us: the generated client on the same
//! channel, and a handler that calls the greeter and prints JSON.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Json, Router, extract::State, routing::post};
use bff_engine::{
    Method,
    internals::{Direct, InstantReply, counts},
};
use bff_tests::{TestBff, fixtures::greeter::GreeterFixture};
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::transport::Channel;

/// Counts the allocations of threads that ask for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that ends has no such cell any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Only one test counts at a time.
static TURN: Mutex<()> = Mutex::new(());

static SAY_HELLO: Method<(), HelloRequest, HelloReply> =
    Method::unary("/helloworld.Greeter/SayHello").idempotent();

fn request() -> HelloRequest {
    HelloRequest {
        name: "Ann".to_owned(),
    }
}

/// A runtime whose threads' allocations are counted.
fn counted_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(|| COUNTED.set(true))
        .enable_all()
        .build()
        .unwrap()
}

const CALLS: u64 = 200;

/// Allocations per round of `act`, warmed up.
async fn allocations(act: impl AsyncFn()) -> f64 {
    for _ in 0..CALLS {
        act().await;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..CALLS {
        act().await;
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / CALLS as f64
}

#[test]
fn a_call_has_one_timer_three_boxed_futures_and_few_allocations_of_its_own() {
    let _turn = TURN.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    COUNTED.set(true);
    let reply = InstantReply::new(&HelloReply {
        message: "Hello, Ann!".to_owned(),
    });
    runtime.block_on(async {
        let client = GreeterClient::new(reply.clone());
        let bare = allocations(async || {
            client.clone().say_hello(request()).await.unwrap();
        })
        .await;
        let direct = Direct::instantly(reply);
        let stack = allocations(async || {
            direct.unary(&SAY_HELLO, &request()).await.unwrap();
        })
        .await;
        let before = counts();
        direct.unary(&SAY_HELLO, &request()).await.unwrap();
        let after = counts();
        let (clock, boxed, timers) = (
            after.clock_reads - before.clock_reads,
            after.boxed_futures - before.boxed_futures,
            after.timers - before.timers,
        );
        println!(
            "a call: {stack} allocations, the generated client alone {bare}; {clock} reads of the \
             clock, {boxed} boxed futures, {timers} timers"
        );
        // Four of them are the client library's, which writes for each call that gzip is understood.
        assert!(stack - bare <= 14.0, "{stack} - {bare}");
        assert_eq!((boxed, timers), (3, 1));
        assert!(clock <= 6, "{clock}");
    });
    COUNTED.set(false);
}

/// What a handler does that is no gateway: asks the greeter and prints JSON.
async fn bare_handler(
    State(client): State<GreeterClient<Channel>>,
    Json(_query): Json<Value>,
) -> Json<Value> {
    let reply = client.clone().say_hello(request()).await.unwrap();
    let message = reply.into_inner().message;
    Json(json!({ "data": { "hello": { "message": message } } }))
}

async fn bare_server(greeter: SocketAddr) -> SocketAddr {
    let channel = Channel::from_shared(format!("http://{greeter}")).unwrap();
    let client = GreeterClient::new(channel.connect().await.unwrap());
    let router = Router::new()
        .route("/graphql", post(bare_handler))
        .with_state(client);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

#[test]
fn a_query_allocates_little_beyond_a_bare_handler() {
    let _turn = TURN.lock().unwrap();
    let ours = counted_runtime();
    // Greeter and client, whose allocations are their own.
    let others = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let greeter = others.block_on(GreeterFixture::start()).unwrap();
    let upstream = greeter.addr();
    let bare = ours.block_on(ours.spawn(bare_server(upstream))).unwrap();
    let bff = ours
        .block_on(ours.spawn(async move {
            let endpoints = json!([format!("http://{upstream}")]);
            TestBff::builder()
                .set("upstreams.greeter.endpoints", endpoints)
                .start()
                .await
        }))
        .unwrap();
    let query = json!({
        "query": "query Hello($name: String!) { hello(name: $name) { message } }",
        "variables": { "name": "Ann" },
    });
    let http = reqwest::Client::new();
    let ask = async |addr: SocketAddr| {
        let url = format!("http://{addr}/graphql");
        let answer = http.post(url).json(&query).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["data"]["hello"]["message"], "Hello, Ann!");
    };
    let (bare, ours_per_query) = others.block_on(async {
        (
            allocations(async || ask(bare).await).await,
            allocations(async || ask(bff.addr()).await).await,
        )
    });
    println!("a query: {ours_per_query} allocations, a bare handler {bare}");
    assert!(ours_per_query - bare <= 90.0, "{ours_per_query} - {bare}");
    ours.shutdown_background();
}
