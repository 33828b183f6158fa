//! Boot loaders find their files: every file that a menu names exists, with the right name and bytes, on the
//! filesystem of the layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::closure::{grub, grub_mkimage};
use crate::support::program::diskwright;
use crate::support::tools::{command, digest, must, run};
use crate::support::{fat, judges, table};
use crate::tiny::Tiny;

type Files = BTreeMap<String, Option<Vec<u8>>>;

/// The files of the FAT in partition `number`, from 0.
fn on_fat(disk: &Path, number: usize) -> Files {
    let part = disk.with_extension("part");
    table::extract(disk, table::partitions(disk)[number], &part);
    fat::assert_clean(&part);
    fat::view(&part)
}

/// The files of /boot of the root in partition `number`, or of the bare filesystem without a number.
fn on_root(disk: &Path, number: Option<usize>) -> Files {
    let part = match number {
        Some(number) => {
            let part = disk.with_extension("part");
            table::extract(disk, table::partitions(disk)[number], &part);
            part
        }
        None => disk.to_owned(),
    };
    let folder = crate::support::tools::scratch();
    must(command("debugfs").args(["-R", &format!("rdump /boot {}", folder.path().display())]).arg(&part));
    fat::files(&folder.path().join("boot"))
}

fn text(files: &Files, name: &str) -> String {
    let bytes = files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", files.keys()));
    String::from_utf8(bytes.clone().unwrap()).unwrap()
}

/// Two systems, the newer one with a variant, and their flags.
struct Machine {
    tiny: Tiny,
    old: String,
    new: String,
    gaming: String,
}

impl Machine {
    fn new() -> Self {
        let mut tiny = Tiny::new();
        let old = tiny.system("25.11");
        let gaming = tiny.system("26.05-gaming");
        let link = gaming.clone();
        let new = tiny.system_with("26.05", |place| {
            std::fs::create_dir(place.join("specialisation")).unwrap();
            std::os::unix::fs::symlink(link, place.join("specialisation/gaming")).unwrap();
        });
        Self { tiny, old, new, gaming }
    }

    /// Builds a disk of `layout`.
    fn disk(&self, layout: &str, more: &[&str]) -> PathBuf {
        let out = self.tiny.path().join("disk.img");
        let mut build = self.tiny.nixos(&self.new, layout, &out);
        must(build.args(["--generations", &self.old]).args(more));
        out
    }
}

#[test]
fn extlinux_finds_every_file_on_the_filesystem_of_boot() {
    let machine = Machine::new();
    for (layout, boot) in [
        ("none", None),
        ("legacy", None),
        ("legacy+gpt", None),
        ("legacy+boot", Some(0)),
        ("efi", Some(0)),
        ("hybrid", Some(0)),
        ("efixbootldr", Some(1)),
    ] {
        let extlinux = ["--boot-loader", "extlinux", "--timeout", "7"];
        let disk = machine.disk(layout, &[extlinux.as_slice(), &["--compat", "false"]].concat());
        if layout != "none" {
            table::assert_clean(&disk);
        }
        let disk = machine.disk(layout, &extlinux);
        let files = match (layout, boot) {
            (_, Some(number)) => on_fat(&disk, number),
            ("none", None) => on_root(&disk, None),
            ("legacy", None) => on_root(&disk, Some(0)),
            _ => on_root(&disk, Some(1)),
        };
        let conf = text(&files, "extlinux/extlinux.conf");
        assert!(conf.contains("\nDEFAULT nixos-default\n") && conf.contains("\nTIMEOUT 70\n"), "{conf}");
        let labels: Vec<_> = conf.lines().filter_map(|line| line.strip_prefix("LABEL ")).collect();
        assert_eq!(labels, ["nixos-default", "nixos-2", "nixos-1"], "{layout}");
        for (key, bytes) in [("  LINUX ../", "a kernel"), ("  INITRD ../", "an initrd")] {
            let named: Vec<_> = conf.lines().filter_map(|line| line.strip_prefix(key)).collect();
            assert!(
                named.len() == 3 && named.iter().all(|name| text(&files, name) == bytes),
                "{layout}: {conf}"
            );
        }
        let appended: Vec<_> = conf.lines().filter_map(|line| line.strip_prefix("  APPEND ")).collect();
        let line = |system: &str| format!("init={system}/init loglevel=4");
        assert_eq!(appended, [line(&machine.new), line(&machine.new), line(&machine.old)]);
    }
}

