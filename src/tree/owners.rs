//! Finds names that get another owner than on the host although nobody asked for that
//! (docs/decisions/0022-owners-that-change-are-told.md).

use std::path::PathBuf;

use rustix::process::{getegid, geteuid, getgroups};

use super::Meta;
use super::look::{Entry, What};
use super::rules::{Owner, Rules};
use crate::error::Warning;
use crate::option::setting;
use crate::text::printable_path;

/// Set-user-ID and set-group-ID (inode(7)).
const SET_USER: u16 = 0o4000;
const SET_GROUP: u16 = 0o2000;

/// How many names are shown of those that lose their owner, and of those whose set-id bits act for another
/// user.
const EXAMPLES: usize = 3;
const SET_ID_EXAMPLES: usize = 10;

/// The number that a user namespace shows for users and groups that it does not have (user_namespaces(7)).
const OVERFLOW: u32 = 65_534;

/// Names whose owners are not those on the host.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    caller: Caller,
    /// They become root's although nobody asked for that.
    changed: Names,
    /// Their set-id bits act for another user or group than on the host.
    set_id: Names,
    /// They keep their owners, but this process cannot see which those are.
    unknown: Names,
}

/// The number of names, and the first few of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    count: u64,
    examples: Vec<String>,
}

impl Names {
    pub(crate) fn add(&mut self, most: usize, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < most {
            self.examples.push(example());
        }
    }

    /// `3 names: a, b and 1 more`; `None` where there are none.
    pub(crate) fn list(&self) -> Option<String> {
        let shown = self.examples.join(", ");
        let names = if self.count == 1 { "name" } else { "names" };
        match self.count.checked_sub(crate::units::u64_of(self.examples.len()))? {
            _ if self.count == 0 => None,
            0 => Some(format!("{} {names}: {shown}", self.count)),
            more => Some(format!("{} {names}: {shown} and {more} more", self.count)),
        }
    }
}

/// The user who runs this process.
#[derive(Clone, Debug)]
struct Caller {
    uid: u32,
    groups: Vec<u32>,
    /// Whether some users of the machine have no number in this user namespace.
    confined: bool,
}

impl Caller {
    fn of_process() -> Self {
        let mut groups = vec![getegid().as_raw()];
        groups.extend(getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw));
        // Outside of a user namespace all 2^32 - 1 numbers map to themselves. Without /proc nothing is known.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let confined = !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"]);
        Self { uid: geteuid().as_raw(), groups, confined }
    }

    /// Whether a name belongs to this user, as everything does that an ordinary user makes.
    fn owns(&self, entry: &Entry) -> bool {
        entry.uid == self.uid && self.groups.contains(&entry.gid)
    }

    /// Whether this process cannot see the owner on the host.
    fn cannot_see(&self, entry: &Entry) -> bool {
        self.confined && (entry.uid == OVERFLOW || entry.gid == OVERFLOW)
    }
}

impl Owners {
    /// No names yet; for the user of this process.
    pub(super) fn of_process() -> Self {
        let names = Names::default;
        Self { caller: Caller::of_process(), changed: names(), set_id: names(), unknown: names() }
    }

    /// Records the owner of a scanned name, which is written with the metadata `meta`.
    pub(super) fn note(&mut self, entry: &Entry, rules: &Rules, meta: &Meta, path: impl Fn() -> PathBuf) {
        if rules.store {
            return;
        }
        let caller = &self.caller;
        let shown = |bits: &str| format!("{} ({bits}{}:{})", printable_path(path()), entry.uid, entry.gid);
        if caller.cannot_see(entry) {
            if rules.owner == Owner::Preserve {
                self.unknown.add(EXAMPLES, || shown(""));
            }
            return;
        }
        let (other_user, other_group) = (meta.uid != entry.uid, meta.gid != entry.gid);
        if !other_user && !other_group {
            return;
        }
        let own = caller.owns(entry);
        if rules.tell_owners && !own {
            self.changed.add(EXAMPLES, || shown(""));
        }
        // A set-group-ID directory only passes its group on; it acts for nobody.
        let acts = !matches!(entry.what, What::Directory(_) | What::Symlink(_));
        if acts && (other_user && meta.mode & SET_USER != 0 || other_group && meta.mode & SET_GROUP != 0) {
            self.set_id.add(SET_ID_EXAMPLES, || shown(&format!("{:04o}, ", meta.mode)));
        }
    }

