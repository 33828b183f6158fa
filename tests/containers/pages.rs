//! docs/formats against the code: each field of each structure of a container is a row of its page.

use diskwright::structures::all;

const PAGES: [&str; 5] = ["qcow2", "vhd", "vdi", "vmdk", "vhdx"];

/// The first three cells of the rows of tables: offset, bytes and name.
fn rows(text: &str) -> Vec<(usize, usize, &str)> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let (offset, bytes, name) = (cells.next()?, cells.next()?, cells.next()?);
            Some((offset.parse().ok()?, bytes.parse().ok()?, name))
        })
        .collect()
}

#[test]
fn every_field_is_a_row_of_its_page() {
    let mut seen = 0;
    let mut missing = Vec::new();
    for (page, structure) in all().into_iter().filter(|(page, _)| PAGES.contains(page)) {
        let path = format!("{}/docs/formats/{page}.md", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let rows = rows(&text);
        for field in structure.fields {
            seen += 1;
            if !rows.contains(&(field.offset, field.length, field.name)) {
                missing.push(format!("{page}: {}: {field:?}", structure.title));
            }
        }
    }
    assert!(seen > 100, "{seen}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
