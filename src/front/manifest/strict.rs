//! Reads a table only from a table. A struct with a derived `Deserialize` also takes an array, whose elements
//! are the fields in the order of their declaration. Nobody means that in a manifest, and an error about it
//! could not name a key.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

/// A `T` that was read from a table.
pub(super) struct Strict<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
            type Value = Strict<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Strict<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Strict)
            }
        }

        deserializer.deserialize_map(Table(PhantomData))
    }
}

/// For a key that is a table: `#[serde(deserialize_with = "strict::table")]`.
pub(super) fn table<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Strict::deserialize(deserializer).map(|Strict(table)| table)
}

/// For a key that is an array of tables.
pub(super) fn tables<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let tables = Vec::<Strict<T>>::deserialize(deserializer)?;
    Ok(tables.into_iter().map(|Strict(table)| table).collect())
}

/// For a key that may be an array of tables.
pub(super) fn optional_tables<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let tables = Option::<Vec<Strict<T>>>::deserialize(deserializer)?;
    Ok(tables.map(|tables| tables.into_iter().map(|Strict(table)| table).collect()))
}

/// For a key that may be a table.
pub(super) fn optional_table<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let table = Option::<Strict<T>>::deserialize(deserializer)?;
    Ok(table.map(|Strict(table)| table))
}
