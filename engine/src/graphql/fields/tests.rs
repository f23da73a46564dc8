//! What becomes of values of protos, and of what clients give.

use std::collections::HashMap;

use async_graphql::{
    EmptyMutation, EmptySubscription, Enum, InputObject, Object, OneofObject, ScalarType, Schema,
    SimpleObject, Value, value,
};
use futures_util::FutureExt;

use super::*;
use crate::{FromProto, IntoProto};

mod v1 {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub(super) enum Color {
        Unspecified = 0,
        Red = 1,
        Secret = 2,
    }

    impl Color {
        pub(super) fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "COLOR_UNSPECIFIED",
                Self::Red => "COLOR_RED",
                Self::Secret => "COLOR_SECRET",
            }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Thing {
        #[prost(int64, tag = "1")]
        pub(super) large: i64,
        #[prost(double, tag = "2")]
        pub(super) ratio: f64,
        #[prost(enumeration = "Color", tag = "3")]
        pub(super) color: i32,
        #[prost(enumeration = "Color", repeated, tag = "4")]
        pub(super) colors: Vec<i32>,
        #[prost(map = "string, uint32", tag = "5")]
        pub(super) counts: std::collections::HashMap<String, u32>,
        #[prost(message, optional, boxed, tag = "6")]
        pub(super) inner: Option<Box<Thing>>,
        #[prost(oneof = "Kind", tags = "7, 8")]
        pub(super) kind: Option<Kind>,
        #[prost(message, optional, tag = "9")]
        pub(super) flag: Option<()>,
        #[prost(float, tag = "10")]
        pub(super) small: f32,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(string, tag = "7")]
        Text(String),
        #[prost(message, tag = "8")]
        Nested(Box<Thing>),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, FromProto, IntoProto)]
#[proto(v1::Color)]
enum Color {
    Red,
}

#[derive(SimpleObject)]
struct Count {
    key: String,
    value: UInt32,
}

impl FromProto<(String, u32)> for Count {
    fn from_proto((key, value): (String, u32)) -> Self {
        let value = UInt32(value);
        Self { key, value }
    }
}

#[derive(SimpleObject, FromProto)]
#[proto(v1::Thing)]
struct Thing {
    large: Int64,
    ratio: Option<f64>,
    color: Answer<Color>,
    colors: Vec<Answer<Color>>,
    counts: Vec<Count>,
    inner: Option<Box<Thing>>,
    #[proto(oneof = kind, v1::Kind::Text)]
    text: Option<String>,
    #[proto(oneof = kind, v1::Kind::Nested)]
    nested: Option<Box<Thing>>,
    flag: bool,
    small: f64,
}

#[derive(InputObject)]
struct CountInput {
    key: String,
    value: UInt32,
}

impl IntoProto<(String, u32)> for CountInput {
    fn into_proto(self) -> async_graphql::Result<(String, u32)> {
        Ok((self.key, self.value.0))
    }
}

#[derive(OneofObject, IntoProto)]
#[proto(v1::Kind)]
enum KindInput {
    Text(String),
    Nested(Box<ThingInput>),
}

#[derive(Default, InputObject, IntoProto)]
#[proto(v1::Thing)]
struct ThingInput {
    large: Option<Int64>,
    color: Option<Color>,
    counts: Option<Vec<CountInput>>,
    kind: Option<KindInput>,
    #[proto(set)]
    flag: Option<bool>,
}

fn published(thing: v1::Thing) -> (Value, Vec<String>) {
    struct Query(std::sync::Mutex<Option<v1::Thing>>);

    #[Object]
    impl Query {
        async fn thing(&self) -> Option<Thing> {
            self.0.lock().unwrap().take().map(Thing::from_proto)
        }
    }

    let query = Query(std::sync::Mutex::new(Some(thing)));
    let schema = Schema::build(query, EmptyMutation, EmptySubscription).finish();
    let asked = "{ thing { large ratio color colors counts { key value } inner { large } text \
                 nested { large } flag small } }";
    let answer = schema.execute(asked).now_or_never().unwrap();
    let errors = answer.errors.iter().map(|error| {
        let code = error
            .extensions
            .as_ref()
            .and_then(|it| it.get("code").cloned());
        format!(
            "{:?} {} {}",
            error.path.last(),
            code.unwrap_or_default(),
            error.message
        )
    });
    (answer.data, errors.collect())
}

#[test]
fn a_message_is_published_by_one_policy() {
    let (data, errors) = published(v1::Thing {
        large: i64::MAX,
        ratio: f64::NAN,
        color: 0,
        colors: vec![1, 0],
        counts: HashMap::from([("b".to_owned(), u32::MAX), ("a".to_owned(), 1)]),
        inner: Some(Box::new(v1::Thing::default())),
        kind: Some(v1::Kind::Nested(Box::default())),
        flag: Some(()),
        small: 0.1,
    });
    assert_eq!(errors, [""; 0]);
    let wanted = value!({ "thing": {
        "large": "9223372036854775807",
        "ratio": null,
        "color": null,
        "colors": ["RED", null],
        "counts": [{ "key": "a", "value": "1" }, { "key": "b", "value": "4294967295" }],
        "inner": { "large": "0" },
        "text": null,
        "nested": { "large": "0" },
        "flag": true,
        "small": 0.1,
    }});
    let json = |value| serde_json::to_value(value).unwrap();
    assert_eq!(json(data), json(wanted));
}

