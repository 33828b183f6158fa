//! The section `[repart]` of a manifest: the same disk as from the command line, and errors with their lines.

use crate::run::{Folder, SEED};
use crate::support::program;
use crate::support::tools::{Said, run};

/// `build` of `disk.toml` in the folder.
fn build(folder: &Folder, output: &str) -> Said {
    let mut command = program::diskwright();
    run(command.current_dir(folder.0.path()).args(["build", "disk.toml", "-o", output]))
}

const HEAD: &str = "version = 1\n[disk]\nseed = \"0867da16-f251-457d-a9e8-c31f9a3c220b\"\nsector_size = 512\narchitecture = \"x86-64\"\n";

/// Definitions in files, those in the manifest, and the command line make one disk.
#[test]
fn a_manifest_makes_the_disk_of_the_command_line() {
    let root = "[Partition]\nType=usr\nFormat=erofs\nCopyFiles=/tree/a:/a\nCopyFiles=/tree/b:/b\nMinimize=best\nVerity=data\n\
                VerityMatchKey=u\nGrowFileSystem=no\n";
    let hash = "[Partition]\nType=usr-verity\nMinimize=best\nVerity=hash\nVerityMatchKey=u\n";
    let esp = "[Partition]\nType=esp\nFormat=vfat\nMakeDirectories=/EFI\nPriority=0\n\
               [X-Diskwright]\nTemplate=/template:/entry.conf\n";
    let folder = Folder::new(&[
        ("repart.d/10-esp.conf", esp),
        ("repart.d/20-usr.conf", root),
        ("repart.d/30-hash.conf", hash),
        ("tree/a", &"a".repeat(70_000)),
        ("tree/b", "b"),
        ("template", "usrhash={roothash:u}\n"),
    ]);
    folder.create(&["--copy-source=.", "--root=.", "--architecture=x86-64"]);
    let expected = std::fs::read(folder.path("image.raw")).unwrap();
    let sections = "[repart]\ncopy_source = \".\"\nroot = \".\"\n";
    folder.write("disk.toml", &format!("{HEAD}{sections}definitions = [\"repart.d\"]\n"));
    let said = build(&folder, "files.raw");
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(std::fs::read(folder.path("files.raw")).unwrap() == expected);
    let written = "[repart.partitions.10-esp.Partition]\nType = \"esp\"\nFormat = \"vfat\"\nMakeDirectories = \"/EFI\"\nPriority = 0\n\
                   [repart.partitions.10-esp.X-Diskwright]\nTemplate = \"/template:/entry.conf\"\n\
                   [repart.partitions.20-usr.Partition]\nType = \"usr\"\nFormat = \"erofs\"\nMinimize = \"best\"\nVerity = \"data\"\n\
                   VerityMatchKey = \"u\"\nGrowFileSystem = false\nCopyFiles = [\"/tree/a:/a\", \"/tree/b:/b\"]\n";
    // The third one stays in its file.
    folder.write("repart.d/10-esp.conf", "[Partition]\nType=hidden\n");
    folder.write("repart.d/20-usr.conf", "[Partition]\nType=hidden\n");
    folder.write("disk.toml", &format!("{HEAD}{sections}definitions = [\"repart.d\"]\n{written}"));
    let said = build(&folder, "written.raw");
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(std::fs::read(folder.path("written.raw")).unwrap() == expected);
}

/// What is told of a definition names it.
#[test]
fn warnings_name_the_definition() {
    let definition = "[repart.partitions.1.Partition]\nType = \"esp\"\nFormat = \"vfat\"\n";
    let folder = Folder::new(&[("disk.toml", &format!("{HEAD}{definition}"))]);
    let said = build(&folder, "image.raw");
    assert_eq!(said.code, 0, "{}", said.error());
    let expected = "repart.partitions.1 (disk.toml:6): there is nothing on the EFI system partition";
    assert!(said.error().contains(expected), "{}", said.error());
    folder.write("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\n");
    folder.write("disk.toml", &format!("{HEAD}[repart]\ndefinitions = [\"repart.d\"]\n"));
    let said = build(&folder, "image.raw");
    assert!(folder.relative(&said.error()).contains("repart.d/1.conf: there is nothing"), "{}", said.error());
}

#[test]
fn the_level_and_the_size_are_those_of_the_manifest() {
    let esp = "[repart.partitions.1.Partition]\nType = \"esp\"\nFormat = \"vfat\"\nSizeMinBytes = \"64M\"\nSizeMaxBytes = \"64M\"\n";
    for (level, size, length) in [
        ("level = 257", "", (64_u64 << 20) + (1044 << 10)),
        ("level = 262", "", (100 << 20) + (1 << 20) + 16896),
        ("level = 257", "size = \"200MiB\"\n", 200 << 20),
    ] {
        let folder = Folder::new(&[("disk.toml", &format!("{HEAD}{size}[repart]\n{level}\n{esp}"))]);
        let said = build(&folder, "image.raw");
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(std::fs::metadata(folder.path("image.raw")).unwrap().len(), length, "{level} {size}");
    }
}