#[test]
fn systemd_boot_finds_every_file_under_both_ways_of_naming() {
    let machine = Machine::new();
    let [_, loader] = crate::closure::systemd_boot();
    for (names, timeout, line) in [
        ("hash", "3", "timeout 3\n"),
        ("generation", "forever", "timeout menu-force\n"),
        ("hash", "0", "timeout 0\n"),
    ] {
        for layout in ["efi", "efixbootldr"] {
            let mut more = vec!["--boot-loader", "systemd-boot", "--systemd-boot", loader];
            more.extend(["--entry-names", names, "--timeout", timeout]);
            let disk = machine.disk(layout, &more);
            let esp = on_fat(&disk, 0);
            for name in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"] {
                assert_eq!(esp[name].as_deref(), Some(std::fs::read(loader).unwrap().as_slice()));
            }
            let conf = text(&esp, "loader/loader.conf");
            assert!(conf.starts_with(line), "{conf}");
            let boot = if layout == "efi" { esp } else { split(&esp, on_fat(&disk, 1)) };
            entries(&machine, &boot, &conf, names);
        }
    }
}

/// The boot partition of efixbootldr; none of its files is also on the ESP.
fn split(esp: &Files, boot: Files) -> Files {
    for name in ["EFI/nixos", "EFI/Linux", "loader/entries", "loader/entries.srel"] {
        assert!(!esp.contains_key(name) && boot.contains_key(name), "{name}");
    }
    for name in ["EFI/BOOT", "EFI/systemd", "loader/loader.conf"] {
        assert!(esp.contains_key(name) && !boot.contains_key(name), "{name}");
    }
    boot
}

/// The three entries of the machine.
fn entries(machine: &Machine, boot: &Files, conf: &str, names: &str) {
    let all: Vec<&String> =
        boot.keys().filter(|name| name.ends_with(".conf") && name.contains("entries/")).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    let copies = boot.keys().filter(|name| name.starts_with("EFI/nixos/") && name.ends_with(".efi")).count();
    assert_eq!(copies, 2, "one kernel and one initrd for all");
    let mut inits = BTreeMap::new();
    for name in all {
        let text = text(boot, name);
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
        };
        assert_eq!(boot[&value("linux")[1..]].as_deref(), Some(b"a kernel".as_slice()));
        assert_eq!(boot[&value("initrd")[1..]].as_deref(), Some(b"an initrd".as_slice()));
        let base = name.strip_prefix("loader/entries/").unwrap().to_owned();
        if names == "hash" {
            let file = machine.tiny.path().join("entry");
            std::fs::write(&file, &text).unwrap();
            assert_eq!(base, format!("nixos-{}.conf", digest(&file)));
        }
        inits.insert(value("options"), (base, value("title")));
    }
    let named = |system: &str| inits[&format!("init={system}/init loglevel=4")].clone();
    let (default, title) = named(&machine.new);
    assert_eq!(title, "NixOS");
    assert!(conf.contains(&format!("\ndefault {default}\n")), "{conf}");
    assert_eq!(named(&machine.gaming).1, "NixOS (gaming)");
    if names == "generation" {
        assert_eq!(default, "nixos-generation-2.conf");
        assert_eq!(named(&machine.gaming).0, "nixos-generation-2-specialisation-gaming.conf");
        assert_eq!(named(&machine.old).0, "nixos-generation-1.conf");
    }
}

