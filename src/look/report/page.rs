//! A report as one HTML page. It asks for nothing from elsewhere: style, script and data are in it, and its policy forbids
//! everything else. Everything but the treemap is there without the script.
//!
//! Names come from the image, so every text goes through [`escaped`] or is JSON that cannot end a script; the script makes text nodes only.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::disk::{Area, USES};
use super::store::{Store, StoreEntry};
use super::text::{cells, percent};
use super::treemap::json;
use super::{Changes, Compression, Duplicates, Group, Links, Report};
use crate::encoding::to_base64;
use crate::units::Bytes;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// About how many bytes the tree takes: with the tables, a page stays below 2 MB.
const TREE: usize = 1_100_000;
/// Cells of the map of an area.
const CELLS: u64 = 240;
/// How many store paths and groups of files are on the page.
const PATHS: usize = 200;
const GROUPS: usize = 25;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let script = to_base64(&Sha256::digest(SCRIPT.as_bytes()));
    let mut out = String::new();
    let title = escaped(&report.image);
    put(
        &mut out,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'sha256-{script}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        ),
    );
    head(&mut out, report);
    put(&mut out, format_args!("<main>\n"));
    disk(&mut out, report);
    if !report.inventory.entries.is_empty() {
        put(&mut out, format_args!("{TREEMAP}"));
    }
    if let Some(found) = &report.changes {
        changes(&mut out, found);
    }
    if let Some(store) = &report.store {
        store_paths(&mut out, store);
    }
    files(&mut out, report);
    remarks(&mut out, &report.remarks);
    put(&mut out, format_args!("</main>\n"));
    if !report.inventory.entries.is_empty() {
        let tree = json(&report.inventory, &report.image, TREE);
        put(&mut out, format_args!("<script type=\"application/json\" id=\"data\">{tree}</script>\n"));
        put(&mut out, format_args!("<script>{SCRIPT}</script>\n"));
    }
    put(&mut out, format_args!("</body>\n</html>\n"));
    out
}

/// Where the script draws.
const TREEMAP: &str = "<section aria-labelledby=\"tree-title\">\n<h2 id=\"tree-title\">What fills it</h2>\n\
    <nav id=\"trail\" aria-label=\"Where the treemap is\"></nav>\n\
    <p class=\"hint\">Choose a box to go into it, Escape to go back, arrow keys to move.</p>\n\
    <div id=\"treemap\" role=\"group\" aria-label=\"Treemap of sizes\"></div>\n\
    <output id=\"chosen\"></output>\n\
    <details id=\"listing\"><summary>The same as a list</summary><ol id=\"list\"></ol></details>\n\
    <noscript><p>The treemap needs scripts; everything else on this page does not.</p></noscript>\n</section>\n";

/// Writes text; a text takes everything.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Text between tags or in an attribute in quotation marks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

fn size(bytes: u64) -> String {
    Bytes::new(bytes).human()
}

fn head(out: &mut String, report: &Report) {
    put(out, format_args!("<header>\n<h1>{}</h1>\n<dl class=\"facts\">\n", escaped(&report.image)));
    for (name, value) in [
        ("Format", report.format.clone()),
        ("Disk", size(report.virtual_size)),
        ("On the host", size(report.actual_size)),
        ("Files", report.files.to_string()),
        ("Names", report.names.to_string()),
        ("They occupy", size(report.occupied)),
    ] {
        put(out, format_args!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(&value)));
    }
    put(out, format_args!("</dl>\n</header>\n"));
}

/// Begins a section that is called by its heading. `title` is markup.
fn section(out: &mut String, name: &str, title: &str) {
    put(
        out,
        format_args!("<section aria-labelledby=\"{name}-title\">\n<h2 id=\"{name}-title\">{title}</h2>\n"),
    );
}

fn disk(out: &mut String, report: &Report) {
    section(out, "disk", "The disk");
    put(out, format_args!("<ul class=\"legend\">"));
    for of in USES {
        put(out, format_args!("<li><i class=\"{0}\"></i>{0}</li>", of.name()));
    }
    put(out, format_args!("</ul>\n"));
    // All parts in proportion, and then each one by itself.
    put(out, format_args!("<div class=\"strip whole\" aria-hidden=\"true\">"));
    for (number, area) in report.areas.iter().enumerate() {
        let share = u128::from(area.end - area.start) * 10_000 / u128::from(report.virtual_size.max(1));
        put(
            out,
            format_args!(
                "<i class=\"part p{}\" style=\"flex:{share}\" title=\"{}\"></i>",
                number % 4,
                escaped(&area.name)
            ),
        );
    }
    put(out, format_args!("</div>\n"));
    report.areas.iter().for_each(|own| area(out, own));
    put(out, format_args!("</section>\n"));
}

