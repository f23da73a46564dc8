//! Forty services, of which some are deployed and some are not.

use async_graphql::{Context, EmptyMutation, EmptySubscription, Error, Object, Result, Schema};
use bff_engine::{Bff, CallExt, Method, Upstream};
use bff_tests::{
    TestBff,
    fixtures::{consul::ConsulFixture, raw::RawFixture},
};
use serde_json::json;

/// One of the services.
struct Nth<const N: usize>;

/// A field that asks whichever, and the program with all of them.
macro_rules! services {
    ($($n:literal)*) => {
        $(
            impl Upstream for Nth<$n> {
                const NAME: &'static str = concat!("s", $n);
                const SERVICE: &'static str = concat!("s", $n, "-srv");
            }
        )*

        struct Query;

        #[Object]
        impl Query {
            async fn ask(&self, ctx: &Context<'_>, n: usize) -> Option<Result<String>> {
                Some(match n {
                    $(
                        $n => {
                            static METHOD: Method<Nth<$n>, (), String> = Method::unary("/a.S/Ask");
                            ctx.client::<Nth<$n>>().call(&METHOD, &()).await
                        }
                    )*
                    _ => Err(Error::new("there are forty")),
                })
            }
        }

        fn program() -> Bff {
            let schema = || Schema::build(Query, EmptyMutation, EmptySubscription);
            Bff::new("forty", schema)$(.upstream::<Nth<$n>>())*
        }
    };
}

services!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34
    35 36 37 38 39);

/// Those that nobody ever deployed here.
const ABSENT: [usize; 3] = [7, 20, 39];

#[tokio::test]
async fn with_three_of_forty_services_absent_the_others_are_served_if_those_are_not_required() {
    let service = RawFixture::start().await.unwrap();
    // A string, as its wrapper encodes it.
    service.reply("/a.S/Ask", [b"\x0a\x02hi".to_vec()]);
    let consul = ConsulFixture::start().await.unwrap();
    for required in [false, true] {
        let mut bff = TestBff::builder()
            .program(program())
            .consul(consul.url())
            .set("upstreams.defaults.timeout", "5s")
            .set("upstreams.s7.required", required);
        for n in 0..40 {
            if !ABSENT.contains(&n) {
                let endpoints = json!([format!("http://{}", service.addr())]);
                bff = bff.set(&format!("upstreams.s{n}.endpoints"), endpoints);
            } else if n != 7 {
                bff = bff.set(&format!("upstreams.s{n}.required"), false);
            }
        }
        let bff = bff.start().await;
        bff.wait_readyz(|_, text| text.contains("[!] upstream s20: no instance, not required"))
            .await;
        let (status, text) = bff.admin("/readyz?verbose").await;
        assert_eq!(status, if required { 503 } else { 200 }, "{text}");
        let fields: String = (0..40).map(|n| format!("f{n}: ask(n: {n}) ")).collect();
        let answer = bff.query(&format!("{{ {fields} }}")).await;
        for n in 0..40 {
            let field = &answer["data"][format!("f{n}")];
            match ABSENT.contains(&n) {
                true => assert!(field.is_null(), "{n}: {answer}"),
                false => assert_eq!(field, "hi", "{n}: {answer}"),
            }
        }
        assert_eq!(
            answer["errors"].as_array().map(Vec::len),
            Some(ABSENT.len()),
            "{answer}"
        );
    }
}
