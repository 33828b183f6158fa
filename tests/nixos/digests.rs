//! Pinned digests of systems of a few files: a change of bytes is a decision. GRUB's programs are not pinned,
//! because they are not ours.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::closure::LAYOUTS;
use crate::support::pinned::pinned;
use crate::support::tools::{digest, must};
use crate::tiny::Tiny;

/// The shortest EFI program for x86_64 in place of systemd-boot: a DOS header, a PE signature, a header of a COFF file.
fn loader(tiny: &Tiny) -> PathBuf {
    let mut bytes = b"MZ".to_vec();
    bytes.resize(0x40, 0);
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.resize(0x40 + 24, 0);
    let path = tiny.path().join("loader.efi");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn digests_of_systems() {
    let mut tiny = Tiny::new();
    let old = tiny.system("25.11");
    let gaming = tiny.system("26.05-gaming");
    let system = tiny.system_with("26.05", |place| {
        std::fs::create_dir(place.join("specialisation")).unwrap();
        symlink(&gaming, place.join("specialisation/gaming")).unwrap();
    });
    let loader = loader(&tiny);
    let loader = ["--boot-loader", "systemd-boot", "--systemd-boot", loader.to_str().unwrap()];
    let mut builds: Vec<(String, Vec<&str>)> = Vec::new();
    for layout in LAYOUTS {
        builds.push((format!("{layout} none"), vec!["--boot-loader", "none"]));
        builds.push((format!("{layout} clean"), vec!["--boot-loader", "none", "--compat", "false"]));
        builds.push((format!("{layout} extlinux"), vec!["--boot-loader", "extlinux"]));
    }
    for layout in ["efi", "efixbootldr", "hybrid"] {
        for names in ["hash", "generation"] {
            let more = [loader.as_slice(), &["--entry-names", names]].concat();
            builds.push((format!("{layout} systemd-boot by {names}"), more));
        }
    }
    let out = tiny.path().join("out.img");
    let mut found = String::new();
    for (name, more) in builds {
        let layout = name.split(' ').next().unwrap_or_default();
        let mut build = tiny.nixos(&system, layout, &out);
        build.args(["--generations", &old, "--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"]).args(more);
        must(&mut build);
        found.push_str(&format!("{} {name}\n", digest(&out)));
    }
    let mut build = tiny.nixos(&system, "none", &out);
    must(build.arg("--only-nix-store"));
    found.push_str(&format!("{} store\n", digest(&out)));
    pinned("nixos.txt", &found);
}
