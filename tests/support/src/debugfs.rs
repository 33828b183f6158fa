//! debugfs as a reader: names, modes, owners, times, link counts, devices and attributes as it prints them, bytes and
//! targets as it writes them into a folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::compare::{ALL_BUT_HOLES, Aspect};
use super::snapshot::{Kind, Snapshot, join};
use super::tools::{Said, command, must, quick_scratch, scratch};
use super::tree::{self, GROUP, NOBODY, USER};

/// The aspects that debugfs shows: everything except holes.
pub const VIEW: [Aspect; 9] = ALL_BUT_HOLES;

/// Runs debugfs commands, one a line, in one process.
pub fn debugfs(image: &Path, commands: &str) -> Said {
    let folder = scratch();
    let script = folder.path().join("commands");
    std::fs::write(&script, commands).unwrap();
    must(command("debugfs").arg("-f").arg(&script).arg(image))
}

/// Runs debugfs commands that change the filesystem; tests use it for damage.
pub fn damage(image: &Path, commands: &str) {
    let folder = scratch();
    let script = folder.path().join("commands");
    std::fs::write(&script, commands).unwrap();
    let said = must(command("debugfs").arg("-w").arg("-f").arg(&script).arg(image));
    assert_eq!(said.error().lines().count(), 1, "debugfs -w: {}", said.error());
}

/// A filesystem as debugfs shows it.
pub fn view(image: &Path) -> Snapshot {
    let folder = quick_scratch();
    let said = debugfs(image, &format!("rdump / {}\n", folder.path().display()));
    // Only root may set the owners of the copies; the copies are only used for bytes and targets. Names may contain
    // newlines, so a complaint ends where the next one begins.
    let error = said.error();
    let complaints: Vec<_> = error
        .split_once('\n')
        .map_or("", |(_, complaints)| complaints)
        .split("rdump: ")
        .filter(|complaint| !complaint.is_empty() && !complaint.contains("changing ownership"))
        .collect();
    assert!(complaints.is_empty(), "debugfs rdump: {complaints:?}");
    let copied = Snapshot::of(folder.path());
    let names = names(image);
    let mut snapshot = inodes(image, &names);
    for (path, entry) in &mut snapshot.0 {
        if matches!(entry.kind, Kind::File | Kind::Symlink) {
            let copy = copied.0.get(path).unwrap_or_else(|| panic!("debugfs did not copy {path:?}"));
            assert_eq!(copy.kind, entry.kind, "{path:?}");
            assert_eq!(copy.size, entry.size, "the copy and the size field of {path:?}");
            (entry.digest, entry.target) = (copy.digest, copy.target.clone());
        }
    }
    snapshot
}

/// Every path and its inode.
pub fn names(image: &Path) -> BTreeMap<Vec<u8>, u32> {
    let mut names = BTreeMap::from([(Vec::new(), 2)]);
    let mut level = vec![(Vec::new(), 2)];
    while !level.is_empty() {
        let commands: String = level.iter().fold(String::new(), |mut text, (_, inode)| {
            let _ = writeln!(text, "ls -p <{inode}>");
            text
        });
        let said = debugfs(image, &commands);
        // "/inode/mode/user/group/name/size/" and a newline: a slash is the one byte that no name holds.
        let mut fields = said.out.split(|byte| *byte == b'/');
        let mut next = Vec::new();
        let mut directories = level.into_iter();
        let mut at = Vec::new();
        while let Some(between) = fields.next() {
            if between.windows(9).any(|window| window == b"debugfs: ") {
                at = directories.next().expect("no more answers than questions").0;
            }
            let [Some(inode), Some(mode), _, _, Some(name), _] = [(); 6].map(|()| fields.next()) else {
                break;
            };
            let inode = number(inode);
            // Inode 0 is an entry without a name: an empty block, or what a removed name leaves.
            if inode == 0 || name == b"." || name == b".." {
                continue;
            }
            let path = join(&at, name);
            if mode.starts_with(b"04") {
                next.push((path.clone(), inode));
            }
            assert!(names.insert(path, inode).is_none(), "two names {name:?}");
        }
        level = next;
    }
    names
}

fn number(text: &[u8]) -> u32 {
    std::str::from_utf8(text).unwrap().parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// What `stat` prints of the inodes of `names`.
fn inodes(image: &Path, names: &BTreeMap<Vec<u8>, u32>) -> Snapshot {
    let mut by_inode: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, inode) in names {
        by_inode.entry(*inode).or_default().push(path.clone());
    }
    let questions: Vec<String> = by_inode.keys().map(|inode| format!("stat <{inode}>")).collect();
    let answers = answers(image, &questions);
    let mut snapshot = Snapshot::default();
    let mut attributes = Vec::new();
    for ((inode, paths), answer) in by_inode.iter().zip(&answers) {
        let entry = stat(answer);
        attributes.extend(attribute_names(answer).into_iter().map(|name| (*inode, name)));
        for path in paths {
            snapshot.0.insert(path.clone(), entry.clone());
        }
        snapshot.same_inode(paths);
    }
    let questions: Vec<String> =
        attributes.iter().map(|(inode, name)| format!("ea_get -x <{inode}> {name}")).collect();
    for ((inode, name), answer) in attributes.iter().zip(self::answers(image, &questions)) {
        let value = attribute_value(name, &answer);
        for path in &by_inode[inode] {
            let entry = snapshot.0.get_mut(path).expect("every path has an entry");
            entry.xattrs.insert(name.clone().into_bytes(), value.clone());
        }
    }
    snapshot
}

