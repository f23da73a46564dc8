//! Scalars for what protos have and GraphQL has not. `Int` ends at 2³¹ − 1, and JavaScript's numbers are
//! exact to 2⁵³ only, so larger ones are decimal strings, as in the JSON of protos.

use async_graphql::{
    InputObject, InputValueError, InputValueResult, Result, Scalar, ScalarType, SimpleObject, Value,
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_types::{ListValue, Struct, value::Kind};

use super::{
    FromProto, IntoProto,
    into_proto::{Fill, fills},
};

macro_rules! integers {
    ($($(#[$doc:meta])* $name:ident($ty:ty, $graphql:literal, $example:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $ty);

        $(#[$doc])*
        #[Scalar(name = $graphql)]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                let parsed = match &value {
                    Value::String(text) => text.parse().ok(),
                    Value::Number(number) => number.to_string().parse().ok(),
                    _ => None,
                };
                parsed.map(Self).ok_or_else(|| InputValueError::custom(concat!("write a whole number such as ", $example)))
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.to_string())
            }
        }

        impl FromProto<$ty> for $name {
            fn from_proto(value: $ty) -> Self {
                Self(value)
            }
        }

        fills!($name => $ty: |value: $name| value.0;);
    )*};
}

integers! {
    /// A whole number of 64 bits with a sign, as a decimal string.
    Int64(i64, "Int64", "\"-9223372036854775808\"");
    /// A whole number of 64 bits without a sign, as a decimal string.
    UInt64(u64, "UInt64", "\"18446744073709551615\"");
    /// A whole number of 32 bits without a sign, as a decimal string.
    UInt32(u32, "UInt32", "\"4294967295\"");
}

/// Accepts both alphabets, with and without padding.
const DECODE: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, DECODE);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, DECODE);

/// Bytes, as base64. Both alphabets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

/// Bytes, as base64. Both alphabets are read.
#[Scalar]
impl ScalarType for Bytes {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
        decoded
            .map(Self)
            .map_err(|_| InputValueError::custom("write base64, such as \"aGVsbG8=\""))
    }

    fn to_value(&self) -> Value {
        Value::String(STANDARD.encode(&self.0))
    }
}

impl FromProto<Vec<u8>> for Bytes {
    fn from_proto(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

fills!(Bytes => Vec<u8>: |bytes: Bytes| bytes.0;);

/// A moment, as RFC 3339 has it: `2026-01-31T12:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamp(pub prost_types::Timestamp);

/// Seconds of 0001-01-01T00:00:00Z and of 9999-12-31T23:59:59Z: what a proto's moment may be.
const MOMENTS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Seconds of ten thousand years: what a proto's length of time may be.
const LONGEST: u64 = 315_576_000_000;

/// A moment, as RFC 3339 has it: `2026-01-31T12:00:00Z`.
#[Scalar]
impl ScalarType for Timestamp {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        // A date, and an offset at its end: without one it is no moment.
        let time = text.split_once(['T', 't']).map(|(_, time)| time);
        let has_offset = time.is_some_and(|time| time.contains(['Z', 'z', '+', '-']));
        let parsed = text.parse().ok().filter(|parsed: &prost_types::Timestamp| {
            has_offset && MOMENTS.contains(&parsed.seconds)
        });
        parsed.map(Self).ok_or_else(|| {
            InputValueError::custom("write a moment such as \"2026-01-31T12:00:00Z\"")
        })
    }

    /// `null` for what has no year of four digits.
    fn to_value(&self) -> Value {
        match MOMENTS.contains(&self.0.seconds) {
            true => Value::String(self.0.to_string()),
            false => Value::Null,
        }
    }
}

/// A length of time, in seconds: `1.5s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Duration(pub prost_types::Duration);

/// A length of time, in seconds: `1.5s`.
#[Scalar]
impl ScalarType for Duration {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let parsed = text.parse().ok();
        let parsed = parsed
            .filter(|parsed: &prost_types::Duration| parsed.seconds.unsigned_abs() <= LONGEST);
        parsed
            .map(Self)
            .ok_or_else(|| InputValueError::custom("write a length of time such as \"1.5s\""))
    }

    /// `null` for more than ten thousand years.
    fn to_value(&self) -> Value {
        match self.0.seconds.unsigned_abs() <= LONGEST {
            // One sign for seconds and nanoseconds, which is the whole's.
            true => Value::String(self.0.normalized().to_string()),
            false => Value::Null,
        }
    }
}

/// Any JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Json(pub Value);

/// Any JSON.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A message of any type, encoded.
#[derive(Clone, Debug, Default, PartialEq, SimpleObject)]
pub struct Any {
    /// What type it is of, such as `type.googleapis.com/google.protobuf.Duration`.
    pub type_url: String,
    /// The encoded message.
    pub value: Bytes,
}