/// What is wrong with a definition of a manifest is told with its line; what a file may have is no warning here.
#[test]
fn faults_are_told_with_their_lines() {
    let one = "[repart.partitions.1.Partition]\nType = \"linux-generic\"\n";
    for (rest, words) in [
        ("[repart]\n", &["there are no definitions", "disk.toml:6"][..]),
        (
            &format!("[repart]\nlevel = 250\n{one}"),
            &["no such level", "disk.toml:7: level = 250", "257, 260 or 262"],
        ),
        ("[repart]\nmake_ddi = \"initrd\"\n", &["no such kind of image", "disk.toml:7"]),
        ("[repart]\nowner = \"x\"\n", &["disk.toml:7"]),
        ("[repart]\ndefinition = [\"x\"]\n", &["unknown key `definition`", "disk.toml:7"]),
        ("[repart]\ndefinitions = [\"elsewhere\"]\n", &["no such folder", "disk.toml:7"]),
        (
            "[repart]\nexclude_partitions = [\"esq\"]\n[repart.partitions.1.Partition]\nType = \"esp\"\n",
            &["esq", "disk.toml:7"],
        ),
        ("[repart.partitions.1.Partition]\nLabel = \"x\"\n", &["Type= is not defined", "disk.toml:6"]),
        ("[repart.partitions.1.Part]\nType = \"esp\"\n", &["no section of this name", "disk.toml:6"]),
        (
            &format!("{one}Formt = \"ext4\"\n"),
            &["Unknown key 'Formt'", "Did you mean 'Format'", "disk.toml:8"],
        ),
        (&format!("{one}SizeMinBytes = 5000\n"), &["Rounded SizeMinBytes=", "disk.toml:8"]),
        (
            &format!("{one}Format = \"ext4\"\nCopyFiles = [\"/none/a:/x\", \"/none/b:/y\"]\n"),
            &["/none/a", "disk.toml:9"],
        ),
        (&format!("{one}Label = [[\"x\"]]\n"), &["an array in an array", "disk.toml:8"]),
        (&format!("{one}Label = 1.5\n"), &["a text, a whole number", "disk.toml:8"]),
        (&format!("{one}[[partition]]\nsize = \"1MiB\"\n"), &["bring all partitions", "disk.toml:8"]),
        (&format!("{one}[nixos]\nsystem = \"/nix/store/x\"\n"), &["described once", "disk.toml:6"]),
    ] {
        let folder = Folder::new(&[("disk.toml", &format!("{HEAD}{rest}"))]);
        let said = build(&folder, "image.raw");
        let error = folder.relative(&said.error());
        assert_ne!(said.code, 0, "{rest}");
        for word in words {
            assert!(error.contains(word), "{rest}: no `{word}` in {error}");
        }
        assert!(!folder.path("image.raw").exists(), "{rest}");
    }
}

/// Keys of `[disk]` that say what systemd-repart decides.
#[test]
fn what_the_disk_may_not_say_beside_definitions_is_refused() {
    for key in [
        "guid = \"0867da16-f251-457d-a9e8-c31f9a3c220b\"",
        "first_lba = 40",
        "entries = 8",
        "table = \"mbr\"",
    ] {
        let text = format!(
            "version = 1\n[disk]\n{key}\n[repart.partitions.1.Partition]\nType = \"linux-generic\"\n"
        );
        let folder = Folder::new(&[("disk.toml", &text)]);
        let said = build(&folder, "image.raw");
        assert_eq!(said.code, 2, "{key}");
        let name = key.split(' ').next().unwrap();
        let expected = format!("`{name}` means nothing beside [repart]");
        assert!(said.error().contains(&expected) && said.error().contains("disk.toml:3"), "{}", said.error());
    }
}

/// Another machine makes the same image: a type that depends on the processor needs it.
#[test]
fn the_processor_is_not_that_of_the_host() {
    let text = "version = 1\n[repart.partitions.1.Partition]\nType = \"root\"\n";
    let folder = Folder::new(&[("disk.toml", text)]);
    let said = build(&folder, "image.raw");
    assert_eq!(said.code, 2);
    for words in ["architecture", "disk.toml:3"] {
        assert!(said.error().contains(words), "{}", said.error());
    }
}

/// As `systemd-repart … -` tells the least size.
#[test]
fn without_an_image_the_least_size_is_told() {
    let folder = Folder::new(&[("repart.d/1.conf", "[Partition]\nType=home\nSizeMinBytes=5M\n")]);
    let said = folder.repart(&["--definitions=repart.d", SEED, "--json=pretty", "-"]);
    assert_eq!((said.code, said.text()), (0, String::new()));
    assert_eq!(said.error(), "Automatically determined minimal disk image size as 6M.\n");
    let said = folder.repart(&["--definitions=repart.d", SEED, "--empty=force", "-"]);
    assert_eq!(said.code, 2, "{}", said.error());
}