fn area(out: &mut String, area: &Area) {
    let told: Vec<String> = USES
        .into_iter()
        .filter(|of| area.bytes(*of) > 0)
        .map(|of| format!("{} {}", of.name(), size(area.bytes(of))))
        .collect();
    let content = if area.content.is_empty() { String::new() } else { format!(", {}", area.content) };
    put(
        out,
        format_args!(
            "<div class=\"area\"><h3>{}{}</h3><p>{} from byte {}: {}</p><div class=\"strip\" aria-hidden=\"true\">",
            escaped(&area.name),
            escaped(&content),
            size(area.end - area.start),
            area.start,
            told.join(", ")
        ),
    );
    let mut cells = cells(area.start, area.end, &area.extents, CELLS).into_iter().peekable();
    while let Some(of) = cells.next() {
        let mut count = 1;
        while cells.next_if_eq(&of).is_some() {
            count += 1;
        }
        put(out, format_args!("<i class=\"{}\" style=\"flex:{count}\"></i>", of.name()));
    }
    put(out, format_args!("</div></div>\n"));
}

/// Begins a table that can be scrolled by itself, with its columns; those that begin with `#` are numbers.
fn table(out: &mut String, label: &str, columns: &[&str]) {
    put(
        out,
        format_args!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table>\n<thead><tr>"
        ),
    );
    for column in columns {
        match column.strip_prefix('#') {
            Some(number) => put(out, format_args!("<th scope=\"col\" class=\"n\">{number}</th>")),
            None => put(out, format_args!("<th scope=\"col\">{column}</th>")),
        }
    }
    put(out, format_args!("</tr></thead>\n<tbody>\n"));
}

const TABLE_END: &str = "</tbody></table></div>\n";

fn store_paths(out: &mut String, store: &Store) {
    section(out, "store", "Store paths");
    put(
        out,
        format_args!(
            "<p>{} has {} store paths, which occupy {}. References: {}. What goes <em>with it</em> is what is only there because \
             of it.</p>\n",
            escaped(&store.place),
            store.count,
            size(store.occupied),
            escaped(&store.references)
        ),
    );
    table(out, "Store paths", &["#own", "#with it", "store path, because of"]);
    store.paths.iter().take(PATHS).for_each(|own| store_path(out, own));
    put(out, format_args!("{TABLE_END}</section>\n"));
}

fn store_path(out: &mut String, own: &StoreEntry) {
    put(
        out,
        format_args!(
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td><details><summary>{}</summary>",
            size(own.occupied),
            size(own.retained),
            escaped(&own.name)
        ),
    );
    if own.because_of.is_empty() {
        put(out, format_args!("<p>No store path refers to it.</p>"));
    } else {
        put(out, format_args!("<p>Because of:</p><ul>"));
        own.because_of.iter().for_each(|name| put(out, format_args!("<li>{}</li>", escaped(name))));
        let more = own.referrers.saturating_sub(crate::units::u64_of(own.because_of.len()));
        if more > 0 {
            put(out, format_args!("<li>and {more} more</li>"));
        }
        put(out, format_args!("</ul><p>A shortest way:</p><ol>"));
        own.way.iter().for_each(|name| put(out, format_args!("<li>{}</li>", escaped(name))));
        put(out, format_args!("</ol>"));
    }
    put(out, format_args!("</details></td></tr>\n"));
}

fn files(out: &mut String, report: &Report) {
    if report.largest.is_empty() {
        return;
    }
    section(out, "files", "The largest files");
    table(out, "The largest files", &["#occupied", "#length", "path"]);
    for file in &report.largest {
        put(
            out,
            format_args!(
                "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
                size(file.occupied),
                size(file.size),
                escaped(&file.path)
            ),
        );
    }
    put(out, format_args!("{TABLE_END}</section>\n"));
    duplicates(out, &report.duplicates);
    links(out, &report.links);
    compression(out, &report.compression);
}

fn groups(out: &mut String, label: &str, column: &str, all: &[Group]) {
    table(out, label, &[column, "#each", "#times", "paths"]);
    for group in all.iter().take(GROUPS) {
        put(
            out,
            format_args!(
                "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>",
                size(group.more()),
                size(group.occupied),
                group.count
            ),
        );
        let paths: Vec<String> = group.paths.iter().map(|path| escaped(path)).collect();
        put(out, format_args!("{}</td></tr>\n", paths.join("<br>")));
    }
    put(out, format_args!("{TABLE_END}"));
}

fn duplicates(out: &mut String, found: &Duplicates) {
    section(out, "equal", "Equal files");
    if found.groups == 0 {
        put(out, format_args!("<p>No two files have the same bytes.</p>\n</section>\n"));
        return;
    }
    put(
        out,
        format_args!(
            "<p>{} files have the bytes of another one, in {} groups. Linking them saves {}.</p>\n",
            found.files,
            found.groups,
            size(found.wasted)
        ),
    );
    groups(out, "Equal files", "#saved", &found.largest);
    put(out, format_args!("</section>\n"));
}

