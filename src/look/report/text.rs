//! A report on a terminal: bars, as dust(1) and dutree(1) draw them.

use std::fmt::Write;

use super::disk::{USES, Use};
use super::inventory::Inventory;
use super::store::Store;
use super::{Changes, Compression, Duplicates, Links, Report, shown};
use crate::text::printable;
use crate::units::{Bytes, index, u64_of, usize_of};

/// How many rows of each kind are shown.
const ROWS: usize = 12;
/// How many rows the tree has.
const TREE: usize = 24;
/// Cells of the bar of an area.
const CELLS: u64 = 40;
/// The place of holes in [`USES`].
const HOLE: usize = 3;
/// The letter of each use, in the order of [`USES`].
const LETTERS: [char; 5] = ['#', 'm', '-', '.', '?'];

/// The report as text. `width` is the number of columns.
#[must_use]
pub fn text(report: &Report, width: usize) -> String {
    let mut out = String::new();
    let size = |bytes: u64| Bytes::new(bytes).human();
    line(
        &mut out,
        format_args!(
            "{}: {}, {}, {} on the host",
            report.image,
            report.format,
            size(report.virtual_size),
            size(report.actual_size)
        ),
    );
    line(
        &mut out,
        format_args!(
            "{} names, {} files, which occupy {}",
            report.names,
            report.files,
            size(report.occupied)
        ),
    );
    disk(&mut out, report);
    if !report.inventory.entries.is_empty() {
        tree(&mut out, &report.inventory, width);
        heading(&mut out, "the largest files");
        for file in report.largest.iter().take(ROWS) {
            line(&mut out, format_args!("{:>12}  {}", size(file.occupied), file.path));
        }
        equal(&mut out, &report.links, &report.duplicates);
        compression(&mut out, &report.compression);
    }
    if let Some(store) = &report.store {
        store_paths(&mut out, store);
    }
    if let Some(found) = &report.changes {
        changes(&mut out, found);
    }
    if !report.remarks.is_empty() {
        heading(&mut out, "remarks");
        for remark in &report.remarks {
            line(&mut out, format_args!("{}", printable(remark.as_bytes())));
        }
    }
    out
}

/// Writes a line; a text takes everything.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn heading(out: &mut String, text: &str) {
    line(out, format_args!("\n{text}"));
}

fn disk(out: &mut String, report: &Report) {
    heading(out, "the disk (# data, m metadata, - free, . hole, ? unknown)");
    let longest = report.areas.iter().map(|area| area.name.chars().count()).max().unwrap_or(0);
    for area in &report.areas {
        let bar: String = cells(area.start, area.end, &area.extents, CELLS)
            .into_iter()
            .map(|of| {
                USES.iter().position(|own| *own == of).and_then(|at| LETTERS.get(at)).copied().unwrap_or('?')
            })
            .collect();
        let size = Bytes::new(area.end - area.start).human();
        line(out, format_args!("{:<longest$}  {size:>12}  {bar}  {}", area.name, area.content));
    }
}

/// The use of most bytes in each of `count` equal parts of a range. A hole is shown only where nothing else is, so that
/// a small file of a large disk is seen.
pub(super) fn cells(start: u64, end: u64, extents: &[super::Extent], count: u64) -> Vec<Use> {
    let length = end - start;
    let count = count.min(length).max(1);
    let border = |number: u64| {
        let at = u128::from(length) * u128::from(number) / u128::from(count);
        start + u64::try_from(at).unwrap_or(length)
    };
    let (mut cells, mut first) = (Vec::new(), 0);
    for number in 0..count {
        let (from, to) = (border(number), border(number + 1));
        while extents.get(first).is_some_and(|extent| extent.end <= from) {
            first += 1;
        }
        let mut sums = [0_u64; USES.len()];
        for extent in extents[first..].iter().take_while(|extent| extent.start < to) {
            let bytes = extent.end.min(to) - extent.start.max(from);
            if let Some(at) = USES.iter().position(|own| *own == extent.of) {
                sums[at] += bytes;
            }
        }
        if sums.iter().zip(USES).any(|(sum, of)| *sum > 0 && of != Use::Hole) {
            sums[HOLE] = 0;
        }
        let most = sums.iter().max().copied().unwrap_or(0);
        let at = sums.iter().position(|sum| *sum == most).unwrap_or(0);
        cells.push(USES[at]);
    }
    cells
}