/// The answer to each question; debugfs echoes each before it.
fn answers(image: &Path, questions: &[String]) -> Vec<String> {
    let text = debugfs(image, &(questions.join("\n") + "\n")).text();
    let mut rest = text.as_str();
    let mut answers = Vec::new();
    for (index, question) in questions.iter().enumerate() {
        let echo = format!("debugfs: {question}\n");
        let start = rest.find(&echo).unwrap_or_else(|| panic!("no answer to `{question}`")) + echo.len();
        rest = &rest[start..];
        let end = questions
            .get(index + 1)
            .and_then(|next| rest.find(&format!("debugfs: {next}\n")))
            .unwrap_or(rest.len());
        answers.push(rest[..end].to_owned());
    }
    answers
}

/// The word after `key` in an answer of `stat`.
fn word<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    answer.split_once(key)?.1.split_whitespace().next()
}

fn stat(answer: &str) -> super::snapshot::Entry {
    let field = |key: &str| word(answer, key).unwrap_or_else(|| panic!("no `{key}` in\n{answer}"));
    let whole = |key: &str| field(key).parse::<u64>().unwrap_or_else(|_| panic!("`{key}` in\n{answer}"));
    let kind = match answer.split_once("Type: ").map_or("", |(_, rest)| rest) {
        rest if rest.starts_with("regular") => Kind::File,
        rest if rest.starts_with("directory") => Kind::Directory,
        rest if rest.starts_with("symlink") => Kind::Symlink,
        rest if rest.starts_with("character special") => Kind::CharacterDevice,
        rest if rest.starts_with("block special") => Kind::BlockDevice,
        rest if rest.starts_with("FIFO") => Kind::Fifo,
        rest if rest.starts_with("socket") => Kind::Socket,
        _ => panic!("no type in\n{answer}"),
    };
    let mut entry = super::snapshot::Entry::new(kind);
    entry.mode = u16::from_str_radix(field("Mode:"), 8).unwrap();
    // It prints ids as signed numbers.
    let id = |key: &str| {
        let signed: i64 = field(key).parse().unwrap();
        u32::try_from(signed).unwrap_or_else(|_| i32::try_from(signed).unwrap().cast_unsigned())
    };
    (entry.uid, entry.gid) = (id("User:"), id("Group:"));
    entry.links = whole("Links:");
    if matches!(kind, Kind::File | Kind::Symlink) {
        entry.size = whole("Size:");
    }
    // Of inodes of 128 bytes it stands at the beginning of its line, and behind a blank of others.
    let mtime = answer.lines().find_map(|line| line.trim_start().strip_prefix("mtime: "));
    let mtime = mtime.and_then(|rest| rest.split_whitespace().next());
    entry.mtime = time(mtime.unwrap_or_else(|| panic!("no time in\n{answer}")));
    if let Some((_, device)) = answer.split_once("Device major/minor number: ") {
        // "05:01 (hex 05:01)"
        let (major, minor) = device.split_whitespace().next().and_then(|pair| pair.split_once(':')).unwrap();
        entry.device = (major.parse().unwrap(), minor.parse().unwrap());
    }
    entry
}

/// `0x80002d80:1d6f3454`: the low 32 bits of the seconds, signed, and the extra field: 2 bits of epoch, then
/// nanoseconds ("Inode Timestamps" in the kernel's ext4 documentation).
fn time(text: &str) -> (i64, u32) {
    let (seconds, extra) = text.split_once(':').unwrap_or((text, "0"));
    let seconds = u32::from_str_radix(seconds.trim_start_matches("0x"), 16).unwrap().cast_signed();
    let extra = u32::from_str_radix(extra, 16).unwrap();
    (i64::from(seconds) + (i64::from(extra & 3) << 32), extra >> 2)
}

/// Names of the attributes that `stat` lists.
fn attribute_names(answer: &str) -> Vec<String> {
    let Some((_, list)) = answer.split_once("Extended attributes:\n") else { return Vec::new() };
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.trim_start().split_once(" (").map(|(name, _)| name.to_owned()))
        .collect()
}

/// `user.a (2) = 68 69`, in the form in which the kernel exchanges it.
fn attribute_value(name: &str, answer: &str) -> Vec<u8> {
    // An empty value has no equals sign before it.
    let hex = answer.split_once(") =").map_or("", |(_, value)| value);
    assert!(answer.starts_with(&format!("{name} (")), "no value of {name} in `{answer}`");
    let value: Vec<u8> =
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex bytes")).collect();
    assert!(answer.contains(&format!("({})", value.len())), "{} bytes of {name} in `{answer}`", value.len());
    if name.starts_with("system.posix_acl_") { exchanged(&value) } else { value }
}

/// An ACL in the kernel's exchange form. debugfs converts it to this form, but gives the id 0 to entries
/// without an id.
fn exchanged(acl: &[u8]) -> Vec<u8> {
    let (version, entries) = acl.split_at(4);
    assert_eq!(version, [2, 0, 0, 0], "version of an exchanged ACL");
    let entries: Vec<_> = entries
        .chunks(8)
        .map(|entry| {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let permissions = u16::from_le_bytes([entry[2], entry[3]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            (tag, permissions, if tag == USER || tag == GROUP { id } else { NOBODY })
        })
        .collect();
    tree::acl(&entries)
}
