//! Bad input: one clear error, the right exit code, and nothing left behind.

use std::path::Path;

use crate::closure::{nixos, registration, store_root, systems};
use crate::support::program::diskwright;
use crate::support::tools::{names_in, run, scratch};

/// Runs a build of the main system with `more` flags; it has to fail with `code`, saying all of `words`.
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
    refused("none", &["--boot-loader", "grub"], 2, &["layout none has no place for grub"]);
    refused(
        "legacy",
        &["--boot-size", "64MiB"],
        2,
        &["`boot_size` means nothing with a layout without boot partition"],
    );
    refused("none", &["--disk-size", "1GiB", "--additional-space", "1MiB"], 2, &["additional_space"]);
    refused("efi", &["--boot-size", "4MiB"], 2, &["boot_size leaves no room"]);
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

    // A hash that is not that of the path: found by reading back what was written, before it gets its name.
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
    assert!(said.error().contains("does not exist") && said.error().contains("-missing"), "{}", said.error());
}
