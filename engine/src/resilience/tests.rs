//! The whole stack under faults, on a paused clock.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};

use super::breaker::State;
use crate::{
    call::{BreakerConfig, BreakerMode, CallError, CallOptions, Code, Config, RetryConfig},
    simulation::{
        Behaviour, Ended, FAST_FAILURE, GOOD, HANGING, IDEMPOTENT, MS, ONCE, SECOND, STREAMING,
        Stack, Stall, call, call_with, failing, figure, load, load_at,
    },
};

fn no_breaker(config: &mut Config) {
    config.breaker.mode = BreakerMode::Closed;
}

fn one_attempt(config: &mut Config) {
    config.retry.max_attempts = 1;
}

/// A call that has to be answered within `left`.
fn within(left: Duration) -> CallOptions {
    CallOptions {
        deadline: Some(Instant::now() + left),
        ..CallOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn f4_no_client_sees_an_instance_that_fails_fast() {
    let t = Stack::new(&GOOD);
    t.world.set(0, FAST_FAILURE);
    let seen = load(&t.upstream, 60 * SECOND).await;
    figure!(
        "F4",
        "with retries: share {:.3} %, client errors {}",
        t.world.share(0) * 100.0,
        seen.errors()
    );
    assert_eq!(seen.errors(), 0);
    assert!(t.world.share(0) <= 0.01, "share {}", t.world.share(0));
}

#[tokio::test(start_paused = true)]
async fn f5_with_all_instances_down_the_breaker_opens_and_only_probes_reach_the_upstream() {
    let t = Stack::new(&GOOD);
    load(&t.upstream, 10 * SECOND).await;
    t.world.set_all(&FAST_FAILURE);
    let down = Instant::now();
    let mut status = t.upstream.layers().breaker.subscribe();
    let loaded = {
        let service = t.upstream.clone();
        tokio::spawn(async move { load(&service, 60 * SECOND).await })
    };
    status
        .wait_for(|status| status.state == State::Open)
        .await
        .unwrap();
    let opened_after = down.elapsed();
    assert!(opened_after <= SECOND, "{opened_after:?}");

    // From here on the upstream sees probes only.
    sleep(50 * MS).await;
    t.world.reset();
    let seen = loaded.await.unwrap();
    let probes = t.world.received().len();
    let periods = t.upstream.layers().breaker.transitions_to(State::HalfOpen) as usize;
    assert!(
        probes <= periods,
        "{probes} calls in {periods} half-open periods"
    );
    let rejected: Vec<_> = seen
        .all()
        .iter()
        .filter(|ended| ended.is_circuit_open())
        .collect();
    assert!(rejected.len() > 10_000, "{}", rejected.len());
    // All but those whose first attempt was on its way when it opened.
    let late = rejected.iter().filter(|ended| ended.took >= MS).count();
    assert!(late <= 20, "{late}");

    t.world.set_all(&GOOD);
    let recovered = Instant::now();
    // The period that runs: it has doubled with each failed probe.
    let opens = t.upstream.layers().breaker.transitions_to(State::Open) as u32;
    let period = (5 * SECOND * 2_u32.pow(opens - 1)).min(60 * SECOND);
    let ends = t.upstream.layers().breaker.status().since + period;
    let after = {
        let service = t.upstream.clone();
        tokio::spawn(async move { load(&service, 62 * SECOND).await })
    };
    status
        .wait_for(|status| status.state == State::Closed)
        .await
        .unwrap();
    let closed_after = recovered.elapsed();
    figure!(
        "F5",
        "open after {opened_after:?}, {probes} probes in a minute, closed {closed_after:?} after \
         the recovery"
    );
    let bar = ends.saturating_duration_since(recovered) + SECOND;
    assert!(
        closed_after <= bar,
        "{closed_after:?}, the period ends after {bar:?}"
    );
    after.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn f6_when_everything_fails_the_budget_bounds_the_attempts() {
    let t = Stack::with(&FAST_FAILURE, no_breaker);
    let seen = load(&t.upstream, 60 * SECOND).await;
    let calls = seen.all().len();
    let per_call = t.world.received().len() as f64 / calls as f64;
    figure!(
        "F6",
        "{per_call:.4} attempts per call (bar 1.2 + 1/200 = 1.205)"
    );
    assert!(per_call <= 1.2 + 1.0 / 200.0 + 1e-9, "{per_call}");
    assert!(
        per_call > 1.19,
        "the budget is there to be used: {per_call}"
    );
}

#[tokio::test(start_paused = true)]
async fn f7_a_thousand_callers_at_half_open_send_one_probe() {
    let t = Stack::new(&FAST_FAILURE);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&GOOD);
    sleep(5 * SECOND).await;
    t.world.reset();
    let callers: JoinSet<_> = (0..1000).map(|_| call(t.upstream.clone())).collect();
    let ended = callers.join_all().await;
    let through = ended.iter().filter(|ended| ended.ok()).count();
    figure!(
        "F7",
        "of 1000 callers at half-open {through} passed, 1 probe is configured"
    );
    assert_eq!((through, t.world.received().len()), (1, 1));
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn f7_a_hung_probe_reopens_and_a_cancelled_one_gives_its_permit_back() {
    let t = Stack::new(&FAST_FAILURE);
    load(&t.upstream, SECOND).await;
    t.world.set_all(&HANGING);
    sleep(5 * SECOND).await;
    // The caller leaves: nothing is known, the next one may probe.
    assert!(timeout(10 * MS, call(t.upstream.clone())).await.is_err());
    assert_eq!(t.breaker(), State::HalfOpen);
    let probe = call(t.upstream.clone()).await;
    assert_eq!(
        probe.took.as_millis() / 100,
        5,
        "the attempt timeout, and a retry that is rejected"
    );
    assert_eq!(t.breaker(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn f8_a_long_healthy_past_does_not_keep_the_breaker_closed() {
    let t = Stack::new(&GOOD);
    load_at(&t.upstream, MS, 30 * SECOND).await;
    t.world.set_all(&FAST_FAILURE);
    t.world.reset();
    load(&t.upstream, 2 * SECOND).await;
    let attempts = t.world.received().len();
    figure!(
        "F8",
        "after 30,000 successes the breaker opens at failure {attempts}"
    );
    // Those in flight at that moment are let through too.
    assert!(attempts <= 25, "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn f9_one_call_a_minute_after_an_outage_closes_the_breaker() {
    let t = Stack::new(&FAST_FAILURE);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&GOOD);
    let mut calls = 0;
    while t.breaker() != State::Closed {
        sleep(60 * SECOND).await;
        assert!(call(t.upstream.clone()).await.ok());
        calls += 1;
    }
    figure!("F9", "one call a minute: closed after {calls}");
    assert_eq!(calls, 1);
}

#[tokio::test(start_paused = true)]
async fn f10_an_upstream_that_stalls_is_given_up_at_the_deadline_and_counts_as_failing() {
    for stall in [Stall::AtOnce, Stall::AfterHeaders] {
        let t = Stack::new(&Behaviour { stall, ..GOOD });
        let ended = call(t.upstream.clone()).await;
        figure!(
            "F10",
            "{stall:?}: {:?} after {:?}",
            ended.code(),
            ended.took
        );
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert!(
            ended.took >= 1950 * MS && ended.took <= 2050 * MS,
            "{:?}",
            ended.took
        );
        assert_eq!(t.in_flight(), (0, 0));
        let callers: JoinSet<_> = (0..20).map(|_| call(t.upstream.clone())).collect();
        callers.join_all().await;
        assert_eq!(t.breaker(), State::Open, "{stall:?}");
        assert_eq!(t.in_flight(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn f10_whatever_the_attempts_the_call_ends_exactly_at_its_deadline() {
    for (timeout, attempt_timeout) in [(1000, 900), (2000, 500), (700, 10)] {
        for method in [&IDEMPOTENT, &ONCE] {
            let t = Stack::with(&HANGING, |config| {
                config.timeout = timeout * MS;
                config.attempt_timeout = Some(attempt_timeout * MS);
            });
            let ended = call_with(t.upstream.clone(), method, CallOptions::default()).await;
            assert_eq!(
                (ended.code(), ended.took),
                (Code::DeadlineExceeded, timeout * MS)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f11_every_attempt_announces_no_more_than_what_is_left() {
    let slow_failure = Behaviour {
        latency: 350 * MS,
        ..FAST_FAILURE
    };
    let t = Stack::with(&slow_failure, |config| config.timeout = SECOND);
    let start = Instant::now();
    call(t.upstream.clone()).await;
    let received = t.world.received();
    assert!(received.len() >= 2);
    for attempt in &received {
        let announced = attempt.headers["grpc-timeout"].to_str().unwrap();
        let announced: u32 = announced.strip_suffix('u').unwrap().parse().unwrap();
        let left = SECOND - (attempt.at - start);
        figure!("F11", "announced {announced} us of {left:?} left");
        assert!(Duration::from_micros(announced.into()) <= left);
    }
}

#[tokio::test(start_paused = true)]
async fn f11_with_under_five_milliseconds_left_nothing_is_sent() {
    let t = Stack::new(&GOOD);
    for (left, sends) in [(4, false), (5, true), (0, false)] {
        t.world.reset();
        let ended = call_with(t.upstream.clone(), &IDEMPOTENT, within(left * MS)).await;
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert_eq!(
            t.world.received().len(),
            usize::from(sends),
            "{left} ms left"
        );
        if !sends {
            assert!(matches!(ended.error(), Some(CallError::NoTimeLeft(_))));
            assert_eq!(ended.took, Duration::ZERO);
        }
    }
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn f11_a_retry_that_would_start_too_late_is_not_sent() {
    let late = Behaviour {
        latency: 196 * MS,
        ..FAST_FAILURE
    };
    let t = Stack::with(&late, |config| {
        config.timeout = 200 * MS;
        config.attempt_timeout = Some(199 * MS);
    });
    let ended = call(t.upstream.clone()).await;
    assert_eq!(
        ended.code(),
        Code::Unavailable,
        "the true reason, not a deadline"
    );
    assert_eq!(t.world.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f12_callers_that_leave_count_for_nothing_and_hold_nothing() {
    let t = Stack::new(&GOOD);
    for _ in 0..1000 {
        assert!(timeout(5 * MS, call(t.upstream.clone())).await.is_err());
    }
    figure!("F12", "1000 callers left: {:?}", t.breaker());
    assert_eq!(t.breaker(), State::Closed);
    assert!(t.upstream.balance().ejected().is_empty());
    assert_eq!(t.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn f13_the_callers_own_faults_are_neither_retried_nor_held_against_the_upstream() {
    let t = Stack::new(&failing(Code::NotFound));
    let seen = load(&t.upstream, 10 * SECOND).await;
    assert!(
        seen.all()
            .iter()
            .all(|ended| ended.code() == Code::NotFound)
    );
    let retries = t.world.received().len() - seen.all().len();
    figure!("F13", "{retries} retries, breaker {:?}", t.breaker());
    assert_eq!(retries, 0);
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn f14_a_server_that_pushes_back_is_obeyed() {
    let pushing = |pushback| Behaviour {
        pushback: Some(pushback),
        ..FAST_FAILURE
    };
    for never in ["-1", "soon"] {
        let t = Stack::new(&pushing(never));
        call(t.upstream.clone()).await;
        assert_eq!(t.world.received().len(), 1, "{never}");
    }
    let t = Stack::with(&pushing("300"), |config| config.timeout = 500 * MS);
    call(t.upstream.clone()).await;
    let received = t.world.received();
    let pause = received[1].at - received[0].at;
    figure!(
        "F14",
        "-1 or garbage: 0 retries; 300 ms: one retry after {pause:?}"
    );
    assert_eq!(received.len(), 2, "a third would not fit into the deadline");
    assert!(pause >= 300 * MS);
}

#[tokio::test(start_paused = true)]
async fn f25_every_decision_follows_the_monotonic_clock_however_the_wall_clock_stands_to_it() {
    // The paused clock runs ahead of the wall clock by an hour: what the wall clock set back by
    // an hour looks like. A decision that asked the wall clock would see no time pass at all.
    let t = Stack::new(&FAST_FAILURE);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&GOOD);
    advance(3600 * SECOND).await;
    assert!(
        call(t.upstream.clone()).await.ok(),
        "the breaker probes, the instances are back"
    );
    assert_eq!(t.breaker(), State::Closed);
    assert!(t.budget_left() >= 10.0, "the budget forgot the hour");
    t.world.set_all(&HANGING);
    let ended = call(t.upstream.clone()).await;
    assert!(ended.took <= 2 * SECOND && ended.code() == Code::DeadlineExceeded);
    figure!(
        "F25",
        "an hour between the clocks: breaker, budget and deadline follow the monotonic one"
    );
}

#[tokio::test(start_paused = true)]
async fn f30_three_times_too_much_leaves_nine_tenths_of_the_goodput() {
    // Four instances with five workers of 10 ms each: 2000 calls a second.
    let worker = || Behaviour {
        workers: Some(Arc::new(Semaphore::new(5))),
        ..GOOD
    };
    let t = Stack::with(&GOOD, |config| config.max_in_flight = 60);
    (0..4).for_each(|port| t.world.set(port, worker()));
    let capacity = 2000.0;
    let normal = load_at(&t.upstream, Duration::from_micros(700), 10 * SECOND).await;
    assert_eq!(normal.errors(), 0);

    let over = load_at(&t.upstream, Duration::from_micros(167), 20 * SECOND).await;
    let goodput = over.count(|ended| ended.ok()) as f64 / 20.0;
    let rejected = over.count(|ended| ended.is_overloaded());
    let slowest = over
        .all()
        .iter()
        .filter(|e| e.is_overloaded())
        .map(|e| e.took)
        .max();
    figure!(
        "F30",
        "goodput {:.0} % of capacity at three times the load; {rejected} rejected within {:?}",
        100.0 * goodput / capacity,
        slowest.unwrap_or_default()
    );
    assert!(goodput >= 0.9 * capacity, "{goodput}");
    assert!(slowest.unwrap() <= 10 * MS);
    assert_eq!(
        over.count(|ended| !ended.ok()),
        rejected,
        "nothing else went wrong"
    );

    let after = load_at(&t.upstream, Duration::from_micros(700), 10 * SECOND).await;
    assert_eq!(after.errors(), 0);
    assert!(
        after.p99() <= 2 * normal.p99(),
        "{:?} against {:?}",
        after.p99(),
        normal.p99()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_hurry_cannot_open_the_breaker_or_eject_an_instance() {
    let t = Stack::new(&GOOD);
    let hurried = |left| CallOptions {
        client_deadline: true,
        ..within(left)
    };
    for _ in 0..200 {
        let ended = call_with(t.upstream.clone(), &IDEMPOTENT, hurried(6 * MS)).await;
        assert_eq!(ended.code(), Code::DeadlineExceeded);
    }
    assert_eq!(t.breaker(), State::Closed);
    assert!(t.upstream.balance().ejected().is_empty());
    // One that leaves an attempt its time sees a hang as everybody does.
    t.world.set_all(&HANGING);
    for _ in 0..20 {
        call_with(t.upstream.clone(), &IDEMPOTENT, hurried(SECOND)).await;
    }
    assert_eq!(t.breaker(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn f9_a_slow_but_healthy_upstream_closes_the_breaker_with_its_slow_probe() {
    let t = Stack::with(&FAST_FAILURE, one_attempt);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&Behaviour {
        latency: 600 * MS,
        ..GOOD
    });
    sleep(5 * SECOND).await;
    load(&t.upstream, 2 * SECOND).await;
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_held_to_the_time_its_first_message_has() {
    let t = Stack::new(&GOOD);
    call_with(t.upstream.clone(), &STREAMING, CallOptions::default()).await;
    assert!(!t.world.received()[0].headers.contains_key("grpc-timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_do_harm_twice_is_sent_once_unless_it_was_never_sent() {
    let t = Stack::new(&FAST_FAILURE);
    call_with(t.upstream.clone(), &ONCE, CallOptions::default()).await;
    assert_eq!(t.world.received().len(), 1);
    call(t.upstream.clone()).await;
    assert_eq!(t.world.received().len(), 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_ends_a_call_without_further_attempts() {
    let t = Stack::with(&GOOD, |config| {
        config.breaker.mode = BreakerMode::Open;
    });
    let ended = call(t.upstream.clone()).await;
    assert!(ended.is_circuit_open());
    assert_eq!((ended.took, t.world.received().len()), (Duration::ZERO, 0));
    assert!(t.budget_left() >= 10.0, "it cost no retry");
}

#[tokio::test(start_paused = true)]
async fn what_is_above_the_cap_is_shed_at_once_and_places_come_back() {
    let t = Stack::with(&GOOD, |config| config.max_in_flight = 10);
    let callers: JoinSet<_> = (0..25).map(|_| call(t.upstream.clone())).collect();
    let ended = callers.join_all().await;
    assert_eq!(ended.iter().filter(|ended| ended.ok()).count(), 10);
    assert!(
        ended
            .iter()
            .filter(|e| e.is_overloaded())
            .all(|e| e.took < MS)
    );
    assert_eq!(
        (
            t.upstream.layers().bulkhead.shed(),
            t.upstream.layers().bulkhead.in_flight()
        ),
        (15, 0)
    );
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up_and_another_instance_answers() {
    let t = Stack::new(&GOOD);
    t.world.set(0, HANGING);
    let seen = load(&t.upstream, 10 * SECOND).await;
    assert_eq!(seen.errors(), 0);
    let alone = Stack::with(&HANGING, one_attempt);
    let ended = call(alone.upstream.clone()).await;
    assert!(matches!(ended.error(), Some(CallError::AttemptElapsed(_))));
    assert_eq!(
        ended.took,
        2 * SECOND,
        "no other attempt follows, so it has all the time there is"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_timed_to_its_first_message_only() {
    let t = Stack::new(&Behaviour {
        latency: 100 * MS,
        ..GOOD
    });
    let options = CallOptions::default;
    assert!(
        call_with(t.upstream.clone(), &STREAMING, options())
            .await
            .ok()
    );
    t.world.set_all(&Behaviour {
        stall: Stall::AfterHeaders,
        ..GOOD
    });
    let ended = call_with(t.upstream.clone(), &STREAMING, options()).await;
    assert_eq!(ended.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn another_timeout_acts_on_the_next_call_and_leaves_those_in_flight_alone() {
    let t = Stack::with(&HANGING, no_breaker);
    let before = tokio::spawn(call(t.upstream.clone()));
    sleep(MS).await;
    t.apply(|config| {
        config.timeout = 100 * MS;
        config.attempt_timeout = Some(50 * MS);
    });
    assert_eq!(call(t.upstream.clone()).await.took, 100 * MS);
    assert_eq!(before.await.unwrap().took, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn another_cap_on_calls_in_flight_is_reached_without_ending_any() {
    let t = Stack::with(&GOOD, |config| config.max_in_flight = 10);
    let cap = |max_in_flight| t.apply(|config| config.max_in_flight = max_in_flight);
    let calls = |n: usize| -> JoinSet<_> { (0..n).map(|_| call(t.upstream.clone())).collect() };
    let first = calls(10);
    sleep(MS).await;
    cap(5);
    assert!(call(t.upstream.clone()).await.is_overloaded());
    cap(12);
    let more = calls(3);
    sleep(MS).await;
    assert_eq!(t.upstream.layers().bulkhead.in_flight(), 12);
    let good = |ended: &&Ended| ended.ok();
    assert_eq!(first.join_all().await.iter().filter(good).count(), 10);
    assert_eq!(more.join_all().await.iter().filter(good).count(), 2);
    assert_eq!(t.upstream.layers().bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_budget_counts_what_was_spent_under_the_one_before() {
    let t = Stack::with(&FAST_FAILURE, no_breaker);
    load(&t.upstream, 10 * SECOND).await;
    let spent = 0.2 * 2000.0 + 10.0 - t.budget_left();
    assert!(spent > 400.0, "{spent}");
    t.apply(|config| {
        config.retry = RetryConfig {
            budget_ratio: 0.5,
            ..RetryConfig::default()
        };
    });
    let left = t.budget_left();
    assert!((left - (0.5 * 2000.0 + 10.0 - spent)).abs() < 1.0, "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_breaker_keeps_its_state_and_an_operator_can_ask_for_probes() {
    let t = Stack::new(&FAST_FAILURE);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    let apply = |mode| {
        t.apply(|config| {
            config.breaker = BreakerConfig {
                mode,
                min_calls: 30,
                ..BreakerConfig::default()
            };
        });
    };
    apply(BreakerMode::Auto);
    assert_eq!(t.breaker(), State::Open);
    // Forced open and released again: what the upstream is like has to be found out.
    apply(BreakerMode::Open);
    apply(BreakerMode::Auto);
    assert_eq!(t.breaker(), State::HalfOpen);
    t.world.set_all(&GOOD);
    assert!(call(t.upstream.clone()).await.ok());
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn f32_a_service_that_answers_only_no_is_alive_and_its_breaker_closes() {
    let t = Stack::new(&GOOD);
    t.world.set_all(&FAST_FAILURE);
    load(&t.upstream, 2 * SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&failing(Code::NotFound));
    load(&t.upstream, 12 * SECOND).await;
    assert_eq!(t.breaker(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn f33_a_service_that_refuses_connections_costs_no_more_attempts_than_the_budget_has() {
    let gone = Behaviour {
        refuses: true,
        ..GOOD
    };
    let t = Stack::with(&gone, no_breaker);
    let seen = load(&t.upstream, 20 * SECOND).await;
    assert_eq!(seen.errors(), 4000);
    let retries: u64 = t
        .upstream
        .layers()
        .retry
        .retries()
        .iter()
        .map(|(_, n)| n)
        .sum();
    let attempts = 1.0 + retries as f64 / 4000.0;
    figure!(
        "F33",
        "all refuse connections: {attempts:.3} attempts for each call"
    );
    assert!(attempts <= 1.2 + 1.0 / 200.0, "{attempts}");
    assert!(seen.all().iter().all(|ended| ended.took < SECOND));
    // As few dials: each instance fifty times a second at most.
    assert!(
        t.world.connections() <= 4 * 50 * 21,
        "{}",
        t.world.connections()
    );
}

#[tokio::test(start_paused = true)]
async fn f5_a_service_that_cannot_be_reached_opens_its_breaker_and_is_found_again() {
    let gone = Behaviour {
        refuses: true,
        ..GOOD
    };
    let t = Stack::new(&gone);
    load(&t.upstream, SECOND).await;
    assert_eq!(t.breaker(), State::Open);
    t.world.set_all(&GOOD);
    load(&t.upstream, 6 * SECOND).await;
    assert_eq!(t.breaker(), State::Closed);
    assert!(call(Arc::clone(&t.upstream)).await.ok());
}
