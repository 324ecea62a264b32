//! From bytes to a typed value, refusing whatever could be read in two ways.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::{Error, Map, Value};

/// How the keys begin by which serde_json tells itself that an object is none: whoever reads such an object again, as a
/// [`Value`], reads the text in it, however deep that is.
const PRIVATE: &str = "$serde_json::private::";

/// Reads JSON (RFC 8259); a key twice in one object is an error, and one that begins like serde_json's own.
///
/// # Errors
/// When it is not JSON.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice::<Once>(bytes).map(|once| once.0)
}

/// Makes a `T` of a value; a list is never taken for an object.
///
/// # Errors
/// The path of the field at fault, and what is wrong with it.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(Strict(value)).map_err(fault)
}

/// The field at fault, by its path, and what is wrong with it.
pub fn fault<E: fmt::Display>(error: serde_path_to_error::Error<E>) -> (String, String) {
    let detail = error.inner().to_string();
    let mut path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    // The path of these ends at the object that should have, or has twice, the field.
    let named = ["missing field `", "duplicate field `"].iter().find_map(|start| detail.strip_prefix(start));
    if let Some((name, _)) = named.and_then(|rest| rest.rsplit_once('`')) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
    (path, detail)
}

/// A value whose objects have each key once.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Self)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Once(value))) = access.next_entry::<String, Once>()? {
            if key.starts_with(PRIVATE) {
                return Err(de::Error::custom("a key is reserved"));
            }
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("a key stands twice in one object"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// A value that serde's own leniency does not reach: a struct is an object and nothing else.
struct Strict(Value);

impl IntoDeserializer<'_, Error> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Strict {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Strict))),
            Value::Object(map) => {
                visitor.visit_map(MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Strict(value)))))
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                plain.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.is_array() {
            return Err(de::Error::invalid_type(Unexpected::Seq, &visitor));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "role")]
        _role: String,
        #[serde(default, rename = "limit")]
        _limit: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "content")]
        _content: String,
        #[serde(default, rename = "history")]
        _history: Vec<Inner>,
        #[serde(default, rename = "one")]
        _one: Option<Inner>,
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            &b""[..],
            b"{",
            b"{}x",
            b"\"\xff\"",
            b"\"\\ud800\"",
            b"\"\\ud800x\"",
            b"\"\\udc00\"",
            b"{\"a\":\"\\ud83d\"}",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":[{\"b\":1,\"b\":1}]}",
            b"{\"$serde_json::private::RawValue\":\"1\"}",
            b"[{\"a\":1,\"\\u0024serde_json::private::Number\":\"1\"}]",
            b"'a'",
            b"[1,]",
            b"NaN",
            b"\"\n\"",
            b"01",
            b"1e999",
            b"\xef\xbb\xbf{}",
            &[b'['; 100_000],
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(&bad[..bad.len().min(40)]));
        }
        assert_eq!(parse(b" {\"a\":\"\\ud83d\\ude00\\u0000\"} ").unwrap(), json!({"a": "😀\0"}));
    }

    #[test]
    fn the_field_at_fault_is_named_by_its_path() {
        let path = |value: Value| typed::<Outer>(value).unwrap_err().0;
        assert_eq!(path(json!({})), "content");
        assert_eq!(path(json!({"content": 1})), "content");
        assert_eq!(path(json!({"content": "a", "other": 1})), "other");
        assert_eq!(path(json!({"content": "a", "history": [{"role": "user"}, {}]})), "history[1].role");
        assert_eq!(path(json!({"content": "a", "history": [{"role": "user", "x`y": 1}]})), "history[0].x`y");
        assert_eq!(path(json!({"content": "a", "history": [{"role": "user", "limit": -1}]})), "history[0].limit");
        assert_eq!(path(json!({"content": "a", "history": {}})), "history");
        assert_eq!(path(json!({"content": "a", "one": ["user"]})), "one");
        assert_eq!(path(json!({"content": "a", "one": {"role": null}})), "one.role");
        assert_eq!(path(json!(["a"])), "");
        assert!(typed::<Outer>(json!({"content": "a", "one": null, "history": [{"role": "u", "limit": 3}]})).is_ok());
    }
}
