//! Random trees before all judges.

use diskwright::filesystem::Size;
use diskwright::filesystem::fat::FatType;
use diskwright::units::{Bytes, KIB};
use proptest::prelude::*;

use super::support::*;
use super::whole as fat;

/// Parts of names that may collide: the same letters in both cases, dots, spaces, digits, signs that short
/// names lack, other scripts, and both planes.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9]{1,12}",
        2 => "[A-C]{1,3}",
        2 => "[~+,;=\\[\\]._ -]{1,3}",
        1 => "[äöüßéЖя日本語テ]{1,6}",
        1 => "\u{1f600}",
        1 => "[x-z]{60,120}",
        1 => "longname",
        1 => "LONGNA~[0-9]",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 1..4).prop_map(|parts| {
        let mut name = parts.concat();
        while name.len() > 250 {
            name.pop();
        }
        // The rules of FAT; and mtools shows a name's last part without what it calls an end.
        let name = name.trim_end_matches(['.', ' ']).to_owned();
        if name.trim_start_matches(['.', ' ']).is_empty() { "x".to_owned() } else { name }
    })
}

/// Directories to 6 deep with up to 40 names, among them one of up to 400.
fn tree() -> impl Strategy<Value = Listing> {
    let file = (
        prop::collection::vec(name(), 1..6),
        0_u64..1000,
        prop_oneof![
            2 => Just(0_usize),
            5 => 1_usize..5000,
            1 => 5000_usize..200_000,
        ],
    );
    let files = prop::collection::vec(file, 0..40);
    (files, prop::collection::vec(name(), 0..5), prop::option::of((name(), 0_u32..400))).prop_map(
        |(files, directories, many)| {
            let mut paths = Vec::new();
            for (parts, seed, length) in files {
                paths.push((format!("/{}", parts.join("/")), Some(noise(seed, length))));
            }
            paths.extend(directories.into_iter().map(|name| (format!("/{name}"), None)));
            if let Some((name, count)) = many {
                paths.extend(
                    (0..count).map(|number| (format!("/{name}/beginning {number}"), Some(Vec::new()))),
                );
            }
            without_meetings(paths)
        },
    )
}

/// The listing of paths, without those that FAT or mtools takes for equal to an earlier one (in another case,
/// or with `_` for characters that mtools does not show), and without files in place of directories.
fn without_meetings(paths: Vec<(String, Option<Vec<u8>>)>) -> Listing {
    let key = |path: &str| {
        let plain = |c: char| if c > '\u{ffff}' { "__".to_owned() } else { c.to_string() };
        path.to_uppercase().chars().map(plain).collect::<String>()
    };
    let mut listing = Listing::new();
    let mut spelled = std::collections::BTreeMap::new();
    'paths: for (path, bytes) in paths {
        let mut prefixes: Vec<&str> = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]).collect();
        prefixes.push(&path);
        for prefix in &prefixes {
            let other = spelled.get(&key(prefix)).is_some_and(|spelling| spelling != *prefix);
            let file = *prefix != path && matches!(listing.get(*prefix), Some(Some(_)));
            if other || file {
                continue 'paths;
            }
        }
        if listing.contains_key(&path) {
            continue;
        }
        for prefix in &prefixes {
            spelled.insert(key(prefix), (*prefix).to_owned());
            listing.entry((*prefix).to_owned()).or_insert(None);
        }
        listing.insert(path.clone(), bytes);
    }
    listing
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_read_by_all(
        listing in tree(),
        fat in prop_oneof![3 => Just(None), 1 => Just(Some(FatType::Fat16)), 1 => Just(Some(FatType::Fat32))],
        large in any::<bool>(),
        label in any::<bool>(),
        free in 0..200 * KIB,
        jobs in 1_usize..4,
    ) {
        let options = fat::Options {
            fat,
            free: Bytes::new(free),
            label: label.then(|| "LABEL".to_owned()),
            sector_size: if large { 4096 } else { 512 },
            ..fat::Options::default()
        };
        let built = fat::build(&texts(&listing), &options).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let free = free.div_ceil(built.facts.block_size);
        prop_assert!(built.facts.free_blocks >= free);
        let volume = poured(&built, jobs);
        judge(&volume, &listing).map_err(TestCaseError::fail)?;
        // One sector less does not hold it with the requested free space.
        let fewer = Size::Fixed(Bytes::new(built.image.length().get() - options.sector_size));
        if let Ok(smaller) = fat::build(&texts(&listing), &fat::Options { size: fewer, ..options }) {
            prop_assert!(smaller.facts.free_blocks < free.max(1) || smaller.facts.block_size != built.facts.block_size);
        }
    }
}