/// The largest directories and files, each below its directory.
fn tree(out: &mut String, inventory: &Inventory, width: usize) {
    heading(out, "what fills it");
    let entries = &inventory.entries;
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(entries[*at].total), *at));
    order.truncate(TREE);
    let all = super::sum(inventory.tops().map(|top| entries[top].total));
    let mut kept = vec![false; entries.len()];
    order.iter().for_each(|at| kept[*at] = true);
    let children = inventory.children();
    let mut stack: Vec<(usize, usize)> = sorted(inventory, inventory.tops().filter(|top| kept[*top]), 0);
    while let Some((at, depth)) = stack.pop() {
        let entry = &entries[at];
        let percent = percent(entry.total, all);
        let size = Bytes::new(entry.total).human();
        let name = if depth == 0 { shown(inventory, at) } else { printable(&entry.name) };
        let left = format!("{size:>12} {percent:>3} %  {}{name}", "  ".repeat(depth));
        let space = width.saturating_sub(left.chars().count() + 2);
        let bar = usize_of(u64_of(space.min(40)) * percent / 100);
        let gap = width.saturating_sub(left.chars().count() + bar);
        line(
            out,
            format_args!("{left}{}{}", " ".repeat(if bar > 0 { gap } else { 0 }), "\u{2588}".repeat(bar)),
        );
        let below = children[at].iter().map(|child| index(*child)).filter(|child| kept[*child]);
        stack.extend(sorted(inventory, below, depth + 1));
    }
}

/// Entries with their depth, the largest last.
fn sorted(inventory: &Inventory, of: impl Iterator<Item = usize>, depth: usize) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = of.map(|at| (at, depth)).collect();
    all.sort_by_key(|(at, _)| (inventory.entries[*at].total, std::cmp::Reverse(*at)));
    all
}

/// A part of a whole in per cent.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}

fn equal(out: &mut String, links: &Links, duplicates: &Duplicates) {
    let size = |bytes: u64| Bytes::new(bytes).human();
    if links.files > 0 {
        heading(out, "hard links");
        line(
            out,
            format_args!(
                "{} files have {} names; dissolving these links costs {}",
                links.files,
                links.names,
                size(links.dissolved)
            ),
        );
    }
    if duplicates.groups > 0 {
        heading(out, "equal files");
        line(
            out,
            format_args!(
                "{} files have the bytes of another one, in {} groups; linking them saves {}",
                duplicates.files,
                duplicates.groups,
                size(duplicates.wasted)
            ),
        );
        for group in duplicates.largest.iter().take(ROWS / 2) {
            let first = group.paths.first().map_or("", String::as_str);
            line(out, format_args!("{:>12}  {} times {first}", size(group.more()), group.count));
        }
    }
}

fn compression(out: &mut String, found: &Compression) {
    if found.samples == 0 {
        return;
    }
    let size = |bytes: u64| Bytes::new(bytes).human();
    heading(out, &format!("what compresses ({}, by {} samples)", found.method, found.samples));
    let rows = found.suffixes.iter().map(|own| (own.suffix.as_str(), own.bytes, own.compressed));
    for (name, bytes, compressed) in
        std::iter::once(("all files", found.bytes, found.compressed)).chain(rows).take(ROWS)
    {
        let name = if name.is_empty() { "no suffix" } else { name };
        let percent = percent(compressed, bytes);
        line(out, format_args!("{:>12} -> {:>12} {percent:>3} %  {name}", size(bytes), size(compressed)));
    }
}

fn store_paths(out: &mut String, store: &Store) {
    let size = |bytes: u64| Bytes::new(bytes).human();
    heading(out, &format!("{}: {} store paths, {}", store.place, store.count, size(store.occupied)));
    line(out, format_args!("references: {}", store.references));
    line(out, format_args!("{:>12} {:>12}", "own", "with it"));
    for own in store.paths.iter().take(ROWS) {
        line(out, format_args!("{:>12} {:>12}  {}", size(own.occupied), size(own.retained), own.name));
        if let Some(first) = own.because_of.first() {
            let more = own.referrers - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            line(out, format_args!("{:>25}  because of {first}{more}", ""));
        }
    }
}

fn changes(out: &mut String, found: &Changes) {
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| Bytes::new(bytes).human());
    heading(out, &format!("since {}", found.since));
    line(out, format_args!("{} -> {}", size(Some(found.before)), size(Some(found.after))));
    for own in found.sizes.iter().take(ROWS) {
        line(out, format_args!("{:>12} -> {:>12}  {}", size(own.before), size(own.after), own.name));
    }
    line(out, format_args!("{} differences; `diskwright diff` shows all of them", found.count));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::report::Extent;

    #[test]
    fn a_cell_has_the_use_of_most_of_its_bytes() {
        let extents = [
            Extent { start: 10, end: 14, of: Use::Data },
            Extent { start: 14, end: 19, of: Use::Free },
            Extent { start: 19, end: 20, of: Use::Hole },
        ];
        assert_eq!(USES[HOLE], Use::Hole);
        let few =
            [Extent { start: 0, end: 99, of: Use::Hole }, Extent { start: 99, end: 100, of: Use::Data }];
        assert_eq!(cells(0, 100, &few, 4), [Use::Hole, Use::Hole, Use::Hole, Use::Data]);
        assert_eq!(cells(10, 20, &extents, 2), [Use::Data, Use::Free]);
        assert_eq!(cells(10, 20, &extents, 100).len(), 10);
        assert_eq!(cells(10, 20, &extents, 1), [Use::Free]);
    }
}
