//! Addresses: every container, every way to name a partition, and what is refused.

use std::path::Path;

use crate::support::program::{build, diskwright, project};
use crate::support::tools::{Said, command, must, run, scratch};

/// What `cat` says of an address.
fn cat(address: &str, arguments: &[&str]) -> Said {
    run(diskwright().arg("cat").arg(address).args(arguments))
}

fn text(address: &str, arguments: &[&str]) -> String {
    let said = cat(address, arguments);
    assert_eq!(said.code, 0, "{address}: {}", said.error());
    said.text()
}

#[test]
fn a_file_is_read_from_every_container() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    for suffix in ["img", "qcow2", "vhd", "vdi", "vmdk", "vhdx"] {
        let disk = folder.path().join(format!("disk.{suffix}"));
        build(&gpt, &disk);
        let disk = disk.to_str().unwrap();
        for partition in ["3", "root", "ROOT"] {
            assert_eq!(text(&format!("{disk}:{partition}:/etc/text"), &[]), "a file of text\n", "{suffix}");
        }
        assert_eq!(text(&format!("{disk}:ESP:/loader/loader.conf"), &[]), "timeout 0\n", "{suffix}");
        // A FAT's names match in any case.
        assert_eq!(text(&format!("{disk}:1:/LOADER/loader.CONF"), &[]), "timeout 0\n", "{suffix}");
        assert_eq!(text(&format!("{disk}:/etc/text"), &["--partition", "3"]), "a file of text\n", "{suffix}");
        std::fs::remove_file(disk).unwrap();
    }
    // Clusters that are compressed.
    let disk = folder.path().join("disk.qcow2");
    must(diskwright().arg("build").arg(&gpt).arg("-o").arg(&disk).args(["--compress", "zlib"]));
    assert_eq!(text(&format!("{}:root:/etc/motd", disk.display()), &[]), "hello\n");
    let disk = folder.path().join("mbr.img");
    build(&mbr, &disk);
    assert_eq!(text(&format!("{}:2:/etc/motd", disk.display()), &[]), "hello\n");
    assert_eq!(text(&format!("{}:root:/etc/motd", disk.display()), &[]), "hello\n");
}

#[test]
fn a_backing_chain_is_followed_where_that_is_allowed() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let base = folder.path().join("base.qcow2");
    build(&gpt, &base);
    let mut below = "base.qcow2".to_owned();
    for name in ["middle.qcow2", "top.qcow2"] {
        let mut make = command("qemu-img");
        make.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &below]).arg(folder.path().join(name));
        must(&mut make);
        below = name.to_owned();
    }
    let address = format!("{}:root:/etc/text", folder.path().join("top.qcow2").display());
    let said = cat(&address, &[]);
    assert_eq!(said.code, 2, "{}", said.error());
    assert!(said.error().contains("--allow-backing"), "{}", said.error());
    assert_eq!(text(&address, &["--allow-backing"]), "a file of text\n");
}

#[test]
fn a_path_of_the_host_may_have_colons() {
    let folder = scratch();
    let [gpt, _] = project(folder.path());
    let odd = folder.path().join("a:b:/c");
    std::fs::create_dir_all(&odd).unwrap();
    let disk = odd.join("disk:2.img");
    build(&gpt, &disk);
    assert_eq!(text(&format!("{}:root:/etc/text", disk.display()), &[]), "a file of text\n");
    let said = must(diskwright().arg("ls").arg(format!("{}:3:/", disk.display())));
    assert!(said.text().lines().any(|line| line == "etc"), "{}", said.text());
}

/// A bare filesystem, and a disk with one that can be read, need no partition.
#[test]
fn what_is_clear_need_not_be_named() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    let root = folder.path().join("root.img");
    must(diskwright().args(["mkfs", "ext4"]).arg(folder.path().join("tree")).arg("-o").arg(&root));
    assert_eq!(text(&format!("{}:/etc/motd", root.display()), &[]), "hello\n");
    assert_eq!(text(&format!("{}:/etc/../etc/./motd", root.display()), &[]), "hello\n");
    let disk = folder.path().join("disk.img");
    build(&gpt, &disk);
    let said = cat(&format!("{}:/etc/motd", disk.display()), &[]);
    assert_eq!(said.code, 2);
    for words in
        ["several filesystems", "1 (vfat \"ESP\")", "2 (swap \"swap\")", "3 (ext4 \"root\")", "--partition"]
    {
        assert!(said.error().contains(words), "no {words} in {}", said.error());
    }
    // One filesystem and swap.
    let one = std::fs::read_to_string(&gpt).unwrap().replacen(
        "type = \"vfat\", label = \"ESP\", fat = \"auto\", free = 0",
        "type = \"swap\"",
        1,
    );
    let start = one.find("contents = [\n  { source = \"tree/bin\"").unwrap();
    let end = start + one[start..].find("]\n").unwrap() + 2;
    let one = format!("{}{}", &one[..start], &one[end..]).replacen("size = \"auto\"", "size = \"4MiB\"", 1);
    std::fs::write(&gpt, one).unwrap();
    build(&gpt, &disk);
    assert_eq!(text(&format!("{}:/etc/motd", disk.display()), &[]), "hello\n");
    let _ = mbr;
}

