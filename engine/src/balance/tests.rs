//! The balancer under faults, on a paused clock.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};
use tower::ServiceExt;

use super::*;
use crate::{
    call::{CallError, CallOptions, Code},
    simulation::{
        Behaviour, FAST_FAILURE, GOOD, IDEMPOTENT, MS, SECOND, SLOW, STREAMING, Stall, World, call,
        failing, figure, load, members, send, weighted,
    },
};

/// A call that may take as long as `config` has it.
fn call_of(config: Config) -> Call {
    let message = bytes::Bytes::from_static(b"name");
    Call::new(
        &IDEMPOTENT,
        message,
        Arc::new(config),
        CallOptions::default(),
    )
}

fn four(world: &World) -> Balance<World> {
    world.balance(Strategy::P2c, &members(0..4))
}

#[tokio::test(start_paused = true)]
async fn f3_one_of_four_slow_gets_under_a_hundredth_of_the_calls_after_two_seconds() {
    let world = World::new(&[const { GOOD }; 4]);
    let balance = four(&world);
    let normal = load(&balance, 5 * SECOND).await;
    world.set(0, SLOW);
    load(&balance, 2 * SECOND).await;
    world.reset();
    let seen = load(&balance, 60 * SECOND).await;
    figure!(
        "F3",
        "the slow one of four gets {:.2} % of the calls; p99 {:?}, normal {:?}",
        world.share(0) * 100.0,
        seen.p99(),
        normal.p99()
    );
    assert!(world.share(0) <= 0.01, "share {}", world.share(0));
    assert!(
        seen.p99() <= 2 * normal.p99(),
        "{:?} against {:?}",
        seen.p99(),
        normal.p99()
    );
    assert_eq!(seen.errors(), 0);
}

#[tokio::test(start_paused = true)]
async fn f3_a_slow_one_that_is_fast_again_gets_its_share_back() {
    let world = World::new(&[SLOW, GOOD, GOOD, GOOD]);
    let balance = four(&world);
    load(&balance, 5 * SECOND).await;
    world.set(0, GOOD);
    load(&balance, 60 * SECOND).await;
    world.reset();
    load(&balance, 30 * SECOND).await;
    assert!(
        (world.share(0) - 0.25).abs() < 0.05,
        "share {}",
        world.share(0)
    );
}

#[tokio::test(start_paused = true)]
async fn f4_one_of_four_that_fails_fast_gets_under_a_hundredth_of_the_calls() {
    let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
    let seen = load(&four(&world), 60 * SECOND).await;
    figure!(
        "F4",
        "the failing one of four gets {:.3} % of the calls; client errors without retries {:.3} %",
        world.share(0) * 100.0,
        seen.error_ratio() * 100.0
    );
    assert!(world.share(0) <= 0.01, "share {}", world.share(0));
    assert!(seen.error_ratio() <= 0.001, "errors {}", seen.error_ratio());
}

#[tokio::test(start_paused = true)]
async fn f1_an_instance_that_is_gone_is_ejected_after_five_failures() {
    let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..4));
    while balance.ejected().is_empty() {
        call(balance.clone()).await;
    }
    figure!("F1", "ejected after {} failures", world.calls(0));
    assert_eq!(balance.ejected(), ["host:0"]);
    assert_eq!(world.calls(0), 5);
}

#[tokio::test(start_paused = true)]
async fn f15_with_three_of_four_bad_ejection_stops_at_its_cap_and_there_is_always_an_instance() {
    let world = World::new(&[FAST_FAILURE, FAST_FAILURE, FAST_FAILURE, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..4));
    for _ in 0..2000 {
        let ended = call(balance.clone()).await;
        assert!(
            matches!(ended.code(), Code::Ok | Code::Unavailable),
            "{ended:?}"
        );
        assert!(!matches!(ended.error(), Some(CallError::NoInstance(_))));
        assert!(balance.ejected().len() <= 2, "{:?}", balance.ejected());
    }
    figure!(
        "F15",
        "three of four bad: 2 ejected, the good one gets {:.0} %",
        world.share(3) * 100.0
    );
    assert_eq!(balance.ejected().len(), 2);
    assert!(
        world.share(3) > 0.3,
        "share of the good one {}",
        world.share(3)
    );
}

