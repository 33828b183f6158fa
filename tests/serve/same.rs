//! What is served is what would be written, byte for byte: every manifest, filesystem and format of the fixtures.

use std::path::{Path, PathBuf};

use crate::served::{Served, fixture};
use crate::support::program::{diskwright, project};
use crate::support::tree;
use crate::tools::{command, digest, must, run, scratch};

/// The bytes of an export, as a digest.
fn read(uri: &str, folder: &Path) -> String {
    let out = folder.join("read.img");
    must(command("nbdcopy").arg(uri).arg(&out));
    digest(&out)
}

#[test]
fn manifests_in_every_format() {
    let (folder, manifests) = fixture();
    let folder = folder.path();
    for manifest in &manifests {
        for (format, more) in [
            ("raw", &[][..]),
            ("qcow2", &[]),
            ("qcow2", &["--cluster-size", "4KiB"]),
            ("vhd", &[]),
            ("vhd", &["--subformat", "fixed"]),
            ("vdi", &[]),
            ("vdi", &["--subformat", "fixed"]),
            ("vmdk", &[]),
            ("vhdx", &[]),
            ("vhdx", &["--subformat", "fixed"]),
        ] {
            let built = folder.join("built");
            let mut build = diskwright();
            must(
                build.arg("build").arg(manifest).arg("-o").arg(&built).args(["--format", format]).args(more),
            );
            let mut arguments = vec![manifest.to_str().unwrap(), "--format", format];
            arguments.extend_from_slice(more);
            let served = Served::start(folder, &arguments);
            assert_eq!(read(&served.uri, folder), digest(&built), "{arguments:?}");
            served.end();
        }
    }
}

/// Root hashes and compressed data follow from contents: they are there when a client reads them.
#[test]
fn disks_whose_bytes_follow_from_their_contents() {
    let folder = scratch();
    let folder = folder.path();
    project(folder);
    let manifest = folder.join("verity.toml");
    std::fs::write(
        &manifest,
        r#"
version = 1

[disk]
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "linux"
label = "data"
size = "auto"
filesystem = { type = "erofs", compress = "zstd" }
contents = [{ source = "tree", target = "/" }]

[[partition]]
type = "linux"
label = "squash"
size = "auto"
filesystem = { type = "squashfs" }
contents = [{ source = "tree", target = "/" }]

[[partition]]
type = "linux"
label = "root"
size = "auto"
filesystem = { type = "ext4" }
contents = [{ source = "tree", target = "/" }]
"#,
    )
    .unwrap();
    let built = folder.join("built.img");
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&built));
    let served = Served::start(folder, &[&manifest]);
    assert_eq!(read(&served.uri, folder), digest(&built));
}

/// The partition tables of all systems that are imitated, and the examples.
#[test]
fn manifests_of_the_fixtures() {
    let folder = scratch();
    let folder = folder.path();
    let in_folder = |path: &str| -> Vec<PathBuf> {
        let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|suffix| suffix == "toml")).collect()
    };
    let manifests = [in_folder("fixtures/layouts"), in_folder("examples")].concat();
    assert!(manifests.len() > 12, "{manifests:?}");
    for manifest in manifests {
        let built = folder.join("built.img");
        must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&built));
        let served = Served::start(folder, &[&manifest]);
        let same = ["compare", "-f", "raw", "-F", "raw", &served.uri];
        let said = run(command("qemu-img").args(same).arg(&built));
        assert_eq!(said.code, 0, "{}: {}", manifest.display(), said.text());
        served.end();
    }
}

/// Anything that a command describes.
#[test]
fn filesystems_of_mkfs() {
    let folder = scratch();
    let folder = folder.path();
    let source = folder.join("tree");
    tree::portable(&source);
    let source = source.to_str().unwrap();
    for arguments in [
        &["ext4", source, "--free", "16MiB"][..],
        &["erofs", source, "--compress", "lz4"],
        &["squashfs", source, "--compress", "zstd"],
        &["ext4", "--size", "64MiB"],
        &["vfat", "--size", "8MiB"],
        &["zfs", source],
    ] {
        let built = folder.join("built.img");
        must(diskwright().arg("mkfs").args(arguments).arg("-o").arg(&built));
        let mut all = vec!["--", "mkfs"];
        all.extend_from_slice(arguments);
        let served = Served::start(folder, &all);
        assert_eq!(read(&served.uri, folder), digest(&built), "{arguments:?}");
        let listed = must(command("nbdinfo").args(["--list", &served.uri])).text();
        assert!(!listed.contains("export=\"1\""), "a filesystem has no partitions: {listed}");
        served.end();
    }
}

