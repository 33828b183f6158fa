//! Trees made by code, images poured into files, and the judges that look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::whole as fat;
use diskwright::filesystem::{Facts, Filesystem, Size};
use diskwright::pour::{PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::tree::{
    Builder, Content, Hardlinks, Meta, Request, Rules, Time, Tree, scan, xattr::Patterns,
};
use diskwright::units::Bytes;
use hadris_fat::sync::tool::analysis::FatAnalysisExt;
use hadris_fat::sync::tool::verify::{FatVerifyExt, VerificationIssue};
use hadris_fat::{FatVolume, FatVolumeReadExt};

/// Names with the bytes of files, or `None` for directories, by path: what a filesystem holds, and nothing else.
pub(crate) type Listing = BTreeMap<String, Option<Vec<u8>>>;

/// A listing of the given files, with the directories above them.
pub(crate) fn listing<P: Into<String>>(files: impl IntoIterator<Item = (P, Vec<u8>)>) -> Listing {
    let mut listing = Listing::new();
    for (path, bytes) in files {
        let path: String = path.into();
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            listing.insert(path[..at].to_owned(), None);
        }
        listing.insert(path, Some(bytes));
    }
    listing
}

/// Bytes that differ from file to file and from place to place.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The tree of a listing, its files as texts in memory.
pub(crate) fn texts(listing: &Listing) -> Arc<Tree> {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    for (path, bytes) in listing {
        match bytes {
            Some(bytes) => builder.text(path.as_bytes(), bytes.as_slice(), meta(0o644), origin).unwrap(),
            None => builder.put(path.as_bytes(), meta(0o755), Content::Directory, origin).unwrap(),
        }
    }
    Arc::new(builder.finish(1).unwrap())
}

/// The tree of a listing that is written to real files below `host` first.
pub(crate) fn files(listing: &Listing, host: &Path) -> Arc<Tree> {
    for (path, bytes) in listing {
        let path = host.join(path.trim_start_matches('/'));
        match bytes {
            Some(bytes) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            None => std::fs::create_dir_all(path).unwrap(),
        }
    }
    scanned(host, Hardlinks::Preserve)
}

/// The tree of a host directory.
pub(crate) fn scanned(host: &Path, hardlinks: Hardlinks) -> Arc<Tree> {
    let request = Request {
        path: host.to_owned(),
        follow: true,
        xattrs: Patterns::default(),
        holes: true,
        select: None,
    };
    let found = scan(&[request], 2, &Progress::default()).unwrap();
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("host");
    builder.graft(b"/", &found, 0, &Rules { hardlinks, ..Rules::default() }, origin).unwrap();
    Arc::new(builder.finish(2).unwrap())
}

/// Metadata of root with this mode.
pub(crate) fn meta(mode: u16) -> Meta {
    Meta::root(mode, Time::default())
}

/// The tree without any file.
pub(crate) fn nothing() -> Arc<Tree> {
    texts(&Listing::new())
}

/// Options of a fixed size.
pub(crate) fn fixed(size: u64) -> fat::Options {
    fat::Options { size: Size::Fixed(Bytes::new(size)), ..fat::Options::default() }
}

/// An image in a file that goes away with it.
#[derive(Debug)]
pub(crate) struct Poured {
    folder: tempfile::TempDir,
    pub(crate) facts: Facts,
}

impl Poured {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("volume.img")
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// Changes one byte of the file.
    pub(crate) fn flip(&self, offset: u64) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(self.path()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x01], offset).unwrap();
    }
}

/// Pours a filesystem into a file of its own.
pub(crate) fn poured(filesystem: &Filesystem, jobs: usize) -> Poured {
    let folder = tempfile::tempdir().unwrap();
    let poured = Poured { folder, facts: filesystem.facts.clone() };
    pour(&filesystem.image, &poured.path(), &PourOptions::new(jobs, &Progress::default())).unwrap();
    poured
}

/// A program, in the UTF-8 locale that mtools needs for names.
pub(crate) fn tool(name: &str) -> Command {
    let mut command = crate::support::tools::command(name);
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a command: whether it ended well, and all that it said.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// `fsck.fat -n`: what it says beside its name and its count of clusters; and that count, used and all.
pub(crate) fn fsck(path: &Path) -> Result<(u64, u64), String> {
    let (good, said) = run(tool("fsck.fat").arg("-n").arg(path));
    let mut lines = said.lines().filter(|line| !line.starts_with("fsck.fat 4.2"));
    let summary = lines.next_back().unwrap_or_default();
    let counts = summary.rsplit_once(", ").and_then(|(_, counts)| counts.strip_suffix(" clusters"));
    let counts = counts.and_then(|counts| counts.split_once('/'));
    match (counts, lines.next()) {
        (Some((used, all)), None) if good => Ok((used.parse().unwrap(), all.parse().unwrap())),
        _ => Err(said),
    }
}

/// All judges of a volume that holds `expected`: nobody has a remark, everybody reads the same.
pub(crate) fn judge(volume: &Poured, expected: &Listing) -> Result<(), String> {
    let path = volume.path();
    let facts = &volume.facts;
    let (used, all) = fsck(&path)?;
    if (used, all) != (facts.blocks - facts.free_blocks, facts.blocks) {
        return Err(format!("fsck.fat counts {used}/{all} clusters, the facts {facts:?}"));
    }
    same(expected, &read_with_hadris(&path)?).map_err(|error| format!("hadris-fat: {error}"))?;
    let read = read_with_mtools(&path)?;
    same(&seen_by_mtools(expected), &read).map_err(|error| format!("mtools: {error}"))
}

/// What mtools can show of a listing: for each half of a surrogate pair it writes `_`. Trees that are read by it have
/// no two names that become one so.
fn seen_by_mtools(expected: &Listing) -> Listing {
    let plain = |c: char| if c > '\u{ffff}' { "__".to_owned() } else { c.to_string() };
    expected.iter().map(|(path, bytes)| (path.chars().map(plain).collect(), bytes.clone())).collect()
}

/// The first difference of two listings.
pub(crate) fn same(expected: &Listing, found: &Listing) -> Result<(), String> {
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for name in names {
        match (expected.get(name), found.get(name)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(Some(one)), Some(Some(other))) => {
                let at = one.iter().zip(other).position(|(one, other)| one != other);
                return Err(format!("{name}: {} and {} bytes, different at {at:?}", one.len(), other.len()));
            }
            (Some(_), Some(_)) => return Err(format!("{name}: once a file, once a directory")),
            (Some(_), None) => return Err(format!("{name} is missing")),
            (None, _) => return Err(format!("{name} is too much")),
        }
    }
    Ok(())
}

