//! Text in GRUB's scripts, quoted so that GRUB passes it on unchanged (GNU GRUB manual, "Quoting").

/// Characters outside quotes that end or join words, or that quote or replace parts of them.
const SPECIAL: &[char] =
    &['{', '}', '|', '&', '$', ';', '<', '>', '\\', '\'', '"', '#', '*', '?', '[', ']', '~'];

/// `text` as one word: unchanged if GRUB treats nothing in it specially, otherwise in double quotes.
pub(super) fn word(text: &str) -> String {
    let special = |c: char| c.is_whitespace() || SPECIAL.contains(&c);
    if text.is_empty() || text.contains(special) { quoted(text) } else { text.to_owned() }
}

/// `text` in double quotes. Inside, GRUB replaces variables and interprets backslashes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// The path of a file, `($drive1)/...` or `/...`, as one word. GRUB replaces the variable at its front.
pub(super) fn word_of_path(path: &str) -> String {
    match path.strip_prefix("($drive").and_then(|rest| rest.split_once(')')) {
        Some((drive, inside)) if inside.contains(|c: char| c.is_whitespace() || SPECIAL.contains(&c)) => {
            let inside = quoted(inside);
            format!("\"($drive{drive}){}", &inside[1..])
        }
        Some(_) => path.to_owned(),
        None => word(path),
    }
}

/// Parameters of a kernel, for GRUB. Both the kernel (Documentation/admin-guide/kernel-parameters.rst) and
/// GRUB use double quotes to keep blanks in a value, so they stay. Characters that only GRUB would interpret
/// are escaped.
pub(super) fn parameters(text: &str) -> String {
    // A quote without an end would swallow the rest of the file.
    let paired = text.matches('"').count().is_multiple_of(2);
    let mut out = String::new();
    let (mut inside, mut first) = (false, true);
    for c in text.chars() {
        let acted_on = match c {
            '"' if paired => {
                inside = !inside;
                false
            }
            '"' | '$' | '\\' => true,
            '{' | '}' | '|' | '&' | ';' | '<' | '>' | '\'' => !inside,
            '#' => first && !inside,
            _ => false,
        };
        if acted_on {
            out.push('\\');
        }
        out.push(c);
        first = c == ' ' && !inside;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_have_to_be() {
        for (text, expected) in [
            ("1234-ABCD", "1234-ABCD"),
            ("nixos", "nixos"),
            ("my disk", "\"my disk\""),
            ("a$b\"c\\d", "\"a\\$b\\\"c\\\\d\""),
            ("", "\"\""),
            ("($drive1)/x", "\"(\\$drive1)/x\""),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn a_path_keeps_its_drive() {
        for (path, expected) in [
            ("($drive1)/nix/store/x/bzImage", "($drive1)/nix/store/x/bzImage"),
            ("($drive2)//kernels/a b$c", "\"($drive2)//kernels/a b\\$c\""),
            ("/kernels/a", "/kernels/a"),
            ("/kernels/a b", "\"/kernels/a b\""),
        ] {
            assert_eq!(word_of_path(path), expected);
        }
    }

    #[test]
    fn parameters_stay_as_they_are_but_for_what_grub_acts_on() {
        for (text, expected) in [
            ("init=/nix/store/x/init loglevel=4", "init=/nix/store/x/init loglevel=4"),
            ("dyndbg=\"file x.c +p; y\" a", "dyndbg=\"file x.c +p; y\" a"),
            ("a=1;b c|d", "a=1\\;b c\\|d"),
            ("x=\"$HOME\" y=$HOME", "x=\"\\$HOME\" y=\\$HOME"),
            ("a#b #c \"d #e\"", "a#b \\#c \"d #e\""),
            ("a=\"b", "a=\\\"b"),
            ("it's", "it\\'s"),
        ] {
            assert_eq!(parameters(text), expected);
        }
    }
}