/// GRUB's own checker reads a menu of every layout, and each file that it names exists.
#[test]
fn grub_finds_every_file_and_its_own_checker_reads_the_menu() {
    let mut machine = Machine::new();
    // Everything that could break a line of GRUB's script.
    machine.new = machine.tiny.system_with("26.05 'odd' \"$x\" {", |place| {
        std::fs::write(place.join("kernel-params"), "a=$x b=\"c;d\" e|f 'g #h").unwrap();
    });
    for (layout, boot, devices, state) in [
        ("legacy", None, "/dev/vda", "no"),
        ("legacy+gpt", None, "/dev/vda", "no"),
        ("legacy+boot", Some(0), "/dev/vda", "no"),
        ("efi", Some(0), "nodev", "only"),
        ("efixbootldr", Some(1), "nodev", "only"),
        ("hybrid", Some(0), "/dev/vda", "both"),
    ] {
        let grub = [
            "--boot-loader",
            "grub",
            "--grub",
            grub(),
            "--grub-mkimage",
            grub_mkimage(),
            "--timeout",
            "forever",
        ];
        let disk = machine.disk(layout, &grub);
        let files = match (layout, boot) {
            (_, Some(number)) => on_fat(&disk, number),
            ("legacy", None) => on_root(&disk, Some(0)),
            _ => on_root(&disk, Some(1)),
        };
        let menu = text(&files, "grub/grub.cfg");
        let file = machine.tiny.path().join("grub.cfg");
        std::fs::write(&file, &menu).unwrap();
        must(command("grub-script-check").arg(&file));
        assert!(menu.contains("\n  set timeout=-1\n"), "{menu}");
        assert_eq!(menu.matches("\n  linux ").count(), 3, "{menu}");
        assert!(menu.contains("/init a=\\$x b=\"c;d\" e\\|f \\'g \\#h\n"), "{menu}");
        for line in menu.lines().filter_map(|line| line.strip_prefix("  initrd ")) {
            match boot {
                Some(_) => assert_eq!(text(&files, line.trim_start_matches("($drive1)//")), "an initrd"),
                None => {
                    assert!(machine.tiny.host(line.strip_prefix("($drive2)").unwrap()).is_file(), "{line}");
                }
            }
        }
        let mount = if layout == "efixbootldr" { "/efi" } else { "/boot" };
        assert_eq!(
            text(&files, "grub/state"),
            format!("grub\n2.06\n{state}\n{devices}\n{mount}\n{{\"extraGrubInstallArgs\":[]}}\n")
        );
        assert_eq!(files["grub/grubenv"].as_ref().unwrap().len(), 1024);
        for (platform, there) in [("i386-pc", state != "only"), ("x86_64-efi", state != "no")] {
            assert_eq!(
                files.contains_key(&format!("grub/{platform}/normal.mod")),
                there,
                "{layout} {platform}"
            );
        }
        let code = std::fs::read(&disk).unwrap();
        // The jump that every boot.img begins with, where there is one.
        assert_eq!(code.starts_with(&[0xeb, 0x63]), state != "only", "{layout}");
        assert_eq!(code[..440].iter().all(|byte| *byte == 0), state == "only", "{layout}");
    }
    // The checker can fail.
    let broken = machine.tiny.path().join("broken.cfg");
    std::fs::write(&broken, "menuentry \"x {\n").unwrap();
    assert_ne!(run(command("grub-script-check").arg(&broken)).code, 0);
}