/// The disk of systemd-repart's definitions.
#[test]
fn definitions_of_repart() {
    let (folder, _) = fixture();
    let folder = folder.path();
    std::fs::create_dir(folder.join("repart.d")).unwrap();
    std::fs::write(
        folder.join("repart.d/10-root.conf"),
        "[Partition]\nType=linux-generic\nLabel=data\nFormat=ext4\nCopyFiles=/tree:/\nMinimize=guess\n",
    )
    .unwrap();
    let built = folder.join("built.raw");
    let words = [
        "repart",
        "--definitions=repart.d",
        "--root=.",
        "--empty=create",
        "--size=auto",
        "--seed=0867da16-f251-457d-a9e8-c31f9a3c220b",
    ];
    must(diskwright().current_dir(folder).args(words).args(["--dry-run=no", "built.raw"]));
    let served = {
        let mut serve = diskwright();
        serve.current_dir(folder).args(["serve", "--socket", "socket", "--"]).args(words).arg("image.raw");
        Served::of(serve, folder.join("socket"))
    };
    assert_eq!(read(&served.uri, folder), digest(&built));
    assert_ne!(read(&served.export("data"), folder), digest(&built));
    assert!(!folder.join("image.raw").exists());
}

/// An image of any format is a disk again, and its partitions are exports.
#[test]
fn images_of_every_format() {
    let (folder, [gpt, _]) = fixture();
    let folder = folder.path();
    let raw = folder.join("built.img");
    must(diskwright().arg("build").arg(&gpt).arg("-o").arg(&raw));
    let root = {
        let served = Served::start(folder, &[&raw]);
        let root = read(&served.export("root"), folder);
        assert_eq!(read(&served.uri, folder), digest(&raw));
        served.end();
        root
    };
    for (name, more) in [
        ("a.qcow2", &["--compress", "zlib"][..]),
        ("a.vhd", &["--subformat", "fixed"]),
        ("a.vdi", &[]),
        ("a.vmdk", &["--subformat", "streamOptimized"]),
        ("a.vhdx", &[]),
    ] {
        let image = folder.join(name);
        must(diskwright().arg("convert").arg(&raw).arg(&image).args(more));
        let served = Served::start(folder, &[&image]);
        assert_eq!(read(&served.export("root"), folder), root, "{name}");
        let uri = &served.uri;
        must(command("qemu-img").args(["compare", "-f", "raw", "-F", "raw", uri]).arg(&raw));
        served.end();
        // And from one container into the bytes of another.
        let other = folder.join("b.vdi");
        must(diskwright().arg("convert").arg(&image).arg(&other));
        let served = Served::start(folder, &[image.to_str().unwrap(), "--format", "vdi"]);
        assert_eq!(read(&served.uri, folder), digest(&other), "{name}");
        served.end();
    }
}

#[test]
fn several_sources_have_names() {
    let (folder, [gpt, mbr]) = fixture();
    let folder = folder.path();
    let built: Vec<PathBuf> = [&gpt, &mbr]
        .into_iter()
        .map(|manifest| {
            let out = manifest.with_extension("built");
            must(diskwright().arg("build").arg(manifest).arg("-o").arg(&out).args(["--format", "raw"]));
            out
        })
        .collect();
    let other = format!("other={}", mbr.display());
    let served = Served::start(folder, &[gpt.to_str().unwrap(), &other]);
    let stem = gpt.file_stem().unwrap().to_str().unwrap();
    let uri = |name: &str| format!("nbd+unix:///{name}?socket={}", served.socket.display());
    assert_eq!(read(&uri(stem), folder), digest(&built[0]));
    assert_eq!(read(&uri("other"), folder), digest(&built[1]));
    must(command("nbdinfo").arg("--size").arg(uri(&format!("{stem}/root"))));
    must(command("nbdinfo").arg("--size").arg(uri("other/1")));
    let missing = run(command("nbdinfo").arg(uri("")));
    assert!(missing.code != 0 && missing.error().contains("use --list"), "{}", missing.error());
    assert!(served.uri.contains(&format!("///{stem}?")), "{}", served.uri);
}

/// A command after -- says what is served as it says what it would write.
#[test]
fn the_format_that_a_command_says() {
    let folder = scratch();
    let folder = folder.path();
    let [manifest, _] = project(folder);
    let manifest = manifest.to_str().unwrap();
    let tree = folder.join("tree");
    let mkfs = ["mkfs", "ext4", tree.to_str().unwrap(), "--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"];
    for (arguments, more) in [
        (&["build", manifest][..], &["--format", "qcow2"][..]),
        (&["build", manifest], &["--size-multiple", "48MiB"]),
        (&mkfs, &["--format", "vdi"]),
    ] {
        let out = folder.join("built.img");
        must(diskwright().args(arguments).args(more).arg("-o").arg(&out));
        let served = [&["--"], arguments, more].concat();
        let served = Served::start(folder, &served);
        assert_eq!(read(&served.uri, folder), digest(&out), "{arguments:?} {more:?}");
        served.end();
    }
    // So does the end of a name that is not written.
    let (out, other) = (folder.join("built.vhdx"), folder.join("other.vhdx"));
    must(diskwright().args(mkfs).arg("-o").arg(&out));
    let served = [&["--"], &mkfs[..], &["-o", other.to_str().unwrap()]].concat();
    let served = Served::start(folder, &served);
    assert_eq!(read(&served.uri, folder), digest(&out));
    served.end();
    assert!(!other.exists());
}
