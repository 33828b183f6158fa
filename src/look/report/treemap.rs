//! The tree of a page: the largest entries by name, and the rest of each directory as one number, so that it has a limited
//! length whatever the image holds.

use super::inventory::{Inventory, What};
use crate::text::shortened;
use crate::units::index;

/// Bytes of a name that are kept.
const LONGEST_NAME: usize = 128;
/// What an entry costs beside its name: numbers, commas and brackets.
const NUMBERS: usize = 28;

/// The tree as JSON. A file is `[name, bytes]`, a directory `[name, bytes, names, [children]]`, and what a directory holds
/// beside its children `[names, bytes]`. Children are sorted by their bytes. It has at most about `most` bytes.
pub(super) fn json(inventory: &Inventory, root: &str, most: usize) -> String {
    let names: Vec<String> =
        inventory.entries.iter().map(|entry| quoted(&shortened(&entry.name, LONGEST_NAME))).collect();
    // A directory is at least as large as what is in it, and stands before it: so it is kept whenever that is.
    let mut order: Vec<usize> = (0..inventory.entries.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(inventory.entries[*at].total), *at));
    let (mut kept, mut length) = (vec![false; inventory.entries.len()], 0);
    for at in order {
        length += names[at].len() + NUMBERS;
        if length > most {
            break;
        }
        kept[at] = true;
    }
    let children = inventory.children();
    let tops: Vec<usize> = inventory.tops().filter(|top| kept[*top]).collect();
    let of = Tree { inventory, names: &names, kept: &kept, children: &children };
    let mut out = String::new();
    match tops[..] {
        [only] => of.entry(only, &mut out),
        _ => {
            let all = |value: fn(&super::Entry) -> u64| {
                super::sum(tops.iter().map(|top| value(&inventory.entries[*top])))
            };
            let (total, count) = (all(|own| own.total), all(|own| own.names));
            out.push_str(&format!("[{},{total},{count},[", quoted(root)));
            of.entries(&tops, &mut out);
            out.push_str("]]");
        }
    }
    out
}

struct Tree<'a> {
    inventory: &'a Inventory,
    names: &'a [String],
    kept: &'a [bool],
    children: &'a [Vec<u32>],
}

impl Tree<'_> {
    /// Writes one entry with everything below it. It is not recursive, since an image may have directories of any depth.
    fn entry(&self, top: usize, out: &mut String) {
        // What is to be written, the next one last: an entry, or the end of one.
        let mut stack = vec![Step::Entry(top)];
        while let Some(step) = stack.pop() {
            let at = match step {
                Step::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Step::Rest(names, bytes) => {
                    out.push_str(&format!("[{names},{bytes}]"));
                    continue;
                }
                Step::Entry(at) => at,
            };
            let entry = &self.inventory.entries[at];
            if entry.what != What::Directory {
                out.push_str(&format!("[{},{}]", self.names[at], entry.total));
                continue;
            }
            out.push_str(&format!("[{},{},{},[", self.names[at], entry.total, entry.names));
            stack.push(Step::Text("]]"));
            let (mut kept, mut rest) = (Vec::new(), (0, 0_u64));
            for child in self.children[at].iter().map(|child| index(*child)) {
                if self.kept[child] {
                    kept.push(child);
                } else {
                    let other = &self.inventory.entries[child];
                    rest = (rest.0 + other.names, rest.1.saturating_add(other.total));
                }
            }
            self.sort(&mut kept);
            let mut steps: Vec<Step> = kept.into_iter().map(Step::Entry).collect();
            if rest.0 > 0 {
                steps.push(Step::Rest(rest.0, rest.1));
            }
            let last = steps.len();
            for (number, step) in steps.into_iter().enumerate().rev() {
                if number + 1 < last {
                    stack.push(Step::Text(","));
                }
                stack.push(step);
            }
        }
    }

    /// Writes entries beside each other.
    fn entries(&self, entries: &[usize], out: &mut String) {
        let mut entries = entries.to_vec();
        self.sort(&mut entries);
        for (number, at) in entries.into_iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            self.entry(at, out);
        }
    }

    fn sort(&self, entries: &mut [usize]) {
        entries.sort_by_key(|at| (std::cmp::Reverse(self.inventory.entries[*at].total), *at));
    }
}

enum Step {
    Entry(usize),
    Rest(u64, u64),
    Text(&'static str),
}

/// A text as JSON that can stand inside a `script` element: nothing in it ends one or begins a comment.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::Inode;
    use crate::look::report::Entry;

    fn inventory(entries: &[(Option<u32>, &str, What, u64)]) -> Inventory {
        let entry = |(parent, name, what, total): &(Option<u32>, &str, What, u64)| Entry {
            parent: *parent,
            name: name.as_bytes().into(),
            volume: 0,
            inode: Inode(0),
            what: *what,
            size: *total,
            own: *total,
            total: *total,
            names: 1,
            first: None,
        };
        Inventory { entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn what_is_small_becomes_one_number() {
        let all = inventory(&[
            (None, "disk", What::Directory, 100),
            (Some(0), "a", What::Directory, 30),
            (Some(1), "x", What::File, 29),
            (Some(0), "</script>", What::File, 60),
            (Some(0), "s", What::File, 4),
            (Some(0), "t", What::File, 6),
        ]);
        let whole = json(&all, "i", 10_000);
        assert_eq!(
            whole,
            r#"["disk",100,1,[["\u003c/script\u003e",60],["a",30,1,[["x",29]]],["t",6],["s",4]]]"#
        );
        let small = json(&all, "i", 4 * 40);
        assert_eq!(small, r#"["disk",100,1,[["\u003c/script\u003e",60],["a",30,1,[["x",29]]],[2,10]]]"#);
        assert_eq!(json(&Inventory::default(), "i", 100), r#"["i",0,0,[]]"#);
        assert!(small.len() < whole.len());
    }

    #[test]
    fn deep_directories_take_no_stack() {
        let mut entries = vec![(None, "disk", What::Directory, 1)];
        for at in 0..50_000 {
            entries.push((Some(at), "d", What::Directory, 1));
        }
        assert!(json(&inventory(&entries), "i", usize::MAX).ends_with("]]]]"));
    }
}
