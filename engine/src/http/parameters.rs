//! The parameters of a request (GraphQL over HTTP, "Request Parameters"), by whichever way they come.

use std::fmt;

use async_graphql::{Extensions, Request, Variables};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::persisted::{Extension, Named, Persisted, Unusable};
use crate::graphql::Code;

/// Values of a body, keys included. Each takes fifty times the two bytes that a client needs for it.
const MAX_VALUES: usize = 200_000;
/// A shorter body cannot have so many.
const FEW_BYTES: usize = MAX_VALUES;

/// How many values and keys `json` has, about: what separates them, outside of strings.
fn values(json: &[u8]) -> usize {
    let (mut separators, mut inside, mut escaped) = (0, false, false);
    for byte in json {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (false, b',' | b':') => separators += 1,
            _ => {}
        }
    }
    separators + 1
}

/// As they come. What else there is says nothing to us.
#[derive(Debug, Default, Deserialize)]
#[serde(default, remote = "Self")]
pub(super) struct Parameters {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<Variables>,
    extensions: Option<Extensions>,
    /// The name of a published document (GraphQL over HTTP, "Persisted Documents").
    #[serde(rename = "documentId")]
    document_id: Option<String>,
}

/// Of an object alone: what is derived also takes a list of the fields' values.
impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;

        impl<'de> Visitor<'de> for OfObject {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a query")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parameters, A::Error> {
                Parameters::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(OfObject)
    }
}

/// What is wrong with them, for whoever sent them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Wrong {
    pub(super) code: Code,
    message: String,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        let (code, message) = (Code::BadUserInput, message.into());
        Self { code, message }
    }
}

impl From<Unusable> for Wrong {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            // Clients know the protocol's answers by these words.
            Unusable::Unknown => Self {
                code: Code::PersistedQueryNotFound,
                message: "PersistedQueryNotFound".to_owned(),
            },
            Unusable::Version => Self::new("Unsupported persisted query version"),
            Unusable::OtherHash => Self::new("provided sha does not match query"),
            Unusable::Untrusted => Self {
                code: Code::Forbidden,
                message: "Only published documents are executed here, and this is none of them."
                    .to_owned(),
            },
            Unusable::Missing => Self::new("There is no query: send {\"query\": \"…\"}."),
        }
    }
}

/// What a body is.
#[derive(Debug)]
pub(super) enum Sent {
    /// One operation's.
    One(Parameters),
    /// Those of several.
    Many(Vec<Parameters>),
}

impl Sent {
    /// What `body` is; of several operations at most `max`.
    ///
    /// # Errors
    /// [`Wrong`], with the place.
    pub(super) fn of_json(body: &[u8], max: usize) -> Result<Self, Wrong> {
        let is_list = body.trim_ascii_start().first() == Some(&b'[');
        if is_list && max == 0 {
            return Err(Wrong::new(
                "Send one operation at a time: this is a list, and http.max_batch is 0.",
            ));
        }
        if body.len() > FEW_BYTES && values(body) > MAX_VALUES {
            return Err(Wrong::new(format!(
                "The variables have more than {MAX_VALUES} values."
            )));
        }
        let none = |error| Wrong::new(format!("The body is no request of GraphQL: {error}."));
        if !is_list {
            return serde_json::from_slice(body).map(Self::One).map_err(none);
        }
        let many: Vec<Parameters> = serde_json::from_slice(body).map_err(none)?;
        match many.len() {
            0 => Err(Wrong::new("The list has no operation.")),
            len if len > max => Err(Wrong::new(format!(
                "The list has {len} operations, more than http.max_batch, which is {max}."
            ))),
            _ => Ok(Self::Many(many)),
        }
    }
}

