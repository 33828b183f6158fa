//! Systems with their root on ZFS: what nix/zfs-image.nix makes of its arguments, and images that Nix itself builds.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::closure::{build, grub, grub_mkimage, host, nix};
use crate::function::{evaluation, image_of};
use crate::support::compare::{Aspect, assert_same};
use crate::support::guest::{Guest, turn};
use crate::support::nix::program;
use crate::support::program::diskwright;
use crate::support::tools::{command, must, run, scratch};
use crate::support::tree::noise;
use crate::support::zfs::{assert_clean, names, view};
use crate::support::{fat, judges, table};
use crate::tiny::Tiny;

/// Name, script, manifest and filename for these arguments. The manifest must parse.
fn image(kind: &str, more: &str) -> Value {
    image_of(evaluation("nix/tests/zfs-function.nix").args(["--argstr", "kind", kind, "--arg", "more", more]))
}

#[test]
fn arguments_and_defaults_are_those_of_nixpkgs() {
    let found = image("multi", "{ }");
    assert_eq!((&found["name"], &found["filename"]), (&json!("nixos-disk-image"), &json!("nixos.root.img")));
    let section = &found["manifest"]["nixos"];
    for (key, expected) in [
        ("layout", json!("zfs")),
        ("boot_size", json!("1024MiB")),
        ("disk_size", json!("2048MiB")),
        ("pool", json!("tank")),
        ("pool_properties", json!({ "autoexpand": "on" })),
        (
            "filesystem_properties",
            json!({ "acltype": "posixacl", "atime": "off", "compression": "on", "mountpoint": "legacy", "xattr": "sa" }),
        ),
        ("datasets", json!([])),
        ("boot_loader", json!("grub")),
    ] {
        assert_eq!(section[key], expected, "{key}");
    }
    assert!(section.get("channel").is_some() && section.get("label").is_none());
    let more = "{ bootSize = 1000; rootSize = 3000; rootPoolName = \"pool\"; rootPoolProperties.ashift = 12; format = \"vpc\"; \
                memSize = 4096; includeChannel = false; configFile = \"/x.nix\"; name = \"mine\"; postVM = \"after $rootDiskImage\"; \
                datasets.\"pool/b\" = { }; datasets.\"pool/a\" = { mount = \"/\"; properties.atime = \"on\"; }; \
                contents = [ { source = \"/y\"; target = \"/y\"; } ]; }";
    let found = image("single", more);
    assert_eq!((&found["name"], &found["filename"]), (&json!("mine"), &json!("nixos.root.vhd")));
    let section = &found["manifest"]["nixos"];
    for (key, expected) in [
        ("layout", json!("zfs-single")),
        ("boot_size", json!("1000MiB")),
        ("disk_size", json!("4000MiB")),
        ("pool", json!("pool")),
        ("pool_properties", json!({ "ashift": 12 })),
        (
            "datasets",
            json!([
                { "name": "pool/a", "mount": "/", "properties": { "atime": "on" } },
                { "name": "pool/b", "properties": {} },
            ]),
        ),
        ("config_file", json!("/x.nix")),
        ("contents", json!([{ "source": "/y", "target": "/y" }])),
    ] {
        assert_eq!(section[key], expected, "{key}");
    }
    assert!(section.get("channel").is_none());
    let script = found["script"].as_str().unwrap();
    assert!(script.contains("--format vpc") && script.contains("after $rootDiskImage"), "{script}");
    assert_eq!(image("multi", "{ rootSize = \"auto\"; }")["manifest"]["nixos"]["disk_size"], "auto");
}

/// The page names every argument, and the older name leads to the same function.
#[test]
fn the_page_names_every_argument() {
    let page = std::fs::read_to_string("docs/nix.md").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let expression =
        format!("builtins.attrNames (builtins.functionArgs (import {}/zfs-image.nix))", folder.display());
    let mut eval = nix("nix-instantiate");
    let said = must(eval.args(["--eval", "--strict", "--json", "-E", &expression])).text();
    let arguments: Vec<String> = serde_json::from_str(&said).unwrap();
    assert!(arguments.len() > 20, "{arguments:?}");
    for argument in arguments {
        assert!(page.contains(&format!("`{argument}`")), "docs/nix.md does not name {argument}");
    }
    let old = std::fs::read_to_string(folder.join("make-zfs-image.nix")).unwrap();
    assert!(old.ends_with("import ./make-multi-disk-zfs-image.nix\n"), "{old}");
}