/// A message of any type, encoded.
#[derive(Clone, Debug, Default, PartialEq, InputObject)]
pub struct AnyInput {
    /// What type it is of, such as `type.googleapis.com/google.protobuf.Duration`.
    pub type_url: String,
    /// The encoded message.
    pub value: Bytes,
}

impl FromProto<prost_types::Any> for Any {
    fn from_proto(any: prost_types::Any) -> Self {
        Self {
            type_url: any.type_url,
            value: Bytes(any.value),
        }
    }
}

impl FromProto<prost_types::Timestamp> for Timestamp {
    fn from_proto(timestamp: prost_types::Timestamp) -> Self {
        Self(timestamp)
    }
}

impl FromProto<prost_types::Duration> for Duration {
    fn from_proto(duration: prost_types::Duration) -> Self {
        Self(duration)
    }
}

impl FromProto<prost_types::Value> for Json {
    fn from_proto(value: prost_types::Value) -> Self {
        Self(to_json(value))
    }
}

impl FromProto<Struct> for Json {
    fn from_proto(fields: Struct) -> Self {
        let kind = Some(Kind::StructValue(fields));
        Self(to_json(prost_types::Value { kind }))
    }
}

impl FromProto<ListValue> for Json {
    fn from_proto(list: ListValue) -> Self {
        let kind = Some(Kind::ListValue(list));
        Self(to_json(prost_types::Value { kind }))
    }
}

fills! {
    AnyInput => prost_types::Any: |any: AnyInput| prost_types::Any {
        type_url: any.type_url,
        value: any.value.0,
    };
    Timestamp => prost_types::Timestamp: |timestamp: Timestamp| timestamp.0;
    Duration => prost_types::Duration: |duration: Duration| duration.0;
}

impl IntoProto<prost_types::Value> for Json {
    fn into_proto(self) -> Result<prost_types::Value> {
        from_json(self.0)
    }
}

impl Fill<Json> for prost_types::Value {
    fn fill(&mut self, value: Json) -> Result<()> {
        *self = value.into_proto()?;
        Ok(())
    }
}

impl IntoProto<Struct> for Json {
    fn into_proto(self) -> Result<Struct> {
        match from_json(self.0)?.kind {
            Some(Kind::StructValue(fields)) => Ok(fields),
            _ => Err(not("an object")),
        }
    }
}

impl IntoProto<ListValue> for Json {
    fn into_proto(self) -> Result<ListValue> {
        match from_json(self.0)?.kind {
            Some(Kind::ListValue(list)) => Ok(list),
            _ => Err(not("a list")),
        }
    }
}

fn not(wanted: &str) -> async_graphql::Error {
    let problem = format!("The value has to be {wanted}.");
    crate::graphql::error::Code::BadUserInput.field_error(problem)
}

fn to_json(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Boolean(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => number_to_json(number),
        Some(Kind::ListValue(list)) => Value::List(list.values.into_iter().map(to_json).collect()),
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.into_iter();
            let fields =
                fields.map(|(name, value)| (async_graphql::Name::new(name), to_json(value)));
            Value::Object(fields.collect())
        }
    }
}

/// A whole number without a point: protos have only doubles here, and 3 is not to be read as 3.0.
fn number_to_json(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.fract() == 0.0 && number.abs() <= EXACT {
        true => Value::Number((number as i64).into()),
        // What is no number is null.
        false => Value::from(number),
    }
}

fn from_json(json: Value) -> Result<prost_types::Value> {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Boolean(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number_from_json(&number)?),
        Value::String(text) => Kind::StringValue(text),
        Value::Enum(name) => Kind::StringValue(name.to_string()),
        Value::Binary(bytes) => Kind::StringValue(STANDARD.encode(bytes)),
        Value::List(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(from_json).collect::<Result<_>>()?,
        }),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| Ok((name.to_string(), from_json(value)?)));
            Kind::StructValue(Struct {
                fields: fields.collect::<Result<_>>()?,
            })
        }
    };
    Ok(prost_types::Value { kind: Some(kind) })
}

/// A whole number that a double does not hold would become another one.
fn number_from_json(number: &async_graphql::Number) -> Result<f64> {
    let value = number.as_f64().unwrap_or_default();
    let is_held = match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => value as i64 == whole && whole != i64::MAX,
        (None, Some(whole)) => value as u64 == whole && whole != u64::MAX,
        (None, None) => true,
    };
    match is_held {
        true => Ok(value),
        false => {
            let problem =
                format!("{number} is no exact number in JSON of protos: write it as a string.");
            Err(crate::graphql::error::Code::BadUserInput.field_error(problem))
        }
    }
}