#[test]
fn a_value_that_the_schema_does_not_have_is_null_and_an_error_and_its_siblings_are_served() {
    for (number, named) in [(7, "7"), (2, "COLOR_SECRET")] {
        let color = number;
        let (data, errors) = published(v1::Thing {
            color,
            ..Default::default()
        });
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].starts_with("Some(Field(\"color\")) \"INTERNAL\""),
            "{errors:?}"
        );
        // An owner did not publish it, so its name is for the log.
        assert!(!errors[0].contains(named), "{errors:?}");
        assert!(data.to_string().contains("large: \"0\""), "{data}");
    }
}

#[test]
fn an_input_fills_what_it_names_and_leaves_the_rest_at_its_default() {
    let input = ThingInput {
        large: Some(Int64(3)),
        color: Some(Color::Red),
        kind: Some(KindInput::Nested(Box::new(ThingInput {
            kind: Some(KindInput::Text("x".to_owned())),
            ..Default::default()
        }))),
        flag: Some(true),
        ..Default::default()
    };
    let inner = v1::Thing {
        kind: Some(v1::Kind::Text("x".to_owned())),
        ..Default::default()
    };
    let wanted = v1::Thing {
        large: 3,
        color: 1,
        kind: Some(v1::Kind::Nested(Box::new(inner))),
        flag: Some(()),
        ..Default::default()
    };
    assert_eq!(input.into_proto().unwrap(), wanted);
}

#[test]
fn a_key_of_a_map_that_is_given_twice_is_the_clients_mistake() {
    let count = |value| CountInput {
        key: "a".to_owned(),
        value: UInt32(value),
    };
    let input = ThingInput {
        counts: Some(vec![count(1), count(2)]),
        ..Default::default()
    };
    let error = input.into_proto().unwrap_err();
    assert_eq!(error.message, "The key \"a\" is given twice.");
    assert_eq!(
        error.extensions.unwrap().get("code"),
        Some(&Value::from("BAD_USER_INPUT"))
    );
}

#[test]
fn scalars_read_what_they_write_and_say_what_they_want() {
    assert_eq!(Int64::parse(value!("-5")).unwrap(), Int64(-5));
    assert_eq!(
        Int64::parse(value!(9007199254740993_i64)).unwrap(),
        Int64(9_007_199_254_740_993)
    );
    for bad in [
        value!("5.5"),
        value!(""),
        value!(1.5),
        value!(true),
        value!("9223372036854775808"),
    ] {
        assert!(Int64::parse(bad).is_err());
    }
    assert!(UInt32::parse(value!("-1")).is_err());
    for text in ["-_8=", "-_8", "+/8=", "+/8"] {
        assert_eq!(
            Bytes::parse(value!(text)).unwrap().0,
            [0xfb, 0xff],
            "{text}"
        );
    }
    assert_eq!(Bytes(vec![0xfb, 0xff]).to_value(), value!("+/8="));
    assert!(Bytes::parse(value!("no base64!")).is_err());
    let moment = Timestamp::parse(value!("2026-01-31T12:00:00.5+02:00")).unwrap();
    assert_eq!(moment.to_value(), value!("2026-01-31T10:00:00.500Z"));
    assert!(Timestamp::parse(value!("yesterday")).is_err());
    assert_eq!(
        Duration::parse(value!("1.5s")).unwrap().to_value(),
        value!("1.500s")
    );
    assert!(Duration::parse(value!("1.5")).is_err());
}

#[test]
fn any_json_comes_back_as_it_was_given() {
    let given = value!({ "a": [1, 2.5, "x", null, true, { "b": {} }] });
    let sent: prost_types::Value = Json(given.clone()).into_proto().unwrap();
    assert_eq!(Json::from_proto(sent).0.to_string(), given.to_string());
    let refused: async_graphql::Result<prost_types::Struct> = Json(value!([1])).into_proto();
    assert_eq!(
        refused.unwrap_err().message,
        "The value has to be an object."
    );
}

#[test]
fn paths_of_a_field_mask_are_those_of_graphql() {
    let paths = vec!["displayName.firstName".to_owned(), "id".to_owned()];
    let mask: prost_types::FieldMask = paths.clone().into_proto().unwrap();
    assert_eq!(mask.paths, ["display_name.first_name", "id"]);
    assert_eq!(Vec::<String>::from_proto(mask), paths);
}

#[test]
fn a_length_of_time_has_the_sign_of_its_whole() {
    let written = |seconds, nanos| Duration(prost_types::Duration { seconds, nanos }).to_value();
    assert_eq!(written(5, -1), value!("4.999999999s"));
    assert_eq!(written(-1, 1_500_000_000), value!("0.500s"));
    assert_eq!(written(-1, -500_000_000), value!("-1.500s"));
    // Beyond what a proto's may be, and beyond what can be counted.
    assert_eq!(written(i64::MIN, 0), Value::Null);
    assert!(Duration::parse(value!("9223372036854775807s")).is_err());
}

#[test]
fn a_moment_has_a_year_of_four_digits_and_an_offset() {
    let far = Timestamp(prost_types::Timestamp {
        seconds: 253_402_300_800,
        nanos: 0,
    });
    assert_eq!(far.to_value(), Value::Null);
    for bad in [
        "+10000-01-01T00:00:00Z",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
    ] {
        assert!(Timestamp::parse(value!(bad)).is_err(), "{bad}");
    }
    assert!(Timestamp::parse(value!("9999-12-31T23:59:59Z")).is_ok());
}

#[test]
fn a_number_that_its_type_cannot_hold_is_the_clients_mistake_and_no_other_number() {
    let small: async_graphql::Result<f32> = 1e300_f64.into_proto();
    assert!(small.unwrap_err().message.contains("too large"));
    let large: async_graphql::Result<prost_types::Value> =
        Json(value!({ "n": [9007199254740993_i64] })).into_proto();
    assert!(large.unwrap_err().message.contains("9007199254740993"));
}
