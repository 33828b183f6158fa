//! What boots, with the root hash of the same disk, from one run: unified kernel images, loader entries, texts.

use std::path::Path;

use crate::run::{Folder, SEED, rows};
use crate::support::fat;
use crate::support::guest::Guest;
use crate::support::judges::{self, kernel};
use crate::support::table;
use crate::support::tools::{command, must};

/// The toplevel of the system.
const TOP: &str = "/nix/store/00000000000000000000000000000000-nixos-system-test-1";

/// What the initrd does, with the tools that a distribution's has.
const SCRIPT: &str = r"
hash=$(sed 's/.*usrhash=\([0-9a-f]*\).*/\1/' /proc/cmdline)
echo usrhash $hash
mkdir -p /dev/mapper
export DM_DISABLE_UDEV=1
if ! veritysetup open /dev/vda3 usr /dev/vda2 $hash; then echo not opened; exit 0; fi
echo opened $(veritysetup status usr | grep -c verified)
if ! mount -t erofs -o ro /dev/mapper/usr /mnt; then echo not mounted; exit 0; fi
echo release $(cat /mnt/nix/store/*-nixos-system-test-1/etc/os-release)
echo told $(sed 's/.*init=\([^ ]*\).*/\1/' /proc/cmdline)
";

const STORE: &str = "[Partition]\nType=usr\nFormat=erofs\nCompression=lz4\nMinimize=best\nVerity=data\nVerityMatchKey=store\n\
                     CopyFiles=/nix/store\n";
const HASHES: &str = "[Partition]\nType=usr-verity\nMinimize=best\nVerity=hash\nVerityMatchKey=store\n";

/// A folder with a system in it, and the definitions of the store and its hashes; `esp` is what is in the section of the ESP.
fn folder(initrd: &[u8], esp: &str) -> Folder {
    let esp = format!("[Partition]\nType=esp\nFormat=vfat\n[X-Diskwright]\n{esp}");
    let folder = Folder::new(&[
        ("repart.d/00-esp.conf", &esp),
        ("repart.d/10-store-verity.conf", HASHES),
        ("repart.d/20-store.conf", STORE),
        ("about", "usrhash={roothash:store}, and {roothash} as it is\n"),
    ]);
    let top = |name: &str| folder.path(&format!("{}/{name}", TOP.trim_start_matches('/')));
    for (name, text) in [
        ("init", "#!/bin/sh\n"),
        ("kernel-params", "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check"),
        ("nixos-version", "1"),
        ("system", "x86_64-linux"),
        ("etc/os-release", "ID=appliance\n"),
    ] {
        folder.write(&format!("{}/{name}", TOP.trim_start_matches('/')), text);
    }
    std::fs::write(top("initrd"), initrd).unwrap();
    std::fs::copy(kernel().0, top("kernel")).unwrap();
    let efi = top("systemd/lib/systemd/boot/efi");
    std::fs::create_dir_all(&efi).unwrap();
    for name in ["linuxx64.efi.stub", "systemd-bootx64.efi"] {
        std::fs::copy(judges::file(&format!("/usr/lib/systemd/boot/efi/{name}")), efi.join(name)).unwrap();
    }
    folder
}

/// The image of it, and the root hash that the JSON has.
fn create(folder: &Folder) -> String {
    let said = folder.create(&["--root=.", "--architecture=x86-64", "--json=short"]);
    let rows = rows(&said);
    let hashes: Vec<_> = rows.iter().map(|row| row["roothash"].as_str()).collect();
    assert!(hashes[0].is_none() && hashes[1].is_some() && hashes[1] == hashes[2], "{hashes:?}");
    hashes[1].unwrap().to_owned()
}

/// The ESP as a file of its own, on which fsck.fat has nothing to remark.
fn esp(folder: &Folder) -> std::path::PathBuf {
    let (disk, esp) = (folder.path("image.raw"), folder.path("esp.img"));
    table::extract(&disk, table::partitions(&disk)[0], &esp);
    fat::assert_clean(&esp);
    esp
}

fn file(esp: &Path, name: &str) -> String {
    must(command("mtype").arg("-i").arg(esp).arg(format!("::{name}"))).text()
}

/// nixpkgs builds such an image twice, and assembles the kernel image in between.
#[test]
fn firmware_boots_a_verified_store_from_one_run() {
    let guest = Guest::new().program("veritysetup").module("dm-verity").module("erofs");
    let section = format!(
        "NixSystem={TOP}\nUkiTarget=/EFI/BOOT/BOOTX64.EFI\nCommandLine=usrhash={{roothash:store}}\n\
         Template=/about:/about.txt\n"
    );
    let folder = folder(&guest.initrd(SCRIPT), &section);
    let root = create(&folder);
    let text = file(&esp(&folder), "about.txt");
    assert_eq!(text, format!("usrhash={root}, and {{roothash}} as it is\n"));
    let console = Guest::new().disk(&folder.path("image.raw")).boot_by_firmware();
    for line in [
        &format!("usrhash {root}"),
        "opened 1",
        "release ID=appliance",
        &format!("told {TOP}/init"),
        "guest: done",
    ] {
        assert!(console.contains(line), "no `{line}` in\n{console}");
    }
    // The same again, and the same where the ESP is as small as what is in it.
    let first = std::fs::read(folder.path("image.raw")).unwrap();
    assert_eq!(create(&folder), root);
    assert!(std::fs::read(folder.path("image.raw")).unwrap() == first);
    let own = std::fs::read_to_string(folder.path("repart.d/00-esp.conf")).unwrap();
    folder.write("repart.d/00-esp.conf", &own.replace("Format=vfat", "Format=vfat\nMinimize=best"));
    assert_eq!(create(&folder), root);
    assert_eq!(file(&esp(&folder), "about.txt"), text);
}

#[test]
fn systemd_boot_starts_a_system_whose_entry_has_the_root_hash() {
    let section =
        format!("NixSystem={TOP}\nBootLoader=systemd-boot\nCommandLine=usrhash={{roothash:store}}\n");
    let folder = folder(b"initrd", &section);
    let root = create(&folder);
    let esp = esp(&folder);
    let entries = fat::view(&esp);
    let name = entries.keys().find(|name| name.ends_with(".conf") && name.contains("entries/")).unwrap();
    let entry = file(&esp, name);
    assert!(
        entry.contains(&format!("init={TOP}/init ")) && entry.contains(&format!("usrhash={root}\n")),
        "{entry}"
    );
    assert!(entries.keys().any(|name| name.ends_with("EFI/BOOT/BOOTX64.EFI")), "{:?}", entries.keys());
}

#[test]
fn what_cannot_boot_is_refused_with_its_line() {
    let system = format!("NixSystem={TOP}\n");
    for (section, expected) in [
        (
            format!("{system}UkiTarget=/a.efi\nCommandLine=usrhash={{roothash:other}}\n"),
            "the root hash of other is not known",
        ),
        ("BootLoader=systemd-boot\n".to_owned(), "there is no system that systemd-boot could start"),
        ("UkiTarget=/a.efi\n".to_owned(), "the unified kernel image has no UkiStub="),
        (
            "NixSystem=/nix/store/11111111111111111111111111111111-x\nUkiTarget=/a.efi\n".to_owned(),
            "NixSystem",
        ),
        ("Template=/missing:/x\n".to_owned(), "cannot read the text"),
        ("Template=missing\n".to_owned(), "Template= has no such value"),
        ("UkiTarget=a.efi\n".to_owned(), "UkiTarget= has no such value"),
        ("BootLoader=grub\n".to_owned(), "BootLoader= has no such value"),
        ("UkiKernal=/a\n".to_owned(), "did you mean UkiKernel?"),
    ] {
        let folder = folder(b"initrd", &section);
        let arguments = ["--empty=create", "--size=auto", "--definitions=repart.d", SEED, "--root=."];
        let said = folder.repart(&[arguments.as_slice(), &["--architecture=x86-64", "image.raw"]].concat());
        let error = said.error();
        assert!(
            said.code != 0 && error.contains(expected) && error.contains("00-esp.conf:"),
            "{section}{error}"
        );
        assert!(!folder.path("image.raw").exists());
    }
}