#[tokio::test(start_paused = true)]
async fn f15_failures_that_arrive_together_do_not_eject_more_than_the_cap() {
    let world = World::new(&[const { FAST_FAILURE }; 4]);
    let balance = world.balance(Strategy::Random, &members(0..4));
    let calls: JoinSet<_> = (0..1000).map(|_| call(balance.clone())).collect();
    assert!(
        calls
            .join_all()
            .await
            .iter()
            .all(|ended| ended.code() == Code::Unavailable)
    );
    assert_eq!(balance.ejected().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shrinks_to_its_ejected_instances_panics_and_uses_them() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    balance.apply(&members([0]));
    let ended = call(balance.clone()).await;
    assert!(
        matches!(ended.error(), Some(CallError::Peer { .. })),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ejected_instance_returns_after_one_good_probe() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    world.set(0, GOOD);
    world.reset();
    load(&balance, SECOND).await;
    assert_eq!(world.calls(0), 0, "still ejected");
    load(&balance, 5 * SECOND).await;
    assert!(balance.ejected().is_empty());
    assert!(world.calls(0) > 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_during_a_probe_gives_the_probe_back_and_counts_for_nothing() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    world.set(0, GOOD);
    world.reset();
    sleep(6 * SECOND).await;
    let left = tokio::time::timeout(MS, call(balance.clone())).await;
    assert!(left.is_err());
    assert_eq!(world.calls(0), 1, "the abandoned call was the probe");
    assert_eq!(balance.in_flight(), 0);
    assert!(call(balance.clone()).await.ok());
    assert_eq!(world.calls(0), 1, "the next probe is not due yet");
    sleep(SECOND).await;
    assert!(call(balance.clone()).await.ok());
    assert_eq!(world.calls(0), 2, "the next probe");
    assert!(balance.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ejected_instance_that_says_nothing_of_use_gets_no_more_than_a_probe_a_second() {
    for code in [Code::Unimplemented, Code::NotFound, Code::ResourceExhausted] {
        let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
        let balance = world.balance(Strategy::Random, &members(0..4));
        while balance.ejected().is_empty() {
            call(balance.clone()).await;
        }
        world.set(0, failing(code));
        sleep(6 * SECOND).await;
        world.reset();
        load(&balance, 30 * SECOND).await;
        assert!(
            world.calls(0) <= 31,
            "{} calls with {code:?}",
            world.calls(0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_unary_answer_that_stalls_after_its_message_or_ends_in_an_error_counts_as_a_failure() {
    for stall in [Stall::AfterMessage, Stall::ErrorAfterMessage] {
        let bad = Behaviour { stall, ..GOOD };
        let world = World::new(&[bad, GOOD]);
        let balance = world.balance(Strategy::Random, &members(0..2));
        for _ in 0..200 {
            let config = Config {
                timeout: 100 * MS,
                ..Config::default()
            };
            send(balance.clone(), call_of(config)).await;
        }
        assert_eq!(balance.ejected(), ["host:0"], "{stall:?}");
        assert_eq!(balance.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_instances_share_the_calls_equally() {
    for strategy in [Strategy::P2c, Strategy::Random] {
        let world = World::new(&[const { GOOD }; 3]);
        load(&world.balance(strategy, &members(0..3)), 60 * SECOND).await;
        for port in 0..3 {
            assert!(
                (world.share(port) - 1.0 / 3.0).abs() < 0.03,
                "{}",
                world.share(port)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn weights_from_the_catalog_are_honoured() {
    for strategy in [Strategy::P2c, Strategy::Random] {
        let world = World::new(&[const { GOOD }; 3]);
        let balance = world.balance(strategy, &weighted([(0, 6), (1, 3), (2, 1)]));
        // One after the other: with calls in flight, p2c also looks at who is idle.
        for _ in 0..10_000 {
            let _ = call(balance.clone()).await;
        }
        for (port, wanted) in [(0, 0.6), (1, 0.3), (2, 0.1)] {
            assert!(
                (world.share(port) - wanted).abs() < 0.03,
                "{}",
                world.share(port)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_joins_is_used_at_once_and_is_not_flooded() {
    let world = World::new(&[const { GOOD }; 4]);
    let balance = world.balance(Strategy::P2c, &members(0..3));
    load(&balance, 5 * SECOND).await;
    balance.apply(&members(0..4));
    world.reset();
    load(&balance, SECOND).await;
    assert!(
        world.share(3) > 0.15 && world.share(3) < 0.40,
        "share {}",
        world.share(3)
    );
}

#[tokio::test(start_paused = true)]
async fn instances_that_stay_keep_their_channel_through_any_change_of_the_list() {
    let world = World::new(&[const { GOOD }; 8]);
    let balance = four(&world);
    load(&balance, SECOND).await;
    assert_eq!(world.connections(), 4);
    for round in 0..100 {
        balance.apply(&weighted((0..4).map(|port| (port, 1 + round % 3))));
        balance.apply(&members([3, 1, 0, 2]));
        load(&balance, 50 * MS).await;
    }
    assert_eq!(world.connections(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_on_an_instance_that_leaves_the_list_finishes() {
    let world = World::new(&[SLOW]);
    let balance = world.balance(Strategy::P2c, &members([0]));
    let running = tokio::spawn(call(balance.clone()));
    sleep(100 * MS).await;
    balance.apply(&members([]));
    assert!(running.await.unwrap().ok());
}

#[tokio::test(start_paused = true)]
async fn unknown_and_empty_are_different_errors_and_both_come_at_once() {
    let world = World::default();
    let balance = world.balance(Strategy::P2c, &Members::Unknown);
    for known in [false, true] {
        let ended = call(balance.clone()).await;
        assert!(
            matches!(ended.error(), Some(CallError::NoInstance(none)) if none.known == known),
            "{ended:?}"
        );
        assert_eq!(ended.took, Duration::ZERO);
        balance.apply(&members([]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_goes_to_another_instance() {
    let world = World::new(&[const { GOOD }; 3]);
    let balance = world.balance(Strategy::P2c, &members(0..3));
    for _ in 0..200 {
        let mut call = call_of(Config::default());
        for number in 1..=3 {
            call.attempt.number = number;
            call.attempt.resent = number > 1;
            balance
                .clone()
                .oneshot(call.clone())
                .await
                .expect("an answer");
        }
        let mut list = call.context.attempted();
        list.sort_unstable_by_key(|address| address.port_u16());
        assert_eq!(list, ["host:0", "host:1", "host:2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn other_connection_settings_make_new_channels_and_end_no_call() {
    let world = World::new(&[GOOD, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..2));
    for _ in 0..50 {
        assert!(call(balance.clone()).await.ok());
    }
    assert_eq!(world.connections(), 2);
    let in_flight = tokio::spawn(call(balance.clone()));
    tokio::time::sleep(MS).await;
    balance.reconnect(world.clone());
    for _ in 0..50 {
        assert!(call(balance.clone()).await.ok());
    }
    assert!(in_flight.await.unwrap().ok());
    assert_eq!(world.connections(), 4);
    // Other rules for choosing leave the connections alone.
    balance.reconfigure(&Config::default());
    for _ in 0..50 {
        assert!(call(balance.clone()).await.ok());
    }
    assert_eq!(world.connections(), 4);
}

/// Opens `streams` streams, each of which has a message and then nothing.
async fn open(balance: &Balance<World>, streams: usize) -> Vec<Reply> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let message = bytes::Bytes::from_static(b"name");
        let call = Call::new(&STREAMING, message, Arc::default(), CallOptions::default());
        open.push(balance.clone().oneshot(call).await.expect("a message"));
    }
    open
}

#[tokio::test(start_paused = true)]
async fn streams_go_where_fewest_are_open_in_proportion_to_weights() {
    let quiet = Behaviour {
        stall: Stall::AfterMessage,
        ..GOOD
    };
    let world = World::new(&vec![quiet; 4]);
    let balance = world.balance(Strategy::P2c, &weighted([(0, 1), (1, 1), (2, 2)]));
    let before = open(&balance, 80).await;
    assert_eq!([0, 1, 2].map(|port| world.calls(port)), [20, 20, 40]);
    // A newcomer has none.
    balance.apply(&weighted([(0, 1), (1, 1), (2, 2), (3, 1)]));
    sleep(MS).await;
    let after = open(&balance, 20).await;
    assert_eq!(world.calls(3), 20);
    // What has ended is open no more.
    drop((before, after));
    world.reset();
    let _again = open(&balance, 50).await;
    assert_eq!([0, 1, 2, 3].map(|port| world.calls(port)), [10, 10, 20, 10]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_few_streams_because_it_is_bad_and_gets_no_more_of_them_for_it() {
    let quiet = Behaviour {
        stall: Stall::AfterMessage,
        ..GOOD
    };
    let slow = Behaviour {
        latency: SECOND,
        ..GOOD
    };
    let world = World::new(&[slow, quiet.clone(), quiet.clone(), quiet]);
    let balance = four(&world);
    let _open = open(&balance, 300).await;
    assert!(world.calls(0) <= 3, "{}", world.calls(0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_until_the_one_by_other_settings_is_up() {
    let world = World::new(&[GOOD, GOOD]);
    let balance = world.balance(Strategy::P2c, &members(0..2));
    assert!(call(balance.clone()).await.ok());
    // The other settings do not work.
    world.set_all(&Behaviour {
        refuses: true,
        ..GOOD
    });
    balance.reconnect(world.clone());
    for _ in 0..50 {
        assert!(call(balance.clone()).await.ok());
    }
    assert_eq!(balance.connected(), 2);
    world.set_all(&GOOD);
    let before = world.connections();
    sleep(20 * SECOND).await;
    assert_eq!(world.connections() - before, 2);
    assert!(call(balance.clone()).await.ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_being_dialled_or_has_just_left_the_list_is_connected_by_other_settings_too() {
    let world = World::new(&[const { GOOD }; 2]);
    world.set(
        0,
        Behaviour {
            greets_after: SECOND,
            ..GOOD
        },
    );
    let balance = world.balance(Strategy::P2c, &members(0..2));
    sleep(100 * MS).await;
    balance.apply(&members(0..1));
    balance.reconnect(world.clone());
    balance.apply(&members(0..2));
    sleep(5 * SECOND).await;
    assert_eq!(world.connections(), 4);
    assert_eq!(balance.connected(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_what_is_idle_is_connected_again_at_once() {
    let world = World::new(&[Behaviour {
        keeps_for: Some(2 * SECOND),
        ..GOOD
    }]);
    let balance = world.balance(Strategy::P2c, &members(0..1));
    sleep(50 * MS).await;
    for _ in 0..600 {
        assert_eq!(balance.connected(), 1);
        sleep(100 * MS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_closes_as_soon_as_it_has_greeted_is_dialled_less_and_less_often() {
    let world = World::new(&[Behaviour {
        keeps_for: Some(MS),
        ..GOOD
    }]);
    let _balance = world.balance(Strategy::P2c, &members(0..1));
    sleep(60 * SECOND).await;
    assert!(world.connections() < 20, "{}", world.connections());
}

#[tokio::test(start_paused = true)]
async fn instances_that_accept_and_say_nothing_keep_nobody_from_being_dialled() {
    let silent = Behaviour {
        greets_after: 5 * SECOND,
        ..GOOD
    };
    let world = World::new(&vec![silent; 100]);
    world.set(100, GOOD);
    let balance = world.balance(Strategy::P2c, &members(0..101));
    sleep(100 * MS).await;
    assert_eq!(balance.connected(), 1);
}

/// The calls of each second on `port`, as shares of all calls of that second.
fn shares(world: &World, port: u16, from: Instant, seconds: u64) -> Vec<f64> {
    let count = |at: Vec<Instant>, second: u64| {
        let begins = from + SECOND * second as u32;
        let within = at
            .iter()
            .filter(|at| **at >= begins && **at < begins + SECOND);
        within.count() as f64
    };
    let of = |port: u16| -> Vec<Instant> { world.received_by(port) };
    let all: Vec<_> = world
        .received()
        .iter()
        .map(|received| received.at)
        .collect();
    (0..seconds)
        .map(|second| count(of(port), second) / count(all.clone(), second).max(1.0))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn f34_a_newcomer_never_gets_more_than_half_again_of_its_fair_share() {
    let busy = Behaviour {
        latency: 200 * MS,
        ..GOOD
    };
    let world = World::new(&[busy.clone(), busy.clone(), busy.clone()]);
    let balance = world.balance(Strategy::P2c, &members(0..2));
    let before = load(&balance, 10 * SECOND).await;
    balance.apply(&members(0..3));
    let joined = Instant::now();
    world.reset();
    let seen = load(&balance, 20 * SECOND).await;
    let highest = shares(&world, 2, joined, 20)
        .into_iter()
        .fold(0.0, f64::max);
    figure!(
        "F34",
        "a newcomer's share of a second is at most {:.0} %",
        highest * 100.0
    );
    assert!(highest <= 0.5, "{highest}");
    assert!(seen.p99() <= before.p99().mul_f64(1.2), "{:?}", seen.p99());
    // And it gets its share in the end.
    assert!(world.share(2) > 0.28, "{}", world.share(2));
}

#[tokio::test(start_paused = true)]
async fn f34_a_newcomer_that_is_cold_is_hardly_noticed() {
    let world = World::new(&[const { GOOD }; 3]);
    let balance = world.balance(Strategy::P2c, &members(0..2));
    let before = load(&balance, 10 * SECOND).await;
    world.set(
        2,
        Behaviour {
            latency: 2 * SECOND,
            ..GOOD
        },
    );
    balance.apply(&members(0..3));
    let seen = load(&balance, 5 * SECOND).await;
    figure!(
        "F34",
        "p99 {:?} beside a cold newcomer, {:?} before",
        seen.p99(),
        before.p99()
    );
    assert!(seen.p99() <= before.p99().mul_f64(1.2), "{:?}", seen.p99());
}

#[tokio::test(start_paused = true)]
async fn f34_an_instance_that_was_idle_is_not_taken_for_the_fastest() {
    let busy = Behaviour {
        latency: 200 * MS,
        ..GOOD
    };
    let world = World::new(&[busy.clone(), busy.clone(), busy]);
    let balance = world.balance(Strategy::P2c, &members(0..3));
    load(&balance, 10 * SECOND).await;
    // Out of the list, and so idle, for half a minute.
    balance.apply(&members(0..2));
    load(&balance, 30 * SECOND).await;
    balance.apply(&members(0..3));
    let back = Instant::now();
    world.reset();
    load(&balance, 10 * SECOND).await;
    let highest = shares(&world, 2, back, 10).into_iter().fold(0.0, f64::max);
    figure!(
        "F34",
        "one that was idle gets at most {:.0} % of a second",
        highest * 100.0
    );
    assert!(highest <= 0.5, "{highest}");
    assert_eq!(world.connections(), 3, "it kept its connection");
}

#[tokio::test(start_paused = true)]
async fn f35_what_is_known_of_an_instance_outlives_its_absence() {
    let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
    let balance = four(&world);
    while balance.ejected().is_empty() {
        call(balance.clone()).await;
    }
    for _ in 0..6 {
        balance.apply(&members(1..4));
        load(&balance, 10 * SECOND).await;
        balance.apply(&members(0..4));
        world.reset();
        load(&balance, 10 * SECOND).await;
        assert!(world.calls(0) <= 2, "{} calls", world.calls(0));
    }
    assert_eq!(world.connections(), 4, "connections outlive it too");
    // What is gone for long is forgotten.
    balance.apply(&members(1..4));
    sleep(400 * SECOND).await;
    balance.apply(&members(1..3));
    balance.apply(&members(0..4));
    call(balance.clone()).await;
    assert_eq!(
        world.connections(),
        5,
        "one is known still, one is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn f52_an_address_that_refuses_connections_gets_no_call_and_is_no_ejection() {
    let gone = Behaviour {
        refuses: true,
        ..GOOD
    };
    let world = World::new(&[gone.clone(), gone.clone(), gone, GOOD]);
    let balance = four(&world);
    let seen = load(&balance, 10 * SECOND).await;
    assert_eq!((seen.errors(), world.calls(3)), (0, 2000));
    assert!(balance.ejected().is_empty());
    assert_eq!(balance.connected(), 1);
    // Dialled again with pauses that grow, and used once it is there.
    assert!(world.connections() < 60, "{}", world.connections());
    world.set(0, GOOD);
    load(&balance, 12 * SECOND).await;
    assert_eq!(balance.connected(), 2);
    assert!(world.calls(0) > 100, "{}", world.calls(0));
}

#[tokio::test(start_paused = true)]
async fn f51_one_that_declines_what_its_siblings_do_is_ejected_and_stays_so_while_it_does() {
    for code in [Code::Unimplemented, Code::NotFound, Code::PermissionDenied] {
        let world = World::new(&[failing(code), GOOD, GOOD, GOOD]);
        let balance = four(&world);
        let first = load(&balance, 10 * SECOND).await;
        assert_eq!(balance.ejected(), ["host:0"], "{code:?}");
        assert!(first.errors() < 50, "{code:?}: {}", first.errors());
        let seen = load(&balance, 60 * SECOND).await;
        figure!(
            "F51",
            "one of four answers {code}: {} of 2000 calls failed at first, then {:.2} % in a minute",
            first.errors(),
            seen.error_ratio() * 100.0
        );
        assert!(
            seen.error_ratio() <= 0.001,
            "{code:?}: {}",
            seen.error_ratio()
        );
        world.set(0, GOOD);
        load(&balance, 120 * SECOND).await;
        assert!(balance.ejected().is_empty(), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f51_what_all_answer_alike_ejects_none() {
    for code in [Code::Unimplemented, Code::NotFound] {
        let world = World::new(&[const { GOOD }; 4]);
        world.set_all(&failing(code));
        let balance = four(&world);
        load(&balance, 20 * SECOND).await;
        assert_eq!(balance.ejections(), 0, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f32_an_ejected_instance_whose_probe_is_declined_is_alive_and_returns() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = world.balance(Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        call(balance.clone()).await;
    }
    world.set_all(&failing(Code::NotFound));
    load(&balance, 7 * SECOND).await;
    assert!(balance.ejected().is_empty());
    assert!(world.calls(0) > 100);
}