/// A menu without boot code, for machines that have a GRUB of their own.
#[test]
fn a_menu_needs_no_grub() {
    let machine = Machine::new();
    let out = machine.tiny.path().join("disk.img");
    let mut build = machine.tiny.nixos(&machine.new, "none", &out);
    build.args(["--generations", &machine.old, "--boot-loader", "grub", "--timeout", "10"]);
    // grub-mkimage does not run, because there is none.
    let said = must(build.env("PATH", "/nonexistent"));
    assert_eq!(said.error(), "", "there is nothing to warn of");
    let files = on_root(&out, None);
    let menu = text(&files, "grub/grub.cfg");
    let file = machine.tiny.path().join("grub.cfg");
    std::fs::write(&file, &menu).unwrap();
    must(command("grub-script-check").arg(&file));
    let uuid = "f222513b-ded1-49fa-b591-20ce86a2fe7f";
    for (line, times) in [
        (format!("search --set=drive1 --fs-uuid {uuid}"), 6),
        (format!("  linux ($drive2)/nix/store/{:0>32}-linux-6.1/bzImage init=", 0), 5),
        (format!("  initrd ($drive2)/nix/store/{:0>32}-initrd-linux-6.1/initrd\n", 1), 5),
        ("  set timeout=10\n".to_owned(), 1),
    ] {
        assert_eq!(menu.matches(&line).count(), times, "{line} in\n{menu}");
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["grub", "grub/grub.cfg", "grub/grubenv"]);

    let said = must(build.args(["--grub", grub()]));
    assert!(
        said.error().contains("warning: nothing of the GRUB that is given is in the image"),
        "{}",
        said.error()
    );
    assert_eq!(on_root(&out, None), files);
}

/// Without a BIOS, hybrid is UEFI only, and its BIOS boot partition is empty.
#[test]
fn hybrid_without_a_bios_is_uefi_alone() {
    let mut tiny = Tiny::new();
    let arm = tiny.system_with("26.05", |place| {
        std::fs::write(place.join("system"), "aarch64-linux").unwrap();
    });
    // A GRUB for Arm: its own files are not here, and grub-mkimage of this machine makes none of others.
    let grub = tiny.path().join("grub");
    std::fs::create_dir(&grub).unwrap();
    must(
        command("cp")
            .arg("-r")
            .arg(format!("{}/x86_64-efi", crate::closure::grub()))
            .arg(grub.join("arm64-efi")),
    );
    let mkimage = tiny.path().join("mkimage");
    let script = "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\necho program > \"$2\"\n";
    std::fs::write(&mkimage, script).unwrap();
    must(command("chmod").arg("+x").arg(&mkimage));
    let out = tiny.path().join("disk.img");
    let mut build = tiny.nixos(&arm, "hybrid", &out);
    must(build.arg("--grub").arg(&grub).arg("--grub-mkimage").arg(&mkimage));
    table::assert_clean(&out);
    let files = on_fat(&out, 0);
    assert_eq!(text(&files, "EFI/BOOT/BOOTAA64.EFI"), "program\n");
    assert!(text(&files, "grub/grub.cfg").contains("\n  linux ($drive1)//kernels/"));
    let state = text(&files, "grub/state");
    assert_eq!(state.lines().skip(2).take(3).collect::<Vec<_>>(), ["only", "nodev", "/boot"], "{state}");
    assert!(!files.keys().any(|name| name.contains("i386-pc")), "{:?}", files.keys());
    let bytes = std::fs::read(&out).unwrap();
    let (start, length) = table::partitions(&out)[1];
    let range = usize::try_from(start * 512).unwrap()..usize::try_from((start + length) * 512).unwrap();
    assert!(bytes[..440].iter().chain(&bytes[range]).all(|byte| *byte == 0));
}

