//! Images that Nix itself builds: nix/make-disk-image.nix in the sandbox, as a build user without /dev/kvm, twice.

use std::path::Path;

use crate::closure::{build, host, nix};
use crate::support::guest::Guest;
use crate::support::nix::program;
use crate::support::table::{extract, partitions};
use crate::support::tools::{command, must, run, scratch};

#[test]
fn the_function_builds_in_the_sandbox_twice_the_same_and_boots() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    for (layout, format, suffix, expected) in [
        ("efi", "qcow2-compressed", "qcow2", "qcow2"),
        ("legacy", "raw", "img", "raw"),
        ("hybrid", "vpc", "vhd", "vpc"),
    ] {
        let text = [("layout", layout), ("format", format)];
        let image = build("image", "", &paths, &text);
        let again = build_again(&paths, &text);
        assert_eq!(again, image);
        let out = host(image.to_str().unwrap());
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let image = image.to_str().unwrap();
        // As a build user, without /dev/kvm; what ran afterwards had the image and the output.
        let after = read("after");
        let rest = after.strip_prefix(&format!("after {image}/nixos.{suffix}\nuser ")).unwrap_or_default();
        let (user, rest) = rest.split_once('\n').unwrap_or_default();
        assert!(user.parse::<u32>().is_ok_and(|user| user != 0), "{after}");
        // 52 thousandths; a multiple gets another unit.
        assert_eq!(rest, "sums 1048576 52 12 6\ndata at 2048 is clean\n", "{after}");
        let product = format!("file {expected}-image {image}/nixos.{suffix}\n");
        assert_eq!(read("nix-support/hydra-build-products"), product);

        let disk = folder.path().join(format!("nixos.{suffix}"));
        must(command("cp").arg("--sparse=always").arg(out.join(format!("nixos.{suffix}"))).arg(&disk));
        must(command("chmod").arg("u+w").arg(&disk));
        let guest = Guest::new().disk_as(&disk, expected);
        let console = if layout == "efi" { guest.boot_by_firmware() } else { guest.boot_by_bios() };
        for line in ["init: from /nix/store/", "init: /etc/motd Welcome.", "init: end of main"] {
            assert!(console.contains(line), "no `{line}` in\n{console}");
        }
    }
    must(nix("nix-store").arg("--gc"));
}

/// nix/repart-image.nix: a disk as nixpkgs' image.repart describes it, with a root that Nix knows.
#[test]
fn the_function_of_repart_builds_in_the_sandbox_twice_the_same_and_boots() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    let image = build("repart", "", &paths, &[]);
    assert_eq!(build("repart", "--check", &paths, &[]), image);
    let out = host(image.to_str().unwrap());
    let rows: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("repart-output.json")).unwrap()).unwrap();
    // The ids are those of systemd-repart with the seed of nixpkgs.
    let told: Vec<_> =
        ["type", "label", "uuid", "split_path"].iter().map(|key| rows[1][*key].clone()).collect();
    let root = ["root-x86-64", "nixos", "57bd1ad1-c688-450a-ba37-d1792ec72fbb", "appliance_1.root.raw"];
    assert_eq!(told, root);
    assert_eq!(rows[0]["raw_size"], 100 << 20);
    let disk = folder.path().join("disk.raw");
    must(command("cp").arg("--sparse=always").arg(out.join("appliance_1.raw")).arg(&disk));
    must(command("chmod").arg("u+w").arg(&disk));
    let said = run(command("e2fsck").arg("-fn").arg(out.join("appliance_1.root.raw")));
    assert_eq!(said.code, 0, "{}", said.text());
    // Nix finds what it is to know.
    let request = "stat /nix/var/nix/db/db.sqlite";
    let said = must(command("debugfs").args(["-R", request]).arg(out.join("appliance_1.root.raw")));
    assert!(said.text().contains("Type: regular"), "{}", said.text());
    let console = Guest::new().disk_as(&disk, "raw").boot_by_firmware();
    for line in [
        "init: from /nix/store/",
        "init: profile system-1-link",
        "init: /etc/motd Welcome.",
        "init: end of main",
    ] {
        assert!(console.contains(line), "no `{line}` in\n{console}");
    }
    must(nix("nix-store").arg("--gc"));
}

