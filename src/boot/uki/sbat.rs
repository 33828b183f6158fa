//! SBAT: the generations of what is in an image, by which Secure Boot revokes all images of an older one.
//!
//! Source: shim, SBAT.md; systemd 262, `src/ukify/ukify.py` (`merge_sbat`).

/// The line of the format itself, which comes first and once.
const HEADER: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
/// The line of a unified kernel image, where nobody gives others.
pub(super) const UKI: &str =
    "sbat,1,x\nuki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n";

/// The lists of the parts as one. What does not begin with the line of the format is no list, and left out.
pub(super) fn merged(lists: &[&[u8]]) -> String {
    let mut lines = vec![HEADER.to_owned()];
    for list in lists {
        let text = String::from_utf8_lossy(list);
        let mut own = text.trim_end_matches('\0').lines();
        if own.next().is_some_and(|first| first.starts_with("sbat,")) {
            lines.extend(own.map(str::to_owned));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged_under_one_header() {
        let text = merged(&[b"sbat,1,old\nstub,1,x\0\0", b"no list\nx", b"", UKI.as_bytes()]);
        let uki = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/";
        assert_eq!(text, format!("{HEADER}\nstub,1,x\n{uki}\n"));
    }
}
