//! Extractors of what stands in the URL.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use serde::de::value::{Error, MapDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::asker::PARAMETERS;
use super::code::Code;
use super::json;
use super::problem::Problem;

/// The parameters after the `?`, refused with 422 `invalid_request` like the fields of a body: unknown ones where `T`
/// has `deny_unknown_fields` (but those that say who asks), one that stands twice, and what is not percent-encoded UTF-8.
///
/// A flag is `1`, `0`, `true` or `false`.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = pairs(parts.uri.query().unwrap_or_default())?;
        let pairs = pairs.into_iter().filter(|(key, _)| !PARAMETERS.contains(&key.as_str()));
        let map = MapDeserializer::new(pairs.map(|(key, value)| (key, Text(value))));
        serde_path_to_error::deserialize(map).map(Self).map_err(|error| {
            let (field, detail) = json::fault(error);
            Problem::field(field, detail)
        })
    }
}

/// The one parameter of a path such as `/v1/turns/{id}`. What is not UTF-8 names nothing, nor does what has a NUL in
/// it, which PostgreSQL's text cannot hold: 404 `route_not_found`.
#[derive(Clone, Debug)]
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: From<String>> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let none = || Problem::new(Code::RouteNotFound, "The path names nothing.");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| none())?;
        let text = params.iter().next().map(|(_, text)| text).filter(|text| !text.contains('\0'));
        text.map(|text| Self(T::from(text.to_owned()))).ok_or_else(none)
    }
}

/// The pairs of a query (WHATWG URL, section 5.1), decoded.
///
/// # Errors
/// 422 where something is not percent-encoded UTF-8.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let bad = |field: &str| Problem::field(field, "must be percent-encoded UTF-8");
        let key = decode(key).ok_or_else(|| bad(key))?;
        let value = decode(value).ok_or_else(|| bad(&key))?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit =
        |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A parameter's text, read as whatever its field asks for.
struct Text(String);

impl IntoDeserializer<'_, Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$type>() {
                Ok(number) if !self.0.starts_with('+') => visitor.$visit(number),
                _ => Err(wrong(&self.0, &visitor)),
            }
        }
    )*};
}

fn wrong(text: &str, expected: &dyn serde::de::Expected) -> Error {
    serde::de::Error::invalid_value(serde::de::Unexpected::Str(text), expected)
}

impl<'de> Deserializer<'de> for Text {
    type Error = Error;

    numbers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i64 visit_i64 i64;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.as_str() {
            "1" | "true" => visitor.visit_bool(true),
            "0" | "false" => visitor.visit_bool(false),
            text => Err(wrong(text, &"`1`, `0`, `true` or `false`")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        StringDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A text as it stands in one segment of a path or one value of a query (RFC 3986, section 2.3).
pub fn encode(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let encoded =
        text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    Cow::Owned(encoded.collect())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Page {
        limit: Option<u32>,
        follow: Option<bool>,
        before: Option<String>,
        events: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Named,
    }

    async fn read(query: &str) -> Result<Page, String> {
        let request = http::Request::builder().uri(format!("/x?{query}")).body(()).unwrap();
        let result = Query::<Page>::from_request_parts(&mut request.into_parts().0, &()).await;
        result.map(|Query(page)| page).map_err(|problem| {
            let json = problem.to_json(&"req_1".into(), crate::domain::clock::Timestamp::from_micros(0));
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            json["field"].as_str().unwrap().to_owned()
        })
    }

    #[tokio::test]
    async fn a_query_is_read_as_strictly_as_a_body() {
        let page =
            Page { limit: Some(3), follow: Some(false), before: Some("a b&é".into()), events: Some(Kind::Named) };
        assert_eq!(read("limit=3&follow=0&before=a+b%26%C3%A9&&events=named").await, Ok(page));
        assert_eq!(read("").await, Ok(Page::default()));
        for (query, field) in [
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=%2B1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("follow=yes", "follow"),
            ("events=odd", "events"),
            ("colour=red", "colour"),
            ("before=%ff", "before"),
            ("before=%4", "before"),
            ("before=%zz", "before"),
            ("before=%+1", "before"),
        ] {
            assert_eq!(read(query).await, Err(field.to_owned()), "{query}");
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        assert_eq!(encode("a-b_c.d~1"), "a-b_c.d~1");
        assert_eq!(decode(&encode("a/b?c=é +%")).as_deref(), Some("a/b?c=é +%"));
    }
}