/// Warnings name files that their loader does not find.
#[test]
fn what_no_loader_finds_is_said() {
    let machine = Machine::new();
    let out = machine.tiny.path().join("disk.img");
    // Without the flag that a warning about a partition is about.
    let said = |layout: &str, more: &[&str]| {
        let said = must(machine.tiny.nixos(&machine.new, layout, &out).args(more)).error();
        let lines = said.lines().filter_map(|line| line.strip_prefix("diskwright: warning: "));
        let plain = |line: &str| match line.split_once(": ") {
            Some((key, rest)) if key.starts_with("--") => rest.to_owned(),
            _ => line.to_owned(),
        };
        lines.map(plain).collect::<Vec<_>>()
    };
    let extlinux = ["--boot-loader", "extlinux", "--compat"];
    let nothing = "the partition ESP: there is nothing on the EFI system partition: UEFI firmware finds nothing to start";
    let marked = |number: u32| {
        format!(
            "U-Boot looks for extlinux.conf on partition 1 unless another one is marked, and /boot is on partition \
             {number}: with --compat false it is marked"
        )
    };
    for (layout, compat) in [
        ("legacy", vec![]),
        ("legacy+boot", vec![]),
        ("efi", vec![]),
        ("hybrid", vec![]),
        ("legacy+gpt", vec![marked(2)]),
        ("efixbootldr", vec![marked(2), nothing.to_owned()]),
    ] {
        assert_eq!(said(layout, &[extlinux.as_slice(), &["true"]].concat()), compat, "{layout}");
        let plain: Vec<String> = compat.into_iter().filter(|line| line == nothing).collect();
        assert_eq!(said(layout, &[extlinux.as_slice(), &["false"]].concat()), plain, "{layout}");
    }
    let bare = "U-Boot looks for extlinux.conf on partitions: it finds the one of this bare filesystem once that is in one";
    for compat in ["true", "false"] {
        assert_eq!(said("none", &[extlinux.as_slice(), &[compat]].concat()), [bare]);
    }
    for (layout, expected) in [("efi", vec![nothing]), ("efixbootldr", vec![nothing]), ("legacy", vec![])] {
        assert_eq!(said(layout, &["--boot-loader", "none"]), expected, "{layout}");
    }
    // A manifest has no line for the partition either.
    let folder = machine.tiny.path();
    std::fs::write(folder.join("registration"), machine.tiny.registration()).unwrap();
    let manifest = format!(
        "version = 1\n[nixos]\nsystem = \"{}\"\nclosure = \"registration\"\nstore_root = \"root\"\nlayout = \
         \"efi\"\nboot_loader = \"none\"\n",
        machine.new
    );
    std::fs::write(folder.join("disk.toml"), manifest).unwrap();
    let built = must(diskwright().current_dir(folder).args(["build", "disk.toml", "-o", "disk.img"])).error();
    assert!(built.lines().any(|line| line == format!("diskwright: warning: {nothing}")), "{built}");

    let kernel = machine.tiny.path().join("kernel");
    std::fs::write(&kernel, "a kernel").unwrap();
    let image = unified(machine.tiny.path(), "quiet", &kernel, &kernel);
    let uki = ["--uki", image.to_str().unwrap(), "--boot-loader"];
    assert_eq!(said("efi", &[uki.as_slice(), &["extlinux"]].concat()), [""; 0]);
    assert!(on_fat(&out, 0).contains_key("EFI/BOOT/BOOTX64.EFI"));
    let grub = ["grub", "--grub", crate::closure::grub(), "--grub-mkimage", grub_mkimage()];
    assert_eq!(
        said("efi", &[uki.as_slice(), &grub].concat()),
        ["nothing starts the unified kernel image: GRUB does not look into EFI/Linux"]
    );
}

#[test]
fn without_a_loader_there_is_none() {
    let machine = Machine::new();
    for (layout, fats) in
        [("legacy", 0), ("legacy+boot", 1), ("legacy+gpt", 0), ("efi", 1), ("efixbootldr", 2), ("hybrid", 1)]
    {
        let disk = machine.disk(layout, &["--boot-loader", "none"]);
        table::assert_clean(&disk);
        for number in 0..fats {
            assert_eq!(on_fat(&disk, number), Files::new(), "{layout}");
        }
        let bytes = std::fs::read(&disk).unwrap();
        assert!(bytes[..440].iter().all(|byte| *byte == 0), "{layout} has boot code");
        let bios = match layout {
            "legacy+gpt" => Some(0),
            "hybrid" => Some(1),
            _ => None,
        };
        if let Some(number) = bios {
            let (start, length) = table::partitions(&disk)[number];
            let range =
                usize::try_from(start * 512).unwrap()..usize::try_from((start + length) * 512).unwrap();
            assert!(bytes[range].iter().all(|byte| *byte == 0), "{layout} has a core image");
        }
    }
    let said = run(machine.tiny.nixos(&machine.new, "efi", &machine.tiny.path().join("x.img")).args([
        "--boot-loader",
        "none",
        "--timeout",
        "3",
    ]));
    assert!(
        said.code == 2 && said.error().contains("--timeout means nothing with no boot loader"),
        "{}",
        said.error()
    );
}