/// Datasets of a system whose store is compressed by itself.
const DATASETS: [&str; 4] = [
    "--datasets",
    "name=tank/system/root,mount=/",
    "--datasets",
    "name=tank/local/nix,mount=/nix,compression=zstd-3,recordsize=1M",
];

/// A system with files of several records, of one block and of none, and the path of the store path that has them.
fn with_files() -> (Tiny, String, String) {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let path = tiny.object("files", &[], |place| {
        std::fs::create_dir_all(place.join("share/empty")).unwrap();
        for (name, length) in [("none", 0), ("short", 50), ("block", 4096), ("long", 3_000_001)] {
            std::fs::write(place.join("share").join(name), noise(7, length)).unwrap();
        }
        std::fs::write(place.join("share/same"), noise(7, 3_000_001)).unwrap();
        std::fs::write(place.join("share/zeros"), vec![0; 400_000]).unwrap();
        std::os::unix::fs::symlink("long", place.join("share/link")).unwrap();
    });
    (tiny, system, path)
}

/// Store paths in pools are read back by the pool's own reader, from any container.
#[test]
fn store_paths_in_a_pool_are_compared_with_what_nix_knows() {
    let (tiny, system, path) = with_files();
    let long = tiny.host(&path).join("share/long");
    for (layout, more) in [("zfs", &[][..]), ("zfs-single", &["--format", "qcow2", "--compress", "zstd"])] {
        let out = tiny.path().join("nixos.root.img");
        let verified = |closure: &Path| {
            let mut command = tiny.with_closure(&system, layout, &out, closure);
            command.args(["--additional-space", "4MiB", "--boot-size", "40MiB", "--boot-loader", "none"]);
            command.args(DATASETS).args(more).arg("--verify-closure");
            command
        };
        let closure = tiny.path().join("closure");
        std::fs::write(&closure, tiny.registration()).unwrap();
        must(&mut verified(&closure));
        std::fs::remove_file(&out).unwrap();
        // A byte in the last record of a file.
        let mut bytes = noise(7, 3_000_001);
        bytes[3_000_000] ^= 1;
        std::fs::write(&long, &bytes).unwrap();
        let said = run(&mut verified(&closure));
        assert_eq!(said.code, 1, "{layout}: {}", said.error());
        for word in ["a store path is not what Nix says it is", &*path, "expected: sha256:", "found: sha256:"]
        {
            assert!(said.error().contains(word), "{layout}: no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists(), "{layout}");
        std::fs::write(&long, noise(7, 3_000_001)).unwrap();
    }
}

/// What the pool's reader does not reach is refused before anything is written.
#[test]
fn store_paths_in_a_volume_are_not_compared() {
    let (tiny, _, _) = with_files();
    let closure = tiny.path().join("registration");
    std::fs::write(&closure, tiny.registration()).unwrap();
    let (manifest, out) = (tiny.path().join("disk.toml"), tiny.path().join("x.img"));
    let text = |mount: &str| {
        format!(
            "version = 1\n[[partition]]\nsize = \"160MiB\"\nfilesystem = {{ type = \"zfs\", datasets = {{ part = {{ type = \
             \"volume\", volsize = \"64MiB\", mount = \"{mount}\", filesystem = {{ type = \"ext4\" }} }} }} }}\n\
             [[partition.contents]]\nclosure = \"{}\"\ntarget = \"/\"\n[[partition.contents]]\ndirectory = true\ntarget = \"/srv\"\n",
            closure.display()
        )
    };
    let build = |mount: &str| {
        std::fs::write(&manifest, text(mount)).unwrap();
        run(diskwright().arg("build").arg(&manifest).arg("-o").arg(&out).arg("--verify-closure"))
    };
    for mount in ["/nix", "/nix/store"] {
        let said = build(mount);
        assert!(
            said.code == 2 && said.error().contains("filesystems in volumes"),
            "{mount}: {}",
            said.error()
        );
        assert!(!out.exists());
    }
    // A store beside a volume is no reason; here the closure itself is wrong, as it has more than names.
    let said = build("/srv");
    assert!(said.error().contains("a line of the closure is no store path"), "{}", said.error());
}

/// A helper VM fills the pool of a system, and what is in it is what the writer in process has there.
#[test]
fn a_helper_vm_fills_the_pool_of_a_system() {
    let (tiny, system, _) = with_files();
    let (zpool, _) = judges::binary("zpool");
    let mut views = Vec::new();
    for via in ["process", "vm"] {
        let out = tiny.path().join(format!("{via}.root.img"));
        let mut command = tiny.nixos(&system, "zfs", &out);
        command.args(["--boot-size", "40MiB", "--boot-loader", "none", "--verify-closure"]).args(DATASETS);
        command.args(["--via", via, "--vm-accel", "tcg", "--vm-kernel"]).arg(judges::kernel().0);
        command.arg("--vm-modules").arg(judges::zfs_modules()).arg("--vm-tools").arg(zpool.parent().unwrap());
        command.arg("--vm-qemu").arg(judges::find("qemu-system-x86_64"));
        {
            let _turn = turn();
            must(&mut command);
        }
        table::assert_clean(&out);
        let folder = tiny.path().join(via);
        std::fs::create_dir(&folder).unwrap();
        let pool = folder.join("image");
        table::extract(&out, table::partitions(&out)[0], &pool);
        assert_clean(&pool, "tank");
        views.push([&["system", "root"][..], &["local", "nix"]].map(|dataset| view(&pool, dataset)));
        assert!(tiny.path().join(format!("{via}.boot.img")).exists());
    }
    let [process, vm] = <[_; 2]>::try_from(views).unwrap();
    for (process, vm) in process.iter().zip(&vm) {
        assert!(process.0.len() > 10, "{}", process.0.len());
        assert_same("the helper VM", process, vm, &[Aspect::Bytes]);
    }
    // A machine that misses a part says which.
    let out = tiny.path().join("lacking.root.img");
    let mut command = tiny.nixos(&system, "zfs", &out);
    command.args(["--via", "vm", "--vm-accel", "tcg", "--vm-modules", "/nonexistent"]).args(DATASETS);
    let said = run(command.args(["--boot-size", "40MiB", "--boot-loader", "none"]));
    assert_eq!(said.code, 1, "{}", said.error());
    for word in ["modules of a kernel, zfs among them", "--vm-modules", "zfs-dkms of Debian"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    assert!(!out.exists() && !tiny.path().join("lacking.boot.img").exists());
}

/// An initrd of a system whose root is in the pool: it shows the configuration and the system profile.
const INITRD: &str = r"
zpool import -d /dev tank
mount -t zfs tank/system/root /mnt; mount -t zfs tank/local/nix /mnt/nix
cat /mnt/etc/nixos/configuration.nix; ls -l /mnt/nix/var/nix/profiles
zpool status tank
umount /mnt/nix; umount /mnt; zpool export tank; echo 'root: read'
";

/// Firmware of both kinds starts a kernel from the boot partition, and OpenZFS finds the root in the pool.
#[test]
fn a_root_on_zfs_boots_by_both_kinds_of_firmware() {
    let initrd = Guest::new().zfs().initrd(INITRD);
    for layout in ["zfs", "zfs-single"] {
        let mut tiny = Tiny::new();
        tiny.boots(&judges::kernel().0, &initrd);
        let system = tiny.system_with("26.05", |place| {
            let parameters = "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check";
            std::fs::write(place.join("kernel-params"), parameters).unwrap();
        });
        let root = tiny.path().join("nixos.root.img");
        let mut command = tiny.nixos(&system, layout, &root);
        command.args(["--boot-size", "128MiB", "--timeout", "0", "--grub", grub()]);
        command.args(["--grub-mkimage", grub_mkimage()]);
        command.args(["--datasets", "name=tank/system/root,mount=/"]);
        must(command.args(["--datasets", "name=tank/local/nix,mount=/nix,compression=zstd-3"]));
        let guest = || match layout {
            "zfs" => Guest::new().disk(&tiny.path().join("nixos.boot.img")).disk(&root),
            _ => Guest::new().disk(&root),
        };
        for console in [guest().boot_by_bios(), guest().boot_by_firmware()] {
            for line in [
                "device = \"tank/system/root\"",
                "system-1-link -> /nix/store/",
                "errors: No known data errors",
                "root: read",
            ] {
                assert!(console.contains(line), "{layout}: no `{line}` in\n{console}");
            }
        }
    }
}

/// Nix builds the images in its sandbox, as a build user without /dev/kvm, twice the same.
#[test]
fn the_functions_build_in_the_sandbox_twice_the_same() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    let esp = "type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";
    let bios = "start= 2048, size= 2048, type=21686148-6449-6E6F-744E-656564454649, name=\"no-fs\"";
    for (attribute, disk, partitions, boot) in [
        ("zfsMulti", "root", vec![format!("start= 4096, size= 256000, {esp}, name=\"ESP\"")], Some("boot")),
        (
            "zfsSingle",
            "root",
            vec![
                format!("start= 4096, size= 258048, {esp}, name=\"primary\""),
                format!("start= 262144, size= 1308672, {esp}, name=\"primary\""),
            ],
            None,
        ),
    ] {
        let text = [("layout", "efi"), ("format", "raw")];
        let image = build(attribute, "", &paths, &text);
        assert_eq!(build(attribute, "--check", &paths, &text), image);
        let out = host(image.to_str().unwrap());
        let after = std::fs::read_to_string(out.join("after")).unwrap();
        assert!(after.trim_end().ends_with(&format!("{}/nixos.root.img", image.display())), "{after}");
        let copy = |name: &str| {
            let file = folder.path().join(format!("{attribute}-{name}.img"));
            must(command("cp").arg("--sparse=always").arg(out.join(format!("nixos.{name}.img"))).arg(&file));
            must(command("chmod").arg("u+w").arg(&file));
            file
        };
        let root = copy(disk);
        let boots = boot.map_or_else(|| root.clone(), copy);
        for disk in [&root, &boots] {
            table::assert_clean(disk);
        }
        let dump = must(command("sfdisk").arg("--dump").arg(&boots)).text();
        let squeezed = dump.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in partitions.iter().map(String::as_str).chain([bios]) {
            // GUIDs derive from the seed.
            let parts: Vec<&str> = line.split(", ").collect();
            assert!(parts.iter().all(|part| squeezed.contains(part)), "{line}\n{squeezed}");
        }
        let found = table::partitions(&boots);
        let filesystem = folder.path().join("esp.img");
        table::extract(&boots, found[1], &filesystem);
        fat::assert_clean(&filesystem);
        assert!(fat::view(&filesystem).keys().any(|name| name.ends_with("grub.cfg")));
        // The pool is in the first partition of its own disk, or in the third.
        let pool = folder.path().join(attribute);
        std::fs::create_dir(&pool).unwrap();
        let pool = pool.join("image");
        let found = table::partitions(&root);
        table::extract(&root, found[if boot.is_some() { 0 } else { 2 }], &pool);
        assert_clean(&pool, "tank");
        let system = view(&pool, &["system", "root"]);
        for (path, size) in
            [("etc/motd", Some(9)), ("etc/nixos/configuration.nix", None), ("home", None), ("nix", None)]
        {
            let entry = &system.0.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path}"));
            assert!(size.is_none_or(|size| size == entry.size), "{path}");
        }
        assert!(!system.0.contains_key(b"nix/store".as_slice()), "the store is in a dataset of its own");
        assert_eq!(names(&pool, &["local", "nix"]), BTreeSet::from(["store".to_owned(), "var".to_owned()]));
        assert_eq!(names(&pool, &["user", "home"]), BTreeSet::new());
    }
    must(nix("nix-store").arg("--gc"));
}