/// A store that the kernel verifies, as nixpkgs' verityStore has it: one run, and the kernel image knows the root hash.
#[test]
fn the_function_of_repart_verifies_a_store() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    let image = build("repartVerity", "", &paths, &[]);
    assert_eq!(build("repartVerity", "--check", &paths, &[]), image);
    let out = host(image.to_str().unwrap());
    let rows: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("repart-output.json")).unwrap()).unwrap();
    let told: Vec<_> = (0..3).map(|row| (rows[row]["type"].clone(), rows[row]["label"].clone())).collect();
    let expected = [("esp", "esp"), ("usr-x86-64-verity", "store-verity"), ("usr-x86-64", "store")];
    assert_eq!(told, expected.map(|(kind, label)| (kind.into(), label.into())));
    let root = rows[2]["roothash"].as_str().unwrap();
    let disk = out.join("verified.raw");
    let parts: Vec<_> = partitions(&disk)
        .into_iter()
        .zip(["esp", "hash", "data"])
        .map(|(extent, name)| {
            let file = folder.path().join(name);
            extract(&disk, extent, &file);
            file
        })
        .collect();
    must(command("veritysetup").arg("verify").args([&parts[2], &parts[1]]).arg(root));
    let uki = folder.path().join("uki");
    must(command("mcopy").arg("-i").arg(&parts[0]).arg("::/EFI/BOOT/BOOTX64.EFI").arg(&uki));
    let line = folder.path().join("line");
    let mut dump = command("objcopy");
    dump.args(["-O", "binary", "--dump-section"]).arg(format!(".cmdline={}", line.display()));
    must(dump.arg(&uki).arg(folder.path().join("copy")));
    let line = std::fs::read_to_string(line).unwrap();
    assert!(line.starts_with("init=/nix/store/") && line.ends_with(&format!(" usrhash={root}")), "{line}");
    must(command("fsck.erofs").arg(&parts[2]));
    must(nix("nix-store").arg("--gc"));
}

/// The package of the program, with a cargo that has built it before.
#[test]
fn the_package_installs_what_the_program_says_of_itself() {
    let folder = scratch();
    let place = folder.path().join("program");
    program(&place);
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix");
    let paths: [(&str, &Path); 2] = [("program", &place), ("function", &function)];
    for (can, there) in [("yes", true), ("no", false)] {
        // A link keeps it where another test takes away what nobody needs.
        let built = build("package", &format!("package-{can}"), &paths, &[("canExecute", can)]);
        let out = host(built.to_str().unwrap());
        for file in [
            "share/bash-completion/completions/diskwright.bash",
            "share/fish/vendor_completions.d/diskwright.fish",
            "share/zsh/site-functions/_diskwright",
            "share/man/man1/diskwright.1",
            "share/man/man1/diskwright-nixos.1",
        ] {
            assert_eq!(out.join(file).is_file(), there, "{file}");
        }
        assert!(out.join("source/src/main.rs").is_file() && !out.join("source/docs").exists());
        if can == "no" {
            continue;
        }
        // The source of the build is all that cargo needs, and no part of it can be left out.
        let source = folder.path().join("source");
        must(command("cp").arg("-r").arg(out.join("source")).arg(&source));
        must(command("chmod").arg("-R").arg("u+w").arg(&source));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let mut cargo = command("cargo");
        cargo.args(["check", "--offline", "--locked", "--bins", "-j", "2"]).env("CARGO_TARGET_DIR", &target);
        must(cargo.current_dir(&source));
        std::fs::remove_file(source.join("src/lib.rs")).unwrap();
        assert_ne!(run(&mut cargo).code, 0);
    }
}

/// Nix builds it again and compares.
fn build_again(paths: &[(&str, &Path)], text: &[(&str, &str)]) -> std::path::PathBuf {
    build("image", "--check", paths, text)
}
