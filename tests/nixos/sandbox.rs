//! Images that Nix itself builds: nix/make-disk-image.nix in the sandbox, as a build user without /dev/kvm, twice.

use std::path::Path;

use crate::closure::{build, host, nix};
use crate::support::guest::Guest;
use crate::support::nix::program;
use crate::support::tools::{command, must, scratch};

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
        let user = after.strip_prefix(&format!("after {image}/nixos.{suffix}\nuser ")).unwrap_or_default();
        assert!(user.trim_end().parse::<u32>().is_ok_and(|user| user != 0), "{after}");
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

/// The same once more: Nix builds it anew and compares.
fn build_again(paths: &[(&str, &Path)], text: &[(&str, &str)]) -> std::path::PathBuf {
    build("image", "--check", paths, text)
}
