//! Bad input: one clear error, the right exit code, and nothing left behind.

use std::path::Path;

use crate::closure::{nixos, registration, store_root, systems};
use crate::support::program::diskwright;
use crate::support::tools::{must, names_in, run, scratch};
use crate::tiny::Tiny;

/// Builds the main system with `more` flags. The build must fail with `code` and a message with all of
/// `words`.
fn refused(folder: &Path, closure: &Path, layout: &str, more: &[&str], code: i32, words: &[&str]) {
    let out = folder.join("out").join("disk.img");
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    let said = run(nixos(closure, layout, &out).args(more));
    assert_eq!(said.code, code, "{layout} {more:?}: {}", said.error());
    for word in words {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    assert_eq!(said.error().matches("diskwright: error").count(), 1, "{}", said.error());
    assert!(names_in(out.parent().unwrap()).is_empty());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let systems = systems();
    let folder = scratch();
    let folder = folder.path();
    let closure = registration(folder, &[&systems.system, &systems.earlier]);
    let refused = |layout: &str, more: &[&str], code: i32, words: &[&str]| {
        refused(folder, &closure, layout, more, code, words);
    };
    refused(
        "legacy",
        &["--boot-loader", "systemd-boot"],
        2,
        &["layout legacy has no place for systemd-boot", "efi"],
    );
    refused(
        "legacy",
        &["--boot-size", "64MiB"],
        2,
        &["--boot-size means nothing with a layout without boot partition"],
    );
    refused(
        "none",
        &["--disk-size", "1GiB", "--additional-space", "1MiB"],
        2,
        &["--additional-space means nothing"],
    );
    refused("efi", &["--boot-size", "4MiB"], 2, &["there is no space for the boot partition"]);
    refused("none", &["--channel", &systems.channel], 2, &["is not in the closure", &systems.channel]);
    refused("none", &["--only-nix-store"], 2, &["generations"]);
    // The kernel and the initrd are some 20 MiB.
    refused("efi", &["--boot-size", "16MiB"], 1, &["do not fit", ".efi"]);
    refused("none", &["--disk-size", "64MiB"], 1, &["fit", "bzImage"]);
    refused(
        "efi",
        &["--boot-loader", "grub", "--grub", "/nonexistent/grub"],
        1,
        &["GRUB", "grub-efi-amd64-bin"],
    );
    refused("none", &["--contents", "source=/etc/hostname,target=/nix/store/x"], 2, &["overlap the store"]);
    refused(
        "none",
        &["--contents", "source=/etc/hostname,target=/etc/x,user=mallory,group=root"],
        2,
        &["knows no user `mallory`"],
    );
    refused(
        "none",
        &["--contents", "source=/etc/hostname,target=/etc/NIXOS"],
        2,
        &["two entries for one target"],
    );
}

#[test]
fn a_closure_that_lies_is_refused() {
    let systems = systems();
    let folder = scratch();
    let closure = registration(folder.path(), &[&systems.earlier]);
    let words = ["the system is not in the closure", &systems.system];
    refused(folder.path(), &closure, "none", &[], 2, &words);

    let text =
        std::fs::read_to_string(registration(folder.path(), &[&systems.system, &systems.earlier])).unwrap();
    let broken = folder.path().join("broken");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1] = "no hash";
    std::fs::write(&broken, lines.join("\n")).unwrap();
    refused(folder.path(), &broken, "none", &[], 2, &["broken:2: no hash"]);

    // A hash that does not belong to the path: it is found by reading the output back before it gets its
    // name.
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let digit = if lines[1].ends_with('0') { '1' } else { '0' };
    lines[1].pop();
    lines[1].push(digit);
    std::fs::write(&broken, format!("{}\n", lines.join("\n"))).unwrap();
    let changed = lines[0].clone();
    refused(folder.path(), &broken, "none", &["--verify-closure"], 1, &["is not what Nix says", &changed]);
    refused(
        folder.path(),
        &broken,
        "none",
        &["--verify-closure", "--format", "qcow2", "--compress", "zstd"],
        1,
        &[&changed],
    );

    let missing = text.replace(&systems.earlier, "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-missing");
    std::fs::write(&broken, missing).unwrap();
    let mut build = diskwright();
    build.args(["nixos", "--system", &systems.system, "--layout", "none", "--closure"]).arg(&broken);
    build.arg("--store-root").arg(store_root()).arg("-o").arg(folder.path().join("out/disk.img"));
    let said = run(&mut build);
    assert_eq!(said.code, 1, "{}", said.error());
    for word in ["a store path of the closure is missing on this host", "-missing\n", "at --closure\n"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
}

/// A store path that changed on the host after Nix registered it, in each way that its archive can show.
#[test]
fn a_store_path_that_was_changed_is_found() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("a byte", |place| std::fs::write(place.join("file"), "Bytes").unwrap()),
        ("a length", |place| std::fs::write(place.join("file"), "byte").unwrap()),
        ("a file more", |place| std::fs::write(place.join("more"), "").unwrap()),
        ("a name", |place| std::fs::rename(place.join("file"), place.join("life")).unwrap()),
        ("a target", |place| {
            std::fs::remove_file(place.join("link")).unwrap();
            symlink("elsewhere", place.join("link")).unwrap();
        }),
        ("a mode", |place| {
            std::fs::set_permissions(place.join("file"), std::fs::Permissions::from_mode(0o755)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut tiny = Tiny::new();
        let system = tiny.system("26.05");
        let path = tiny.object("changed", &[], |place| {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("file"), "bytes").unwrap();
            symlink("file", place.join("link")).unwrap();
        });
        let out = tiny.path().join("out.img");
        must(tiny.nixos(&system, "none", &out).arg("--verify-closure"));
        std::fs::remove_file(&out).unwrap();
        // The earlier registration.
        let mut build = tiny.nixos(&system, "none", &out);
        change(&tiny.host(&path));
        let said = run(build.arg("--verify-closure"));
        assert_eq!(said.code, 1, "{what}: {}", said.error());
        for word in ["a store path is not what Nix says it is", &*path, "expected: sha256:", "found: sha256:"]
        {
            assert!(said.error().contains(word), "{what}: no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists(), "{what}");
    }
}

#[test]
fn what_a_boot_partition_cannot_hold_is_named_by_its_largest_files() {
    let mut tiny = Tiny::new();
    let big = tiny.object("big", &[], |place| {
        std::fs::create_dir(place).unwrap();
        std::fs::File::create(place.join("initrd")).unwrap().set_len(40 << 20).unwrap();
    });
    let system = tiny.system_with("26.05", |place| {
        std::fs::remove_file(place.join("initrd")).unwrap();
        std::os::unix::fs::symlink(format!("{big}/initrd"), place.join("initrd")).unwrap();
    });
    let out = tiny.path().join("out.img");
    let loader = crate::closure::systemd_boot();
    let said = run(tiny.nixos(&system, "efi", &out).args(loader).args(["--boot-size", "32MiB"]));
    assert_eq!(said.code, 1, "{}", said.error());
    for word in [
        "at --boot-size\n  at the partition ESP\n",
        "-big-initrd.efi (40 MiB), /EFI/BOOT/BOOTX64.EFI (137.5 KiB), /EFI/systemd/systemd-bootx64.efi (137.5 KiB)",
    ] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    // Of the two partitions of efixbootldr, the error names the one with the kernels.
    let said = run(tiny.nixos(&system, "efixbootldr", &out).args(loader).args(["--boot-size", "120MiB"]));
    assert!(
        said.code == 1 && said.error().contains("at --boot-size\n  at the partition BOOT\n"),
        "{}",
        said.error()
    );
}

#[test]
fn grub_that_is_not_there_or_too_large_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("out.img");
    let refused = |layout: &str, more: &[&str], code: i32, words: &[&str]| {
        let said = run(tiny.nixos(&system, layout, &out).args(more));
        assert_eq!(said.code, code, "{layout} {more:?}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists());
    };
    refused("legacy", &[], 1, &["i386-pc", "grub-pc-bin", "nixpkgs' grub2", "by --grub:"]);
    refused("efi", &["--boot-loader", "grub"], 1, &["x86_64-efi", "grub-efi-amd64-bin", "grub2_efi"]);
    refused("efi", &[], 1, &["the system has no systemd-boot", "give the file by --systemd-boot;"]);
    let empty = tiny.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let mkimage = ["--grub-mkimage", crate::closure::grub_mkimage()];
    refused(
        "legacy",
        &["--grub", empty, mkimage[0], mkimage[1]],
        1,
        &["no files for the platform i386-pc", "grub-pc-bin", "moddep.lst"],
    );
    refused(
        "legacy",
        &["--grub", crate::closure::grub(), "--grub-mkimage", "/nonexistent/grub-mkimage"],
        1,
        &["grub-mkimage is not there", "grub-common"],
    );
    // A core image of 889 sectors; the block list at its byte 500 says so.
    let script = tiny.path().join("grub-mkimage");
    let text = "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\nhead -c 455168 /dev/zero > \"$2\"\n\
                printf '\\002\\000\\000\\000\\000\\000\\000\\000\\170\\003\\040\\010' | dd of=\"$2\" bs=1 seek=500 conv=notrunc 2>/dev/null\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for layout in ["legacy", "legacy+gpt"] {
        refused(
            layout,
            &["--grub", crate::closure::grub(), "--grub-mkimage", script.to_str().unwrap()],
            1,
            &["GRUB's core image is larger than the space for it", "889 sectors", "512 bytes too many"],
        );
    }
}