/// The listing of a volume as mtools sees it: names by `mdir`, bytes by `mcopy`, attributes by `mattrib`.
pub(crate) fn read_with_mtools(path: &Path) -> Result<Listing, String> {
    let (good, listed) = run(tool("mdir").args(["-/", "-b", "-i"]).arg(path).arg("::"));
    // An empty volume is an error to mdir.
    if !good && listed.ends_with("mdir: File \"::\" not found\n") {
        return Ok(Listing::new());
    }
    let names: BTreeSet<String> = listed
        .lines()
        .map(|line| line.strip_prefix("::").ok_or_else(|| format!("mdir: {line}")))
        .map(|line| Ok(line?.trim_end_matches('/').to_owned()))
        .collect::<Result<_, String>>()?;
    let folder = tempfile::tempdir().unwrap();
    let (good, said) = run(tool("mcopy").args(["-s", "-n", "-i"]).arg(path).arg("::/").arg(folder.path()));
    if !good || !said.is_empty() {
        return Err(format!("mcopy: {said}"));
    }
    let mut found = Listing::new();
    read_host(folder.path(), "", &mut found);
    let copied: BTreeSet<String> = found.keys().cloned().collect();
    if copied != names {
        let odd: Vec<_> = copied.symmetric_difference(&names).collect();
        return Err(format!("mdir and mcopy differ: {odd:?}"));
    }
    attributes(path, &found)?;
    Ok(found)
}

/// Every file has the archive bit and nothing else, every directory nothing.
fn attributes(path: &Path, found: &Listing) -> Result<(), String> {
    let (_, said) = run(tool("mattrib").args(["-/", "-i"]).arg(path).arg("::"));
    let mut seen = 0;
    // Directories alone are "not found" too, once they are listed.
    for line in said.lines().filter(|line| !line.ends_with("mattrib: File \"::\" not found")) {
        let Some((bits, name)) = line.split_once("::") else { return Err(format!("mattrib: {line}")) };
        let expected = match found.get(name) {
            Some(Some(_)) => "A",
            Some(None) => "",
            None if name == "/" => continue,
            None => return Err(format!("mattrib knows of {name}")),
        };
        if bits.trim() != expected {
            return Err(format!("mattrib: {line}"));
        }
        seen += 1;
    }
    if seen == found.len() { Ok(()) } else { Err(format!("mattrib shows {seen} of {} names", found.len())) }
}

/// Adds what lies below a host directory.
fn read_host(folder: &Path, prefix: &str, found: &mut Listing) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_host(&entry.path(), &name, found);
            found.insert(name, None);
        } else {
            found.insert(name, Some(std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// The listing of a volume as hadris-fat sees it, once its own verification has no remark and no file is in pieces.
pub(crate) fn read_with_hadris(path: &Path) -> Result<Listing, String> {
    let text = |error: hadris_fat::Error| format!("{error:?}");
    let volume = FatVolume::open(std::fs::File::open(path).unwrap()).map_err(text)?;
    let mut issues = volume.verify().map_err(text)?.issues;
    if volume.fat_type() == hadris_fat::FatType::Fat32 {
        // Version 2.5 forgets that the root directory of FAT32 has a chain, and misses all of it but its end.
        let root = volume.get_cluster_chain(2).map_err(text)?.len();
        let forgotten = VerificationIssue::LostClusters { count: u32::try_from(root - 1).unwrap() };
        issues.retain(|issue| *issue != forgotten);
    }
    if !issues.is_empty() {
        return Err(format!("{issues:?}"));
    }
    let pieces = volume.fragmentation_report(10).map_err(text)?;
    if pieces.fragmented_files > 0 {
        return Err(format!("{:?}", pieces.most_fragmented));
    }
    let mut found = Listing::new();
    let mut stack = vec![(String::new(), volume.root_dir())];
    while let Some((prefix, directory)) = stack.pop() {
        let mut entries = directory.entries();
        while let Some(entry) = entries.next_entry() {
            let entry = entry.map_err(text)?;
            let Some(entry) = entry.as_entry() else { continue };
            let name = format!("{prefix}/{}", entry.name());
            if entry.name() == "." || entry.name() == ".." {
                continue;
            }
            if entry.is_directory() {
                stack.push((name.clone(), directory.open_entry(entry).map_err(text)?));
                found.insert(name, None);
            } else {
                let bytes = volume.read_file(entry).map_err(text)?.read_to_vec().map_err(text)?;
                found.insert(name, Some(bytes));
            }
        }
    }
    Ok(found)
}
