//! The contents of the root beside the store: contents with their owners, configuration, channel, additional
//! paths; and a root that is only the store.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::debugfs;
use crate::support::snapshot::{Entry, Kind, Snapshot};
use crate::support::tools::{command, must, names_in, run};
use crate::tiny::Tiny;

/// Mode, owner and group of a path in the root.
fn owner(found: &Snapshot, path: &str) -> (String, u32, u32) {
    let entry = entry(found, path);
    (format!("{:o}", entry.mode), entry.uid, entry.gid)
}

fn entry<'a>(found: &'a Snapshot, path: &str) -> &'a Entry {
    found.0.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path} in {:?}", names(found)))
}

fn names(found: &Snapshot) -> Vec<String> {
    found.0.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn target(found: &Snapshot, path: &str) -> String {
    String::from_utf8(entry(found, path).target.clone()).unwrap()
}

/// The text of a file in the root of a bare filesystem.
fn text(image: &Path, path: &str) -> String {
    must(command("debugfs").args(["-R", &format!("cat \"{path}\"")]).arg(image)).text()
}

#[test]
fn contents_have_the_owners_that_the_image_knows() {
    let mut tiny = Tiny::new();
    let system = tiny.system_with("26.05", |place| {
        std::fs::create_dir(place.join("etc")).unwrap();
        std::fs::write(place.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nsystem:x:990:980:::\n").unwrap();
        std::fs::write(place.join("etc/group"), "root:x:0:\nkeys:x:96:\n").unwrap();
    });
    tiny.object("users-groups.json", &[], |place| {
        let text = r#"{"users":[{"name":"declared","uid":1000},{"name":"later","uid":null}],"groups":[{"name":"wheel","gid":1}]}"#;
        std::fs::write(place, text).unwrap();
    });
    tiny.object("userborn.json", &[], |place| {
        let text = r#"{"users":[{"name":"born","uid":1003,"isNormal":true}],"groups":[{"name":"borns","gid":1004}]}"#;
        std::fs::write(place, text).unwrap();
    });
    let files = tiny.path().join("files");
    std::fs::create_dir_all(files.join("etc/sub dir")).unwrap();
    std::fs::write(files.join("etc/passwd"), "jürgen:x:1001:1001::/home/jürgen:/bin/sh\n").unwrap();
    std::fs::write(files.join("etc/group"), "größe:x:1002:\n").unwrap();
    std::fs::write(files.join("etc/sub dir/odd 'name\""), "x").unwrap();
    std::fs::write(files.join("key"), "secret").unwrap();
    std::fs::set_permissions(files.join("key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("key", files.join("link")).unwrap();

    let out = tiny.path().join("root.img");
    let mut build = tiny.nixos(&system, "none", &out);
    let content = |target: &str, source: &str, more: &str| {
        format!("source={},target={target}{more}", files.join(source).display())
    };
    for content in [
        content("/", "", ""),
        content("/home/jürgen", "etc/sub dir", ",mode=0700,user=jürgen,group=größe"),
        content("/keys/a", "key", ",mode=0400,user=system,group=keys"),
        content("/keys/b", "key", ",user=declared,group=wheel"),
        content("/keys/c", "key", ",user=4711,group=0"),
        content("/keys/d", "key", ",user=born,group=borns"),
        content("/many", "etc/*", ",mode=u=rwX,go=,user=root,group=keys"),
    ] {
        build.args(["--contents", &content]);
    }
    must(&mut build);
    crate::support::ext4::assert_clean(&out);
    let found = debugfs::view(&out);
    for (path, expected) in [
        ("etc/passwd", ("644", 0, 0)),
        ("etc/NIXOS", ("644", 0, 0)),
        ("key", ("640", 0, 0)),
        ("home/jürgen", ("700", 1001, 1002)),
        ("home/jürgen/odd 'name\"", ("700", 1001, 1002)),
        ("home", ("755", 0, 0)),
        ("keys/a", ("400", 990, 96)),
        ("keys/b", ("640", 1000, 1)),
        ("keys/c", ("640", 4711, 0)),
        ("keys/d", ("640", 1003, 1004)),
        ("many/passwd", ("600", 0, 96)),
        ("many/sub dir", ("700", 0, 96)),
        ("many/sub dir/odd 'name\"", ("600", 0, 96)),
    ] {
        let (mode, uid, gid) = expected;
        assert_eq!(owner(&found, path), (mode.to_owned(), uid, gid), "{path}");
    }
    assert_eq!(target(&found, "link"), "key");
    assert_eq!(text(&out, "/keys/a"), "secret");

    refuse_owners(&tiny, &system, &files);
}

/// Owners that the image does not know; each is refused with a message.
fn refuse_owners(tiny: &Tiny, system: &str, files: &Path) {
    for (more, words) in [
        ("user=later,group=root", ["user `later` has no number yet", "activated"]),
        ("user=nobody,group=root", ["knows no user `nobody`", "users-groups.json"]),
        ("user=root,group=system", ["knows no group `system`", "/etc/group"]),
        ("user=jurgen,group=root", ["knows no user `jurgen`", "/etc/passwd"]),
        ("user=root", ["`user` goes with `group`", "at --contents (1)\n"]),
        ("group=root", ["`group` goes with `user`", "at --contents (1)\n"]),
        ("user=,group=", ["a user or group is a name", ""]),
    ] {
        let out = tiny.path().join("refused.img");
        let mut build = tiny.nixos(system, "none", &out);
        let content = format!("source={},target=/x,{more}", files.join("key").display());
        let said = run(build.args(["--contents", &content]));
        assert_eq!(said.code, 2, "{more}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "{more}: no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists());
    }
}

#[test]
fn configuration_channel_and_additional_paths_are_there() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let channel = tiny.object("nixos-26.05", &[], |place| {
        std::fs::create_dir_all(place.join("nixos")).unwrap();
    });
    let more = tiny.object("more", &[&channel], |place| std::fs::write(place, "more").unwrap());
    let configuration = tiny.path().join("configuration.nix");
    std::fs::write(&configuration, "{ }\n").unwrap();
    let out = tiny.path().join("root.img");
    let mut build = tiny.nixos(&system, "none", &out);
    build.arg("--config-file").arg(&configuration);
    build.args(["--channel", &channel, "--additional-paths", &more, "--verify-closure"]);
    must(&mut build);
    let found = debugfs::view(&out);
    assert_eq!(text(&out, "/etc/nixos/configuration.nix"), "{ }\n");
    assert_eq!(owner(&found, "etc/nixos/configuration.nix"), ("644".to_owned(), 0, 0));
    let profiles = "nix/var/nix/profiles/per-user/root";
    assert_eq!(target(&found, &format!("{profiles}/channels")), "channels-1-link");
    assert_eq!(target(&found, &format!("{profiles}/channels-1-link")), channel);
    assert_eq!(target(&found, "root/.nix-defexpr/channels"), format!("/{profiles}/channels"));
    assert_eq!(owner(&found, &more[1..]), ("444".to_owned(), 0, 0));
    assert_eq!(target(&found, "nix/var/nix/profiles/system-1-link"), system);

    // Without a channel there is no link to one.
    must(&mut tiny.nixos(&system, "none", &out));
    let found = debugfs::view(&out);
    assert!(!found.0.contains_key(b"root/.nix-defexpr".as_slice()), "{:?}", names(&found));
    assert!(!found.0.contains_key(b"etc/nixos".as_slice()));
}

#[test]
fn a_root_can_be_the_store_alone() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("store.img");
    must(tiny.nixos(&system, "none", &out).args(["--only-nix-store", "--verify-closure"]));
    crate::support::ext4::assert_clean(&out);
    let found = debugfs::view(&out).without_lost_and_found();
    let mut top: Vec<_> = found.0.keys().filter(|name| !name.is_empty() && !name.contains(&b'/')).collect();
    top.sort();
    let expected: Vec<Vec<u8>> =
        names_in(&tiny.host("/nix/store")).into_iter().map(std::ffi::OsString::into_encoded_bytes).collect();
    assert_eq!(top, expected.iter().collect::<Vec<_>>());
    assert_eq!(owner(&found, ""), ("755".to_owned(), 0, 0));
    assert_eq!(entry(&found, &format!("{}/init", &system[11..])).mtime.0, 1);
    assert_eq!(crate::support::ext4::superblock(&out, "Filesystem volume name"), "nix-store");
    assert!(found.0.values().all(|entry| matches!(entry.kind, Kind::File | Kind::Directory | Kind::Symlink)));

    // Names suffice for it, because it has no database.
    let list = tiny.path().join("store-paths");
    let paths: String = expected
        .iter()
        .fold(String::new(), |text, name| text + "/nix/store/" + std::str::from_utf8(name).unwrap() + "\n");
    std::fs::write(&list, paths).unwrap();
    let again = tiny.path().join("again.img");
    let by_names = |tiny: &Tiny| {
        let mut build = tiny.with_closure(&system, "none", &again, &list);
        build.args(["--additional-space", "4MiB"]);
        build
    };
    must(by_names(&tiny).arg("--only-nix-store"));
    must(command("qemu-img").args(["compare", "-f", "raw", "-F", "raw"]).arg(&out).arg(&again));
    let said = run(&mut by_names(&tiny));
    assert!(said.code == 2 && said.error().contains("names only"), "{}", said.error());
}

#[test]
fn a_root_is_found_by_what_it_is_called() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("root.img");
    let superblock = |field| crate::support::ext4::superblock(&out, field);
    must(&mut tiny.nixos(&system, "none", &out));
    assert_eq!(superblock("Filesystem volume name"), "nixos");
    assert_eq!(superblock("Filesystem UUID"), "f222513b-ded1-49fa-b591-20ce86a2fe7f");
    let uuid = "4e2f1a30-0000-4000-8000-0123456789ab";
    must(tiny.nixos(&system, "none", &out).args(["--label", "sixteen byteäö", "--root-uuid", uuid]));
    assert_eq!(superblock("Filesystem UUID"), uuid);
    let said = run(tiny.nixos(&system, "none", &out).args(["--label", "sixteen bytesäö"]));
    assert!(said.code == 2 && said.error().contains("label"), "{}", said.error());
    // Without nixpkgs' own, the id derives from the seed alone.
    let mut ids = BTreeMap::new();
    for seed in ["0867da16-f251-457d-a9e8-c31f9a3c220b", "1867da16-f251-457d-a9e8-c31f9a3c220b"] {
        for round in 0..2 {
            must(tiny.nixos(&system, "none", &out).args(["--compat", "false", "--seed", seed]));
            ids.insert((seed, round), superblock("Filesystem UUID"));
        }
    }
    let ids: Vec<_> = ids.into_values().collect();
    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
}

/// A declaration of accounts.
fn declare(tiny: &mut Tiny, users: &[(&str, u32)]) -> String {
    let users: Vec<_> =
        users.iter().map(|(name, uid)| format!(r#"{{"name":"{name}","uid":{uid}}}"#)).collect();
    let text = format!(r#"{{"users":[{}],"groups":[{{"name":"users","gid":100}}]}}"#, users.join(","));
    tiny.object("users-groups.json", &[], |place| std::fs::write(place, text).unwrap())
}

/// Earlier generations, additional paths and containers have accounts of their own, and their store paths may
/// come first by name.
#[test]
fn only_the_system_that_boots_says_who_its_users_are() {
    let mut tiny = Tiny::new();
    let old = declare(&mut tiny, &[("alice", 1001), ("bob", 1)]);
    let earlier = tiny.system("25.11");
    tiny.refer(&earlier, &old);
    let contained = declare(&mut tiny, &[("alice", 1002), ("carol", 5)]);
    let container = tiny.object("etc", &[&contained], |place| std::fs::create_dir(place).unwrap());
    let own = declare(&mut tiny, &[("alice", 1000)]);
    let system = tiny.system("26.05");
    tiny.refer(&system, &own);
    tiny.refer(&system, &container);
    let out = tiny.path().join("root.img");
    std::fs::write(tiny.path().join("f"), "f").unwrap();
    let content =
        |user: &str| format!("source={}/f,target=/x,user={user},group=users", tiny.path().display());
    let build = |more: &[&str], user: &str| {
        let mut build = tiny.nixos(&system, "none", &out);
        build.args(more).args(["--contents", &content(user)]);
        build
    };
    for more in [["--generations", &earlier], ["--additional-paths", &old]] {
        must(&mut build(&more, "alice"));
        assert_eq!(owner(&debugfs::view(&out), "x"), ("644".to_owned(), 1000, 100));
        for user in ["bob", "carol"] {
            let said = run(&mut build(&more, user));
            assert_eq!(said.code, 2, "{}", said.error());
            assert!(said.error().contains("knows no user"), "{}", said.error());
        }
    }
    // Two declarations at one distance that differ in one name only.
    let other = declare(&mut tiny, &[("alice", 7), ("dan", 8)]);
    tiny.refer(&system, &other);
    let build = |user: &str| {
        let mut build = tiny.nixos(&system, "none", &out);
        build.args([
            "--contents",
            &format!("source={}/f,target=/x,user={user},group=users", tiny.path().display()),
        ]);
        build
    };
    must(&mut build("dan"));
    let said = run(&mut build("alice"));
    assert!(said.code == 2 && said.error().contains("`alice` has several numbers"), "{}", said.error());
}

#[test]
fn a_pattern_reaches_the_store_as_little_as_a_directory_and_its_target_has_the_owner() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let folder = tiny.path().to_owned();
    for name in ["c/nix/store/abc", "c/etc", "nix/store"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("c/etc/f"), "f").unwrap();
    let out = folder.join("root.img");
    let build = |content: &str| {
        let mut build = tiny.nixos(&system, "none", &out);
        build.current_dir(&folder).args(["--contents", content]);
        build
    };
    for content in
        ["source=c/*,target=/", "source=c/n*x,target=/", "source=c,target=/", "source=nix/*,target=/nix"]
    {
        let said = run(&mut build(content));
        assert_eq!(said.code, 2, "{content}: {}", said.error());
        assert!(said.error().contains("contents overlap the store"), "{content}: {}", said.error());
        assert!(!out.exists());
    }
    must(&mut build("source=c/e*,target=/home/bob,user=77,group=78"));
    let found = debugfs::view(&out);
    for (path, expected) in
        [("home", (0, 0)), ("home/bob", (77, 78)), ("home/bob/etc", (77, 78)), ("home/bob/etc/f", (77, 78))]
    {
        let (_, uid, gid) = owner(&found, path);
        assert_eq!((uid, gid), expected, "{path}");
    }
    must(&mut build("source=c/etc/*,target=/etc,user=77,group=78"));
    let found = debugfs::view(&out);
    assert_eq!(owner(&found, "etc"), ("755".to_owned(), 0, 0));
    assert_eq!(owner(&found, "etc/f"), ("644".to_owned(), 77, 78));
}
