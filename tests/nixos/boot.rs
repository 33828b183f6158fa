//! Every layout boots by a BIOS, by UEFI firmware, or both, until the init of the system prints its name. The
//! root grows into a larger disk, and another entry of the menu starts another system.

use std::path::Path;

use crate::closure::{bare, host, nixos, registration, small, systems};
use crate::support::guest::Guest;
use crate::support::tools::{command, must, scratch};

/// How a machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Bios,
    Firmware,
}

/// Images `layout`, makes the disk larger, boots it in each way, and judges it afterwards.
fn boots(layout: &str, ways: &[Start], more: &[&str], name: &str) -> String {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    let disk = folder.path().join("disk.img");
    must(nixos(&closure, layout, &disk).args(small(layout)).args(["--timeout", "1"]).args(more));
    judge(&disk, folder.path());
    must(command("truncate").args(["-s", "+512M"]).arg(&disk));
    let mut all = String::new();
    for way in ways {
        let guest = Guest::new().disk(&disk);
        let console = match way {
            Start::Bios => guest.boot_by_bios(),
            Start::Firmware => guest.boot_by_firmware(),
        };
        for line in [
            "init: label nixos uuid f222513b-ded1-49fa-b591-20ce86a2fe7f".to_owned(),
            "init: profile system-2-link".to_owned(),
            "init: owner 0:30000 mode 1775 of /nix/store".to_owned(),
            "init: owner 0:0 mode 1777 of /tmp".to_owned(),
            "init: owner 0:0 mode 555 time 1 of /nix/store/".to_owned(),
            "init: writable".to_owned(),
            format!("init: end of {name}"),
        ] {
            assert!(console.contains(&line), "{layout} by {way:?}: no `{line}` in\n{console}");
        }
        all.push_str(&console);
    }
    // In the second boot there is nothing left to grow into.
    let (before, after) = all
        .split_once("init: grown from ")
        .and_then(|(_, rest)| rest.split_once(" to "))
        .and_then(|(before, rest)| Some((before, rest.split_once(' ')?.0)))
        .unwrap();
    let (before, after): (u64, u64) = (before.parse().unwrap(), after.parse().unwrap());
    // 512 MiB are 131,072 blocks, and metadata takes a few of them.
    assert!(after > before + 120_000, "{layout}: {before} to {after}");
    // The system moved the backup of a GPT to the new end.
    judge(&disk, folder.path());
    all
}

