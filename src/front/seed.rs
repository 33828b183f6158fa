//! The seed of a disk without a given seed: it derives from the description.

use sha2::{Digest, Sha256};

use crate::identity::Seed;

/// A seed from a description: a UUID of version 8 from the first 16 bytes of the SHA-256 of its [`canonical`]
/// form.
#[must_use]
pub fn derived(description: &serde_json::Value) -> Seed {
    let digest: [u8; 32] = Sha256::digest(canonical(description)).into();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Seed::new(uuid::Builder::from_custom_bytes(first).into_uuid())
}

/// The canonical form of a description: JSON with sorted keys and no spaces. A manifest and flags that
/// describe the same disk have the same canonical form.
#[must_use]
pub fn canonical(description: &serde_json::Value) -> String {
    let mut text = String::new();
    write(description, &mut text);
    text
}

/// Writes `value` with sorted keys, even if the map type of this build does not sort them.
fn write(value: &serde_json::Value, out: &mut String) {
    let list = |open: char, close: char, parts: Vec<String>| format!("{open}{}{close}", parts.join(","));
    let text = match value {
        serde_json::Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            let parts = sorted.into_iter().map(|(key, value)| {
                let mut part = format!("{}:", serde_json::Value::from(key.as_str()));
                write(value, &mut part);
                part
            });
            list('{', '}', parts.collect())
        }
        serde_json::Value::Array(array) => {
            let parts = array.iter().map(|value| {
                let mut part = String::new();
                write(value, &mut part);
                part
            });
            list('[', ']', parts.collect())
        }
        plain => plain.to_string(),
    };
    out.push_str(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_means_nothing_and_every_value_does() {
        let one = serde_json::json!({ "b": [1, "x"], "a": { "d": true, "c": null } });
        let other: serde_json::Value =
            serde_json::from_str(r#"{ "a": { "c": null, "d": true }, "b": [ 1, "x" ] }"#).unwrap();
        assert_eq!(derived(&one), derived(&other));
        assert_ne!(
            derived(&one),
            derived(&serde_json::json!({ "b": ["x", 1], "a": { "d": true, "c": null } }))
        );
        assert_eq!(canonical(&one), r#"{"a":{"c":null,"d":true},"b":[1,"x"]}"#);
    }
}
