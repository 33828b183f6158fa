//! A table such as `filesystem`, whose keys depend on the value of one of them.
//!
//! The parser must read the whole table before it knows that value, and by then it has lost the places of the
//! values. So a mistake is kept with its key until the place of that key is known.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::strict::Strict;
use crate::key::KeyPath;

/// The key whose value decides which other keys a table has.
const TAG: &str = "type";

/// A table that was read, or the first mistake in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<T>(Result<T, Fault>);

/// A mistake in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    key: Option<String>,
    /// The type that the table gives.
    kind: Option<String>,
    /// The message of serde.
    pub(super) message: String,
}

impl Fault {
    /// The path of the mistake, for a table at `table`.
    pub(super) fn path(&self, table: &KeyPath) -> KeyPath {
        match &self.key {
            Some(key) => table.key(key.clone()),
            None => table.clone(),
        }
    }
}

impl Fault {
    /// For a key that is wrong in a table of its type: a description of that type.
    pub(super) fn in_which(&self) -> Option<String> {
        let kind = self.kind.as_ref().filter(|_| self.message.starts_with("unknown field `"))?;
        Some(format!("{TAG} = \"{kind}\""))
    }
}

impl<T> Checked<T> {
    /// A table that did not come from text.
    #[must_use]
    pub const fn new(table: T) -> Self {
        Self(Ok(table))
    }

    /// The table; `None` if it has a mistake, which [`Manifest::parse`](super::Manifest::parse) reports.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref().ok()
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.0.as_ref().err()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Strict(Table(table)) = Strict::deserialize(deserializer)?;
        Ok(Self(read(table)))
    }
}

/// All keys of a table. No key may occur twice.
struct Table(Map<String, Value>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut table = Map::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if table.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    table.insert(key, value);
                }
                Ok(Table(table))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// Reads a table whose other keys do not depend on each other. So a mistake in one of them also shows if it
/// is alone beside the tag.
fn read<T: DeserializeOwned>(table: Map<String, Value>) -> Result<T, Fault> {
    // A JSON null counts as a missing key.
    let table: Map<_, _> = table.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let kind = table.get(TAG).and_then(Value::as_str).map(str::to_owned);
    let fault = |key: Option<&String>, error: serde_json::Error| Fault {
        key: key.cloned(),
        kind: kind.clone(),
        message: error.to_string(),
    };
    let whole = match serde_json::from_value(Value::Object(table.clone())) {
        Ok(read) => return Ok(read),
        Err(error) => fault(None, error),
    };
    let Some((tag, kind)) = table.get_key_value(TAG) else { return Err(whole) };
    let alone = Map::from_iter([(tag.clone(), kind.clone())]);
    if let Err(error) = serde_json::from_value::<T>(Value::Object(alone.clone())) {
        return Err(fault(Some(tag), error));
    }
    for (key, value) in table.iter().filter(|(key, _)| *key != tag) {
        let mut pair = alone.clone();
        pair.insert(key.clone(), value.clone());
        if let Err(error) = serde_json::from_value::<T>(Value::Object(pair)) {
            return Err(fault(Some(key), error));
        }
    }
    Err(whole)
}

impl<T: Serialize> Serialize for Checked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(table) => table.serialize(serializer),
            Err(fault) => Err(serde::ser::Error::custom(&fault.message)),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Checked<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    // Where a table stands unchecked inside of another, it is the same one.
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::Spec;

    #[test]
    fn a_mistake_is_found_in_its_key() {
        for (text, key, part) in [
            (r#"{"type":"ext4","free":"1 GB"}"#, Some("free"), "bad value `1 GB`"),
            (r#"{"label":"x","type":"ext4","fat":32}"#, Some("fat"), "unknown field `fat`"),
            (r#"{"type":"ext5","free":1}"#, Some("type"), "unknown variant `ext5`"),
            (r#"{"label":"x"}"#, None, "missing field `type`"),
            (r#"{"type":3}"#, Some("type"), "invalid type"),
        ] {
            let checked: Checked<Spec> = serde_json::from_str(text).unwrap();
            let fault = checked.fault().unwrap();
            assert_eq!(fault.key.as_deref(), key, "{text}");
            assert!(fault.message.contains(part), "{text}: {}", fault.message);
        }
        let good: Checked<Spec> = serde_json::from_str(r#"{"type":"vfat","fat":"32","label":null}"#).unwrap();
        assert_eq!(good.get().unwrap().name(), "vfat");
    }
}