#[test]
fn what_cannot_be_found_is_told_with_what_there_is() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    let disk = folder.path().join("disk.img");
    build(&gpt, &disk);
    let disk = disk.to_str().unwrap();
    for (address, code, words) in [
        (format!("{disk}:4:/x"), 2, "there is no such partition"),
        (format!("{disk}:rot:/x"), 2, "did you mean root?"),
        (format!("{disk}:swap:/x"), 1, "swap space has no files"),
        (format!("{disk}:root:/etc/nothing"), 1, "there is no such file in the image"),
        (format!("{disk}:root:/etc/motd/x"), 1, "a part of the path is no directory"),
        (format!("{disk}:root:/etc"), 1, "this is no regular file"),
        (format!("{disk}:root"), 2, "no file is named"),
        ("/no/such/file:2:/x".to_owned(), 1, "there is no such image"),
        (folder.path().display().to_string(), 1, "this is a folder and no image"),
    ] {
        let said = cat(&address, &[]);
        assert_eq!(said.code, code, "{address}: {}", said.error());
        assert!(said.error().contains(words), "{address}: no `{words}` in {}", said.error());
    }
    let said = cat(&format!("{disk}:1:/x"), &["--partition", "2"]);
    assert!(said.code == 2 && said.error().contains("two partitions are named"), "{}", said.error());
    // An extended partition, and a table in a partition.
    let logical = std::fs::read_to_string(&mbr)
        .unwrap()
        .replace("type = \"linux\"", "type = \"linux\"\nlogical = true");
    std::fs::write(&mbr, logical).unwrap();
    let out = folder.path().join("mbr.img");
    if run(diskwright().arg("build").arg(&mbr).arg("-o").arg(&out)).code == 0 {
        let said = cat(&format!("{}:2:/x", out.display()), &[]);
        assert!(
            said.error().contains("an extended partition has no filesystem of its own"),
            "{}",
            said.error()
        );
        assert_eq!(text(&format!("{}:5:/etc/motd", out.display()), &[]), "hello\n");
    }
    nested(folder.path(), Path::new(disk));
}

/// A disk in a partition of another disk.
fn nested(folder: &Path, disk: &Path) {
    let outer = folder.join("outer.img");
    let length = std::fs::metadata(disk).unwrap().len();
    std::fs::File::create(&outer).unwrap().set_len(length + (4 << 20)).unwrap();
    must(command("sgdisk").args(["-n", "1:2048:0"]).arg(&outer));
    must(
        command("dd")
            .args(["bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"])
            .arg(format!("if={}", disk.display()))
            .arg(format!("of={}", outer.display())),
    );
    let said = cat(&format!("{}:1:/x", outer.display()), &[]);
    assert_eq!(said.code, 1);
    for words in ["nested tables are not read", "GPT with 3 partitions", "outer.img:1"] {
        assert!(said.error().contains(words), "no {words} in {}", said.error());
    }
}

/// A link in the image leads to a file in the image.
#[test]
fn links_stay_in_their_image() {
    let folder = scratch();
    let source = folder.path().join("source");
    let mut maker = crate::support::tree::Maker::new(&source);
    maker.directory("etc").directory("usr").directory("usr/lib").file("usr/lib/os-release", "inside\n");
    maker.symlink("etc/os-release", "../usr/lib/os-release").symlink("etc/absolute", "/usr/lib/os-release");
    maker
        .symlink("etc/out", "../../../../../../etc/passwd")
        .symlink("etc/loop", "loop")
        .symlink("lib", "usr/lib");
    maker.finish();
    let image = folder.path().join("root.img");
    must(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image));
    let image = image.to_str().unwrap();
    for path in ["/etc/os-release", "/etc/absolute", "/lib/os-release", "/lib/../lib/./os-release"] {
        assert_eq!(text(&format!("{image}:{path}"), &[]), "inside\n", "{path}");
    }
    let said = cat(&format!("{image}:/etc/out"), &[]);
    assert!(said.code == 1 && said.error().contains("no such file"), "{}", said.error());
    let said = cat(&format!("{image}:/etc/loop"), &[]);
    assert!(said.code == 1 && said.error().contains("too many symbolic links"), "{}", said.error());
}
