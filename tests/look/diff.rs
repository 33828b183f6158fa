//! `diff`: each kind of difference is told, nothing else is, and the exit code is that of diff(1).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::support::debugfs;
use crate::support::program::{build, diskwright, mkfs_ext4, mkfs_squashfs, project};
use crate::support::tools::{Said, command, is_root, must, run, scratch};
use crate::support::tree;

fn diff(first: &str, second: &str, arguments: &[&str]) -> Said {
    run(diskwright().arg("diff").arg(first).arg(second).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every container of a disk is equal to every other.
#[test]
fn a_disk_is_equal_in_every_container() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    let raw = folder.path().join("disk.img");
    build(&gpt, &raw);
    for suffix in ["qcow2", "vdi", "vmdk", "vhdx"] {
        let other = folder.path().join(format!("disk.{suffix}"));
        build(&gpt, &other);
        let said = diff(text(&raw), text(&other), &[]);
        assert_eq!((said.code, said.text().as_str()), (0, ""), "{suffix}: {}", said.error());
        std::fs::remove_file(other).unwrap();
    }
    let said = diff(text(&raw), text(&raw), &["--json"]);
    assert_eq!((said.code, said.text().as_str()), (0, "[]\n"));
    let other = folder.path().join("mbr.img");
    build(&mbr, &other);
    let said = diff(text(&raw), text(&other), &[]);
    assert_eq!(said.code, 1);
    assert!(said.text().contains("table: table: gpt -> mbr"), "{}", said.text());
    for arguments in [["/nowhere", "/nowhere"], [text(&raw), "/nowhere"]] {
        let said = diff(arguments[0], arguments[1], &[]);
        assert_eq!(said.code, 2, "{}", said.error());
    }
}

#[test]
fn each_kind_of_difference_is_told() {
    let folder = scratch();
    let source = crate::list::source(folder.path());
    let (first, second) = (folder.path().join("first.img"), folder.path().join("second.img"));
    mkfs_ext4(&source, &first, &["--owner", "preserve"]);
    std::fs::copy(&first, &second).unwrap();
    debugfs::damage(
        &second,
        "sif /etc/a.conf uid 7\nsif /etc/b.conf mode 0100600\nsif /etc/d mtime 20200101\nsif /large size 1234566\n\
         sif /link block[0] 0x41414141\nea_set /names user.new 1\nrm /secret\nln /bin/su /etc/other\n",
    );
    let file = File::options().write(true).open(&second).unwrap();
    let bytes = std::fs::read(&second).unwrap();
    let at =
        bytes.windows(64).position(|window| window == &tree::noise(9_000_000 ^ 4_500_000, 64)[..]).unwrap();
    file.write_all_at(&[bytes[at + 10] ^ 2], u64::try_from(at + 10).unwrap()).unwrap();
    let said = diff(&format!("{}:/", text(&first)), &format!("{}:/", text(&second)), &[]);
    assert_eq!(said.code, 1, "{}", said.error());
    let lines = said.text();
    for words in [
        "/etc/a.conf: owner: 0:0 -> 7:0\n",
        "/etc/b.conf: mode: 0644 -> 0600\n",
        "/etc/d: time: 1970-01-01 00:00:01.000000005 +0000 -> 2020-01-01 00:00:00",
        "/large: size: 1234567 -> 1234566\n",
        "/link: target: etc/a.conf -> AAAA",
        "/names: attributes:  -> user.new=\"1\"\n",
        "/secret: name only in the first: file\n",
        "/etc/other: name only in the second: file\n",
        "/hole: content from byte 4500010\n",
    ] {
        assert!(lines.contains(words) || (!is_root() && words.contains("owner")), "no `{words}` in\n{lines}");
    }
    let said = diff(
        &format!("{}:/hole", text(&first)),
        &format!("{}:/hole", text(&second)),
        &["--content", "--json"],
    );
    let differences: Value = serde_json::from_str(&said.text()).unwrap();
    assert_eq!(differences[0]["what"], "content from byte 4500010");
    let start = format!("0x{:02x}", bytes[at + 10]);
    assert!(differences[0]["first"].as_str().unwrap().starts_with(&start), "{differences}");
}

/// A filesystem and the folder that it was made from, and two filesystems of one folder.
#[test]
fn an_image_is_compared_with_a_folder() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let (ext4, squashfs) = (folder.path().join("root.ext4.img"), folder.path().join("root.squashfs.img"));
    mkfs_ext4(&source, &ext4, &["--owner", "preserve"]);
    mkfs_squashfs(&source, &squashfs, &["--owner", "preserve"]);
    let said = diff(&format!("{}:/", text(&squashfs)), text(&source), &[]);
    assert_eq!((said.code, said.text().as_str()), (0, ""), "{}", said.error());
    let said = diff(&format!("{}:/", text(&ext4)), text(&source), &[]);
    assert_eq!((said.code, said.text().as_str()), (1, "/lost+found: name only in the first: directory\n"));
    std::fs::write(source.join("etc/motd"), "he123\n").unwrap();
    tree::date(&source.join("etc/motd"), tree::USUAL);
    let said = diff(&format!("{}:/etc", text(&squashfs)), text(&source.join("etc")), &["--content"]);
    assert_eq!((said.code, said.text().as_str()), (1, "/motd: content from byte 2: \"llo\" -> \"123\"\n"));
}

/// Gives everything the time that it has in a store.
fn dated(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| dated(&entry.unwrap().path()));
    }
    tree::date(path, (1, 0));
}