/// The table and the filesystems, which are cut out of the disk, go to their judges.
fn judge(disk: &Path, folder: &Path) {
    crate::support::table::assert_clean(disk);
    for (number, partition) in (0..).zip(crate::support::table::partitions(disk)) {
        let file = folder.join(format!("partition-{number}"));
        crate::support::table::extract(disk, partition, &file);
        let kind =
            crate::support::tools::run(command("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&file))
                .text();
        match kind.trim() {
            "ext4" => crate::support::ext4::assert_clean(&file),
            "vfat" => crate::support::fat::assert_clean(&file),
            // What GRUB runs from.
            "" => {}
            other => panic!("partition {number} holds {other}"),
        }
        std::fs::remove_file(file).unwrap();
    }
}

fn main_system() -> String {
    format!("init: from {}", systems().system)
}

#[test]
fn legacy_boots_by_bios() {
    assert!(boots("legacy", &[Start::Bios], &[], "main").contains(&main_system()));
}

#[test]
fn legacy_boot_boots_by_bios() {
    assert!(boots("legacy+boot", &[Start::Bios], &[], "main").contains(&main_system()));
}

#[test]
fn legacy_gpt_boots_by_bios() {
    assert!(boots("legacy+gpt", &[Start::Bios], &[], "main").contains(&main_system()));
}

#[test]
fn efi_boots_by_firmware() {
    assert!(boots("efi", &[Start::Firmware], &[], "main").contains(&main_system()));
}

#[test]
fn efi_boots_grub_by_firmware() {
    let grub = [
        "--boot-loader",
        "grub",
        "--grub",
        crate::closure::grub(),
        "--grub-mkimage",
        crate::closure::grub_mkimage(),
    ];
    assert!(boots("efi", &[Start::Firmware], &grub, "main").contains(&main_system()));
}

#[test]
fn efixbootldr_boots_by_firmware() {
    assert!(
        boots("efixbootldr", &[Start::Firmware], &["--entry-names", "generation"], "main")
            .contains(&main_system())
    );
}

#[test]
fn hybrid_boots_both_ways() {
    let said = boots(
        "hybrid",
        &[Start::Bios, Start::Firmware],
        &["--compat", "false", "--root-uuid", "f222513b-ded1-49fa-b591-20ce86a2fe7f"],
        "main",
    );
    assert_eq!(said.matches(&main_system()).count(), 2, "{said}");
}

/// Without a loader, the firmware starts a unified kernel image itself; its command line says which system.
#[test]
fn a_unified_kernel_image_boots_by_firmware() {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    let file = |name: &str| {
        let link = std::fs::read_link(host(&systems.system).join(name)).unwrap();
        host(link.to_str().unwrap())
    };
    let parameters = std::fs::read_to_string(host(&systems.system).join("kernel-params")).unwrap();
    let line = format!("init={}/init {parameters}", systems.system);
    let image = crate::loaders::unified(folder.path(), &line, &file("kernel"), &file("initrd"));
    let disk = folder.path().join("disk.img");
    let mut build = nixos(&closure, "efi", &disk);
    must(build.args(small("efi")).args(["--boot-loader", "none", "--uki"]).arg(&image));
    judge(&disk, folder.path());
    let said = Guest::new().disk(&disk).boot_by_firmware();
    assert!(said.contains(&main_system()) && said.contains("init: end of main"), "{said}");
}

/// A machine with a GRUB of its own reads the menu of a bare filesystem, as machines of Linode do.
#[test]
fn a_grub_from_elsewhere_boots_a_bare_filesystem() {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    let (disk, esp) = (folder.path().join("disk.img"), folder.path().join("esp.img"));
    let mut build = bare(&closure, "none", &disk);
    must(build.args(small("none")).args(["--boot-loader", "grub", "--timeout", "1"]));
    crate::support::ext4::assert_clean(&disk);
    let config = folder.path().join("grub.cfg");
    std::fs::write(&config, "search --set=root --label nixos\nconfigfile /boot/grub/grub.cfg\n").unwrap();
    let loader = folder.path().join("esp/EFI/BOOT");
    std::fs::create_dir_all(&loader).unwrap();
    let mut standalone = command("grub-mkstandalone");
    standalone.args(["-O", "x86_64-efi", "-o"]).arg(loader.join("BOOTX64.EFI"));
    must(standalone.arg(format!("boot/grub/grub.cfg={}", config.display())));
    let mut volume = crate::support::program::diskwright();
    must(volume.args(["mkfs", "vfat"]).arg(folder.path().join("esp")).arg("-o").arg(&esp));
    let said = Guest::new().disk(&esp).disk(&disk).boot_by_firmware();
    assert!(said.contains(&main_system()) && said.contains("init: end of main"), "{said}");
}

/// Boots a disk of `layout` by `way`, types `keys` at the menu once `cue` is seen, and returns the output.
fn choose(layout: &str, way: Start, cue: &'static str, keys: &'static [u8]) -> String {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    let disk = folder.path().join("disk.img");
    must(nixos(&closure, layout, &disk).args(small(layout)).args(["--timeout", "forever"]));
    let guest = Guest::new().disk(&disk).types(cue, keys);
    match way {
        Start::Bios => guest.boot_by_bios(),
        Start::Firmware => guest.boot_by_firmware(),
    }
}

/// The next entry and start, for systemd-boot; its arrows would be three bytes.
const NEXT_IN_SYSTEMD_BOOT: &[u8] = b"j\r";
/// The same for GRUB: the key Ctrl-N.
const NEXT_IN_GRUB: &[u8] = b"\x0e\r";

#[test]
fn another_generation_boots_from_the_menu_of_systemd_boot() {
    let said = choose("efi", Start::Firmware, "Reboot Into Firmware Interface", NEXT_IN_SYSTEMD_BOOT);
    assert!(said.contains(&format!("init: from {}", systems().earlier)), "{said}");
    assert!(said.contains("init: end of earlier"), "{said}");
}

#[test]
fn a_specialisation_boots_from_the_menu_of_grub() {
    // The last entry that GRUB draws: keys before that are lost where the guest is slow.
    let said = choose("legacy", Start::Bios, "All configurations", NEXT_IN_GRUB);
    assert!(said.contains("init: end of special"), "{said}");
}

/// U-Boot finds extlinux.conf on each kind of filesystem with /boot, shows its menu, and starts the chosen
/// kernel with its command line. It gives no initrd to an x86 kernel, so the kernel stops there.
#[test]
fn extlinux_is_read_by_u_boot() {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    let disk = folder.path().join("disk.img");
    for (layout, folder, clean) in [
        ("legacy", "/boot/", "true"),
        ("legacy+boot", "/", "true"),
        ("efi", "/", "true"),
        // U-Boot must be told the partition of these layouts, because nixpkgs' layouts do not mark it.
        ("legacy+gpt", "/boot/", "false"),
        ("efixbootldr", "/", "false"),
    ] {
        let mut build = bare(&closure, layout, &disk);
        build.args(small(layout)).args([
            "--boot-loader",
            "extlinux",
            "--timeout",
            "forever",
            "--compat",
            clean,
        ]);
        must(&mut build);
        crate::support::table::assert_clean(&disk);
        // The entries are 1, default, 2, the newest generation, 3, the one before.
        let said = Guest::new().disk(&disk).types("Enter choice: ", b"3\r").boot_by_u_boot();
        for line in [
            format!("Found {folder}extlinux/extlinux.conf\n"),
            "1:\tNixOS - Default\n2:\tNixOS - Configuration 2 ".to_owned(),
            format!("Retrieving file: {folder}extlinux/../nixos/"),
            format!("append: init={}/init root=LABEL=nixos ", systems.earlier),
            "Starting kernel ...".to_owned(),
            "Kernel panic - not syncing: VFS".to_owned(),
        ] {
            assert!(said.contains(&line), "{layout}: no `{line}` in\n{said}");
        }
    }
}
