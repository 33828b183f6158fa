//! One of a system's contents as a flag gives it: `source=PATH,target=PATH` and more keys, or a JSON object.

use std::str::FromStr;

use super::Content;

impl FromStr for Content {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        let mut content = Self::default();
        // A comma that is not followed by a key belongs to the value, so that modes such as D0755,F0644 can
        // be written.
        let keys = ["source=", "target=", "mode=", "user=", "group="];
        let mut fields: Vec<String> = Vec::new();
        for part in text.split(',') {
            match fields.last_mut() {
                Some(last) if !keys.iter().any(|key| part.starts_with(key)) => {
                    let (key, _) = part.split_once('=').unwrap_or_default();
                    // A mode has such parts itself: u=rwX,go=.
                    let clause = last.starts_with("mode=") && key.bytes().all(|who| b"ugoa".contains(&who));
                    if !clause && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase()) {
                        return Err(format!(
                            "unknown key `{key}`; there are source, target, mode, user, group (a value that holds \
                             `,{key}=` can be written in JSON)"
                        ));
                    }
                    *last = format!("{last},{part}");
                }
                _ => fields.push(part.to_owned()),
            }
        }
        let mut seen: Vec<&str> = Vec::new();
        for field in &fields {
            let (key, value) =
                field.split_once('=').ok_or("a content is source=PATH,target=PATH and more")?;
            let failed = |why: &dyn std::fmt::Display| format!("{key}: {why}");
            if seen.contains(&key) {
                return Err(format!("`{key}` is there twice; a content is one source and one target"));
            }
            seen.push(key);
            match key {
                "source" => value.clone_into(&mut content.source),
                "target" => value.clone_into(&mut content.target),
                "mode" => content.mode = Some(value.parse().map_err(|why| failed(&why))?),
                "user" => content.user = Some(value.parse().map_err(|why| failed(&why))?),
                "group" => content.group = Some(value.parse().map_err(|why| failed(&why))?),
                _ => return Err(format!("unknown key `{key}`; there are source, target, mode, user, group")),
            }
        }
        match (content.source.is_empty(), content.target.is_empty()) {
            (true, _) => Err("a content has a source".to_owned()),
            (_, true) => Err("a content has a target".to_owned()),
            _ => Ok(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_in_both_spellings() {
        let one: Content =
            "source=./ssh,target=/etc/ssh,mode=D0755,F0600,user=alice,group=100".parse().unwrap();
        let other: Content =
            r#"{"source":"./ssh","target":"/etc/ssh","mode":"D0755,F0600","user":"alice","group":100}"#
                .parse()
                .unwrap();
        assert_eq!(one, other);
        assert_eq!(one.mode.unwrap().to_string(), "D0755,F0600");
        for bad in [
            "",
            "source=a",
            "target=/b",
            "source=a,target=/b,mode=9",
            "x=1",
            "{}",
            "/a:/b",
            "source=a,target=/b,owner=3",
            "source=a,target=/b,source=c",
        ] {
            assert!(bad.parse::<Content>().is_err(), "{bad}");
        }
    }
}