fn links(out: &mut String, found: &Links) {
    if found.files == 0 {
        return;
    }
    section(out, "links", "Hard links");
    put(
        out,
        format_args!(
            "<p>{} files have {} names. Dissolving these links costs {}.</p>\n",
            found.files,
            found.names,
            size(found.dissolved)
        ),
    );
    groups(out, "Hard links", "#cost", &found.largest);
    put(out, format_args!("</section>\n"));
}

fn compression(out: &mut String, found: &Compression) {
    if found.samples == 0 {
        return;
    }
    section(out, "compress", "What compresses");
    put(
        out,
        format_args!(
            "<p>An estimate: {}, by {} samples of {}. All files: {} to {}.</p>\n",
            found.method,
            found.samples,
            size(found.bytes),
            size(found.bytes),
            size(found.compressed)
        ),
    );
    table(out, "What compresses", &["suffix", "#bytes", "#compressed", "#of it", "#samples"]);
    for own in &found.suffixes {
        let name = if own.suffix.is_empty() { "(none)" } else { &own.suffix };
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} %</td><td class=\"n\">{}</td></tr>\n",
                escaped(name),
                size(own.bytes),
                size(own.compressed),
                percent(own.compressed, own.bytes),
                own.samples
            ),
        );
    }
    put(out, format_args!("{TABLE_END}</section>\n"));
}

fn changes(out: &mut String, found: &Changes) {
    let shown = |bytes: Option<u64>| bytes.map_or("\u{2013}".to_owned(), size);
    section(out, "change", &format!("Since {}", escaped(&found.since)));
    put(
        out,
        format_args!(
            "<p>Files occupied {} and now occupy {}. There are {} differences.</p>\n",
            size(found.before),
            size(found.after),
            found.count
        ),
    );
    table(out, "Changed sizes", &["#before", "#after", "name"]);
    for own in &found.sizes {
        put(
            out,
            format_args!(
                "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
                shown(own.before),
                shown(own.after),
                escaped(&own.name)
            ),
        );
    }
    put(out, format_args!("{TABLE_END}<details><summary>The first differences</summary><ul>\n"));
    found.first.iter().for_each(|own| put(out, format_args!("<li>{}</li>\n", escaped(own))));
    put(out, format_args!("</ul></details>\n</section>\n"));
}

fn remarks(out: &mut String, remarks: &[String]) {
    if remarks.is_empty() {
        return;
    }
    section(out, "remarks", "Remarks");
    put(out, format_args!("<ul>\n"));
    for remark in remarks {
        put(out, format_args!("<li>{}</li>\n", escaped(&crate::text::printable(remark.as_bytes()))));
    }
    put(out, format_args!("</ul>\n</section>\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::Inode;
    use crate::look::report::treemap::quoted;
    use crate::look::report::{Entry, Inventory, What};

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("</script><b a='\"'>&"), "&lt;/script&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(quoted("</script>\u{2028}\"\\\n"), "\"\\u003c/script\\u003e\\u2028\\\"\\\\\\u000a\"");
    }

    /// Names that are as long as they can be in 100,000 files take no more than the page may have.
    #[test]
    fn a_page_of_100_000_files_is_shorter_than_2_mb() {
        let entry = |parent, name: String, what, names| Entry {
            parent,
            name: name.into_bytes().into(),
            volume: 0,
            inode: Inode(0),
            what,
            size: 4096,
            own: 4096,
            total: 4096 * names,
            names,
            first: None,
        };
        let mut entries = vec![entry(None, "disk".to_owned(), What::Directory, 100_301)];
        for directory in 0..300 {
            let own = u32::try_from(entries.len()).unwrap();
            entries.push(entry(Some(0), format!("directory-{directory}"), What::Directory, 335));
            for file in 0..334 {
                entries.push(entry(Some(own), format!("{file}{}", "<&\u{1f4be}".repeat(40)), What::File, 1));
            }
        }
        let report = Report {
            image: "disk.img".to_owned(),
            format: "raw".to_owned(),
            virtual_size: 1 << 30,
            actual_size: 1 << 30,
            names: 100_300,
            files: 100_000,
            occupied: 1 << 29,
            areas: Vec::new(),
            largest: Vec::new(),
            links: Links::default(),
            duplicates: Duplicates::default(),
            compression: Compression::default(),
            store: None,
            changes: None,
            remarks: Vec::new(),
            inventory: Inventory { entries },
        };
        let page = page(&report);
        assert!((1_000_000..2_000_000).contains(&page.len()), "{}", page.len());
        assert!(!page.contains("<&"));
    }

    /// The script is found by its digest, so nothing in it may end it.
    #[test]
    fn the_script_does_not_end_itself() {
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--") && !SCRIPT.contains('\r'));
        assert!(!SCRIPT.contains("innerHTML") && !STYLE.contains("</"));
        for elsewhere in ["http:", "https:", "url(", "@import", "fetch("] {
            assert!(!SCRIPT.contains(elsewhere) && !STYLE.contains(elsewhere), "{elsewhere}");
        }
    }
}