impl Parameters {
    /// Those of a URL: `variables` and `extensions` are JSON there.
    ///
    /// # Errors
    /// [`Wrong`], with the parameter.
    pub(super) fn of_url(query: &str) -> Result<Self, Wrong> {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let json = |error| {
                Wrong::new(format!(
                    "The parameter {name} is not the JSON it should be: {error}."
                ))
            };
            match &*name {
                "query" => parameters.query = Some(value.into_owned()),
                "operationName" => {
                    // A form has no other way to leave it out.
                    let value = value.into_owned();
                    parameters.operation_name = Some(value).filter(|value| !value.is_empty());
                }
                "documentId" => parameters.document_id = Some(value.into_owned()),
                "variables" => parameters.variables = serde_json::from_str(&value).map_err(json)?,
                "extensions" => {
                    parameters.extensions = serde_json::from_str(&value).map_err(json)?
                }
                _ => {}
            }
        }
        Ok(parameters)
    }

    /// The request that they are of.
    ///
    /// # Errors
    /// [`Wrong`], without a query, or with a hash that stands for none.
    pub(super) fn into_request(self, persisted: &Persisted) -> Result<Request, Wrong> {
        let extensions = self.extensions.unwrap_or_default();
        let extension = extensions.get("persistedQuery").map(|extension| {
            let extension = async_graphql_value::from_value::<Extension>(extension.clone());
            extension.map_err(|error| {
                Wrong::new(format!("The extension persistedQuery is none: {error}."))
            })
        });
        let query = persisted.document(Named {
            query: self.query,
            id: self.document_id,
            extension: extension.transpose()?,
        })?;
        let mut request = Request::new(query).variables(self.variables.unwrap_or_default());
        request.operation_name = self.operation_name;
        request.extensions = extensions;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::{MeterProvider, noop::NoopMeterProvider};

    use super::*;

    fn persisted() -> Persisted {
        Persisted::new(None, None, &NoopMeterProvider::new().meter("test")).unwrap()
    }

    fn of(body: &str) -> Result<Request, Wrong> {
        match Sent::of_json(body.as_bytes(), 0)? {
            Sent::One(parameters) => parameters.into_request(&persisted()),
            Sent::Many(many) => panic!("{many:?}"),
        }
    }

    #[test]
    fn a_list_of_operations_is_taken_up_to_its_limit() {
        let many = |n: usize| format!(" [{}]", vec!["{\"query\":\"{ a }\"}"; n].join(","));
        let taken = |n, max| match Sent::of_json(many(n).as_bytes(), max) {
            Ok(Sent::Many(many)) => Ok(many.len()),
            Ok(Sent::One(_)) => Ok(1),
            Err(wrong) => Err(wrong.to_string()),
        };
        assert_eq!(taken(3, 3), Ok(3));
        let wrong = taken(4, 3).unwrap_err();
        assert!(wrong.contains("http.max_batch, which is 3"), "{wrong}");
        assert!(taken(0, 3).is_err() && taken(1, 0).is_err());
        assert!(Sent::of_json(b"[[]]", 3).is_err());
    }

    #[test]
    fn a_request_is_an_object_with_a_query_and_what_may_be_left_out_may_be_null() {
        let request =
            of(r#"{"query":"{ a }","operationName":null,"variables":null,"extensions":null}"#);
        assert_eq!(request.unwrap().query, "{ a }");
        let all = r#"{"query":"query Q { a }","operationName":"Q","variables":{"a":[1]},"extensions":{"b":{}}}"#;
        let all = of(all).unwrap();
        assert_eq!(all.operation_name.as_deref(), Some("Q"));
        assert_eq!(all.variables.len(), 1);
        assert!(all.extensions.contains_key("b"));
        // What we do not know says nothing.
        assert!(of(r#"{"query":"{ a }","id":7}"#).is_ok());
    }

    #[test]
    fn what_is_no_request_is_told_why() {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "\"{ a }\"",
            "[{\"query\":\"{ a }\"}]",
            "{}",
            r#"{"qeury":"{ a }"}"#,
            r#"{"query":{}}"#,
            r#"{"query":0}"#,
            r#"{"query":false}"#,
            r#"{"query":["{ a }"]}"#,
            r#"{"query":"{ a }","operationName":1}"#,
            r#"{"query":"{ a }","variables":"{}"}"#,
            r#"{"query":"{ a }","variables":[1]}"#,
            r#"{"query":"{ a }","extensions":0}"#,
            r#"{"query":"{ a }","query":"{ b }"}"#,
        ] {
            assert!(of(body).is_err(), "{body}");
        }
        let wrong = of(r#"{"query":0}"#).unwrap_err().to_string();
        assert!(wrong.contains("invalid type: integer `0`"), "{wrong}");
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values(b"[1,2,{\"a\":3}]"), 4);
        assert_eq!(values(br#"{"a,:\",b":1}"#), 2);
        let many = |n| {
            format!(
                "{{\"query\":\"{{ a }}\",\"variables\":{{\"v\":[{}1]}}}}",
                "1,".repeat(n)
            )
        };
        assert!(of(&many(MAX_VALUES - 10)).is_ok());
        let wrong = of(&many(MAX_VALUES)).unwrap_err().to_string();
        assert!(wrong.contains("more than 200000 values"), "{wrong}");
        let text = format!("{{\"query\":\"{{ a }} # {}\"}}", ",".repeat(MAX_VALUES + 1));
        assert!(of(&text).is_ok());
    }

    #[test]
    fn in_a_url_the_objects_are_json() {
        let of = |query: &str| Parameters::of_url(query)?.into_request(&persisted());
        let request =
            of("query=query%20Q+%7B%20a%20%7D&operationName=Q&variables=%7B%22a%22%3A1%7D")
                .unwrap();
        assert_eq!(request.query, "query Q { a }");
        assert_eq!(request.variables.len(), 1);
        assert!(of("").is_err());
        assert!(of("query=%7Ba%7D&variables=a").is_err());
        assert!(of("query=%7Ba%7D&extensions=%5B%5D").is_err());
        assert_eq!(
            of("query=%7Ba%7D&operationName=").unwrap().operation_name,
            None
        );
    }
}