/// A filesystem with a store and the closure that it holds, in every form that tells one.
#[test]
fn an_image_is_compared_with_a_closure() {
    let folder = scratch();
    let (root, host) = (folder.path().join("root"), folder.path().join("host"));
    let names = ["00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12", "10bgd045z0d4icpbc2yyz4gx48ak44la-world"];
    for top in [&root, &host] {
        let store = top.join("nix/store");
        for name in names {
            let mut maker = tree::Maker::new(&store.join(name));
            maker
                .directory("bin")
                .file("bin/tool", name)
                .mode("bin/tool", 0o555)
                .file("text", "some words\n");
            maker.mode("text", 0o444).link("text", "same").symlink("link", "bin/tool").finish();
        }
    }
    dated(&root.join("nix/store"));
    let list: String = names.iter().map(|name| format!("/nix/store/{name}\n")).collect();
    let (paths, info) = (folder.path().join("paths"), folder.path().join("closure-info"));
    std::fs::write(&paths, &list).unwrap();
    std::fs::create_dir(&info).unwrap();
    std::fs::write(info.join("store-paths"), &list).unwrap();
    // The image gets the metadata of a store from the front end for systems; here they are given.
    let manifest = folder.path().join("disk.toml");
    std::fs::write(
        &manifest,
        "version = 1\n[disk]\ntable = \"gpt\"\n[[partition]]\ntype = \"esp\"\nsize = \"40MiB\"\n\
         filesystem = { type = \"vfat\" }\n[[partition]]\ntype = \"linux\"\nsize = \"auto\"\n\
         filesystem = { type = \"ext4\" }\ncontents = [ { source = \"root\", target = \"/\" } ]\n",
    )
    .unwrap();
    let image = folder.path().join("disk.img");
    // Nobody may write into a store, and everybody may remove this one again.
    let store = root.join("nix/store");
    must(command("chmod").args(["-R", "a-w"]).arg(&store));
    build(&manifest, &image);
    must(command("chmod").args(["-R", "u+w"]).arg(&store));
    let root_flag = ["--store-root", text(&host)];
    for closure in [text(&paths), text(&info), &format!("closure:{}", text(&info))] {
        let said = diff(text(&image), closure, &root_flag);
        assert_eq!((said.code, said.text().as_str()), (0, ""), "{closure}: {}", said.error());
        let said = diff(closure, text(&image), &root_flag);
        assert_eq!((said.code, said.text().as_str()), (0, ""), "{closure}: {}", said.error());
    }
    // A store in a folder has the metadata of its files, which here are none of a store.
    let said = diff(text(&paths), text(&root), &root_flag);
    assert!(
        said.code == 1 && said.text().contains("/bin: mode: 0555 -> 0755\n"),
        "{}{}",
        said.text(),
        said.error()
    );
    // Less in the closure, and other bytes on this machine.
    std::fs::write(&paths, format!("/nix/store/{}\n", names[0])).unwrap();
    let tool = host.join("nix/store").join(names[0]).join("bin/tool");
    std::fs::remove_file(&tool).unwrap();
    std::fs::write(&tool, names[1]).unwrap();
    let lines = diff(text(&image), text(&paths), &root_flag).text();
    for words in [
        format!("/{}/bin/tool: mode: 0555 -> 0444\n", names[0]),
        format!("/{}: name only in the first: directory\n", names[1]),
    ] {
        assert!(lines.contains(&words), "no `{words}` in {lines}");
    }
    let missing = diff(text(&image), text(&paths), &["--store-root", text(&info)]);
    assert!(missing.code == 2 && missing.error().contains("is missing on this host"), "{}", missing.error());
}

/// What differs in bytes and in nothing that a reader sees is told, with the structure.
#[test]
fn the_structure_that_differs_is_named() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::plain(&source);
    let (first, second) = (folder.path().join("first.img"), folder.path().join("second.img"));
    let mut mke2fs = command("mke2fs");
    must(
        mke2fs
            .args(["-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-b", "4096", "-d"])
            .arg(&source)
            .arg(&first)
            .arg("16M"),
    );
    // "located at block 37, offset 0x0d00"
    let place = debugfs::debugfs(&first, "imap /etc/motd\n").text();
    let after = |words: &str| {
        place.split(words).nth(1).unwrap().split(|c: char| !c.is_ascii_hexdigit()).next().unwrap()
    };
    let block: u64 = after("located at block ").parse().unwrap();
    let inode = block * 4096 + u64::from_str_radix(after("offset 0x"), 16).unwrap();
    let data = debugfs::debugfs(&first, "bmap /etc/passwd 0\n").text();
    let data: u64 = data.lines().last().unwrap().trim().parse().unwrap();
    for (at, words) in [
        (1024 + 0x30, "in the superblock, s_wtime"),
        (4096 + 0x1c, "in the descriptor of group 0, bg_itable_unused_lo"),
        (inode + 8, ", i_atime"),
        // Behind the end of the file, in its last block.
        (data * 4096 + 4000, "in the data of /etc/passwd"),
        (16 * 1024 * 1024 - 100, ", which is free"),
    ] {
        std::fs::copy(&first, &second).unwrap();
        File::options().write(true).open(&second).unwrap().write_all_at(&[0x5a], at).unwrap();
        let said = diff(text(&first), text(&second), &[]);
        assert_eq!(said.code, 1, "{words}: {}", said.error());
        let lines = said.text();
        assert!(
            lines.contains("bytes that no reader shows") && lines.contains(words),
            "no `{words}` in {lines}"
        );
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
    std::fs::copy(&first, &second).unwrap();
    File::options().write(true).open(&second).unwrap().write_all_at(b"boot", 100).unwrap();
    assert!(diff(text(&first), text(&second), &[]).text().contains("from byte 100, in the boot sector"));
}