    /// The warnings about it.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let changed = self.changed.list().map(|list| {
            format!("owners replaced by root, of {list}; {} keeps them", setting("owner", "preserve"))
        });
        let set_id = self.set_id.list().map(|list| {
            format!("set-user-ID and set-group-ID bits that act for another user or group than on this machine, of {list}")
        });
        let unknown = self.unknown.list().map(|list| {
            format!(
                "owners that are not known, since the user namespace of this process does not have them, of {list}; they \
                 become {OVERFLOW}"
            )
        });
        changed.into_iter().chain(set_id).chain(unknown).map(Warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::tree::xattr::Patterns;
    use crate::tree::{Builder, Request, Time};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// The warnings for a folder of this user's files with these modes; `caller` makes the user who runs the
    /// process from the owner of those files.
    fn said(modes: &[(&str, u32)], rules: &Rules, caller: impl FnOnce(u32, u32) -> Caller) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in modes {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, name).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        let meta = std::fs::metadata(folder.path()).unwrap();
        let request = Request {
            path: folder.path().to_owned(),
            follow: true,
            xattrs: Patterns::new(Vec::new()),
            holes: false,
            select: None,
        };
        let scan = crate::tree::scan(&[request], 1, &Progress::default()).unwrap();
        let mut builder = Builder::new(Time::default());
        builder.owners.caller = caller(meta.uid(), meta.gid());
        let origin = builder.origin("the test");
        builder.graft(b"/", &scan, 0, rules, origin).unwrap();
        let top = format!("{}/", folder.path().display());
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let warnings = builder.finish(1).unwrap().owner_warnings();
        let plain = |text: &str| text.replace(&top, "/").replace(&owner, "U:G");
        warnings.iter().map(|warning| plain(&warning.to_string())).collect()
    }

    fn somebody(_: u32, _: u32) -> Caller {
        Caller { uid: 4711, groups: vec![4711], confined: false }
    }

    fn owner(uid: u32, gid: u32) -> Caller {
        Caller { uid, groups: vec![4711, gid], confined: false }
    }

    /// An owner other than the users of these tests.
    const OTHER: Owner = Owner::Ids { uid: 4712, gid: 4713 };

    #[test]
    fn names_that_lose_their_owner_are_counted_and_the_first_are_named() {
        let files = [("a", 0o644), ("b/c", 0o644), ("b/d", 0o600), ("e", 0o644)];
        let rules = Rules { owner: OTHER, tell_owners: true, ..Rules::default() };
        let found = said(&files, &rules, somebody);
        let [warning] = found.as_slice() else { panic!("{found:?}") };
        // The folder itself, which becomes the root, and `b` count as names too.
        assert!(warning.starts_with("owners replaced by root, of 6 names: "), "{warning}");
        assert!(
            warning.ends_with(" (U:G), /a (U:G), /b (U:G) and 3 more; `owner = \"preserve\"` keeps them"),
            "{warning}"
        );
        // No warning for the user's own files, for owners that do not change, and for owners that somebody
        // asked for.
        assert_eq!(said(&files, &rules, owner), [""; 0]);
        assert_eq!(said(&files, &Rules { tell_owners: false, ..rules.clone() }, somebody), [""; 0]);
        let kept = Rules { owner: Owner::Preserve, tell_owners: true, ..Rules::default() };
        assert_eq!(said(&files, &kept, somebody), [""; 0]);
        assert_eq!(said(&files, &Rules { store: true, ..rules }, somebody), [""; 0]);
    }

    #[test]
    fn bits_that_act_for_another_are_named_for_files_of_any_user() {
        let files = [("plain", 0o755), ("user", 0o4755), ("group", 0o2755), ("both", 0o6711)];
        let rules = Rules { owner: OTHER, ..Rules::default() };
        let expected = "set-user-ID and set-group-ID bits that act for another user or group than on this machine, of 3 \
                        names: /both (6711, U:G), /group (2755, U:G), /user (4755, U:G)";
        for caller in [somebody, owner] {
            assert_eq!(said(&files, &rules, caller), [expected]);
        }
        let kept = Rules { owner: Owner::Preserve, ..Rules::default() };
        assert_eq!(said(&files, &kept, owner), [""; 0]);
        // A mode that is asked for is the mode that is written.
        let chmod = Some("0755".parse().unwrap());
        assert_eq!(said(&files, &Rules { chmod, ..rules }, owner), [""; 0]);
    }

    #[test]
    fn owners_that_a_namespace_does_not_have_are_not_known() {
        let caller = Caller { uid: 0, groups: vec![0], confined: true };
        let entry = |uid, gid| Entry {
            name: 0,
            name_length: 1,
            mode: 0o4755,
            uid,
            gid,
            links: 1,
            size: 0,
            mtime: Time::default(),
            inode: (0, 0),
            what: What::File,
            rare: None,
        };
        let found = |rules: &Rules, confined: bool| {
            let caller = Caller { confined, ..caller.clone() };
            let mut owners = Owners { caller, ..Owners::of_process() };
            for (uid, gid) in [(OVERFLOW, OVERFLOW), (0, OVERFLOW), (5, 5)] {
                let meta = match rules.owner {
                    Owner::Preserve => Meta { uid, gid, ..Meta::root(0o755, Time::default()) },
                    _ => Meta::root(0o755, Time::default()),
                };
                owners.note(&entry(uid, gid), rules, &meta, || PathBuf::from("/x"));
            }
            owners.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let kept = Rules { owner: Owner::Preserve, ..Rules::default() };
        let unknown = "owners that are not known, since the user namespace of this process does not have them, of 2 names: \
                       /x (65534:65534), /x (0:65534); they become 65534";
        assert_eq!(found(&kept, true), [unknown]);
        assert_eq!(found(&kept, false), [""; 0]);
        let told = Rules { tell_owners: true, ..Rules::default() };
        let one = "owners replaced by root, of 1 name: /x (5:5); `owner = \"preserve\"` keeps them";
        assert_eq!(found(&told, true), [one]);
        assert_eq!(found(&told, false).len(), 1);
        assert!(found(&told, false)[0].contains("of 3 names"), "{:?}", found(&told, false));
    }
}
