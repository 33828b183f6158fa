//! PEM (RFC 7468): bytes as base 64 between two lines that say what they are.

use crate::encoding::from_base64;

/// What a text in PEM holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub(super) label: String,
    /// The bytes; `None` where they are no base 64.
    pub(super) bytes: Option<Vec<u8>>,
}

/// All blocks of a text, in their order. Lines outside them are ignored, as everybody does.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let end = format!("-----END {label}-----");
        let digits: String = lines.by_ref().take_while(|line| *line != end).collect();
        blocks.push(Block { label: label.to_owned(), bytes: from_base64(digits.as_bytes()) });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_lines() {
        let text = "subject=x\n-----BEGIN A-----\r\nZm9v\r\nYmE=\r\n-----END A-----\nmore\n-----BEGIN B C-----\n?\n-----END B C-----";
        assert_eq!(
            blocks(text),
            [
                Block { label: "A".to_owned(), bytes: Some(b"fooba".to_vec()) },
                Block { label: "B C".to_owned(), bytes: None }
            ]
        );
        assert_eq!(blocks("no block"), []);
    }
}