/// A unified kernel image as `ukify` and systemd's manual make one: the stub with sections added by objcopy.
pub(crate) fn unified(folder: &Path, parameters: &str, kernel: &Path, initrd: &Path) -> PathBuf {
    let (line, release, out) =
        (folder.join("cmdline"), folder.join("os-release"), folder.join("nixos_1.efi"));
    std::fs::write(&line, parameters).unwrap();
    std::fs::write(&release, "ID=nixos\nPRETTY_NAME=NixOS\nVERSION_ID=1\n").unwrap();
    let mut objcopy = command("objcopy");
    // Addresses behind all of the stub's own, each far enough from the next.
    for (section, file, address) in [
        (".osrel", release.as_path(), "0x20000"),
        (".cmdline", &line, "0x30000"),
        (".linux", kernel, "0x2000000"),
        (".initrd", initrd, "0x4000000"),
    ] {
        objcopy.arg("--add-section").arg(format!("{section}={}", file.display()));
        objcopy.arg("--change-section-vma").arg(format!("{section}={address}"));
    }
    must(objcopy.arg(judges::file("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")).arg(&out));
    out
}

#[test]
fn a_unified_kernel_image_lies_where_loaders_look_for_it() {
    let machine = Machine::new();
    let kernel = machine.tiny.path().join("kernel");
    std::fs::write(&kernel, "a kernel").unwrap();
    let image = unified(machine.tiny.path(), "quiet", &kernel, &kernel);
    let bytes = std::fs::read(&image).unwrap();
    let uki = ["--uki", image.to_str().unwrap()];
    let loader = crate::closure::systemd_boot();
    for layout in ["efi", "efixbootldr", "hybrid"] {
        let disk = machine.disk(layout, &[uki.as_slice(), ["--boot-loader", "none"].as_slice()].concat());
        let esp = on_fat(&disk, 0);
        for name in ["EFI/Linux/nixos_1.efi", "EFI/BOOT/BOOTX64.EFI"] {
            assert_eq!(esp[name].as_deref(), Some(bytes.as_slice()), "{layout}");
        }
        let disk = machine.disk(
            layout,
            &[uki.as_slice(), ["--boot-loader", "systemd-boot"].as_slice(), loader.as_slice()].concat(),
        );
        let esp = on_fat(&disk, 0);
        assert_eq!(esp["EFI/Linux/nixos_1.efi"].as_deref(), Some(bytes.as_slice()));
        assert_ne!(esp["EFI/BOOT/BOOTX64.EFI"].as_deref(), Some(bytes.as_slice()), "that is systemd-boot");
    }
    let out = machine.tiny.path().join("refused.img");
    let refused = |layout: &str, uki: &Path, code: i32, words: &str| {
        let mut build = machine.tiny.nixos(&machine.new, layout, &out);
        let said = run(build.args(["--boot-loader", "none", "--uki"]).arg(uki));
        assert!(said.code == code && said.error().contains(words), "{layout}: {}", said.error());
    };
    refused("legacy", &image, 2, "--uki means nothing with a layout without EFI system partition");
    refused("efi", Path::new(loader[1]), 1, "no unified kernel image");
    refused("efi", &kernel, 1, "no EFI program");
    refused("efi", Path::new("/nonexistent.efi"), 1, "cannot read the EFI program");
}
