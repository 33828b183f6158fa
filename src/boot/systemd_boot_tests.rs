//! Tests of systemd-boot's files.

use super::super::testing::{source, system};
use super::*;

/// A folder with a loader, and the options for it.
fn options() -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("systemd-bootx64.efi");
    std::fs::write(&file, pe::sample(0x8664, &[".text"])).unwrap();
    let options = Options::new(Firmware::X64, file);
    (folder, options)
}

/// Two generations; the newer one has a variant. All share a kernel and an initrd.
fn generations() -> Generations {
    let mut new = system("new");
    new.specialisations.insert("gaming".to_owned(), system("gaming"));
    let of = |number, system: &System| Generation {
        profile: None,
        number,
        // 2024-05-31.
        date: 1_717_113_600,
        system: system.clone(),
    };
    Generations::new(new.clone(), vec![of(7, &system("old")), of(8, &new)]).unwrap()
}

fn paths(files: &Files) -> Vec<&str> {
    files.iter().map(|(path, _)| path).collect()
}

fn text(files: &Files, path: &str) -> String {
    match &files.get(path).unwrap_or_else(|| panic!("no {path}")).content {
        Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

const KERNEL: &str = "/EFI/nixos/11111111111111111111111111111111-linux-6.6.30-bzImage.efi";
const INITRD: &str = "/EFI/nixos/22222222222222222222222222222222-initrd-linux-6.6.30-initrd.efi";
/// `printf 'title NixOS\nversion …' | sha256sum` of the three entries.
const NEW: &str = "a029607042823bb2a3793126b88649a3d91f7005ef7124f4b034f009e35c56ed";
const GAMING: &str = "a91c86e478b2f99c85d0a1f09645ac27fc7dfec1a99577f83a66f4d3d1264878";
const OLD: &str = "5a6e97976dc608fc9a8c4d7364912e24353fbe85f7edf4b3cea0d8c55fd849be";

#[test]
fn the_tree_is_that_of_bootctl_and_the_installer() {
    let (_folder, options) = options();
    let trees = build(&generations(), &options, false).unwrap();
    assert_eq!((trees.xbootldr, trees.warnings), (None, vec![]));
    let entry = |hash: &str| format!("/loader/entries/nixos-{hash}.conf");
    let mut entries = [NEW, GAMING, OLD].map(entry);
    entries.sort();
    let [first, second, third] = entries.each_ref().map(String::as_str);
    assert_eq!(
        paths(&trees.esp),
        [
            "/EFI",
            "/EFI/BOOT",
            "/EFI/BOOT/BOOTX64.EFI",
            "/EFI/Linux",
            "/EFI/nixos",
            "/EFI/nixos/.extra-files",
            KERNEL,
            INITRD,
            "/EFI/systemd",
            "/EFI/systemd/systemd-bootx64.efi",
            "/loader",
            "/loader/entries",
            "/loader/entries.srel",
            first,
            second,
            third,
            "/loader/loader.conf",
        ]
    );
    assert_eq!(
        text(&trees.esp, &entry(NEW)),
        format!(
            "title NixOS\nversion Generation 8 NixOS 24.05 (Linux 6.6.30), built on 2024-05-31\nlinux {KERNEL}\n\
             initrd {INITRD}\noptions init=/nix/store/00000000000000000000000000000000-nixos-system-new-24.05/init \
             loglevel=4 quiet\nsort-key nixos"
        )
    );
    assert!(text(&trees.esp, &entry(GAMING)).starts_with("title NixOS (gaming)\nversion Generation 8 "));
    assert!(text(&trees.esp, &entry(OLD)).starts_with("title NixOS\nversion Generation 7 "));
    assert_eq!(text(&trees.esp, "/loader/entries.srel"), "type1\n");
    let conf = format!("timeout 5\ndefault nixos-{NEW}.conf\nconsole-mode keep\n");
    assert_eq!(text(&trees.esp, "/loader/loader.conf"), conf);
}

#[test]
fn an_xbootldr_partition_has_all_but_the_loader_and_its_configuration() {
    let (_folder, mut options) = options();
    options.naming = Naming::Generation;
    let trees = build(&generations(), &options, true).unwrap();
    assert_eq!(
        paths(&trees.esp),
        [
            "/EFI",
            "/EFI/BOOT",
            "/EFI/BOOT/BOOTX64.EFI",
            "/EFI/systemd",
            "/EFI/systemd/systemd-bootx64.efi",
            "/loader",
            "/loader/loader.conf",
        ]
    );
    let boot = trees.xbootldr.unwrap();
    let entries = paths(&boot).into_iter().filter(|path| path.ends_with(".conf")).collect::<Vec<_>>();
    assert_eq!(
        entries,
        [
            "/loader/entries/nixos-generation-7.conf",
            "/loader/entries/nixos-generation-8-specialisation-gaming.conf",
            "/loader/entries/nixos-generation-8.conf",
        ]
    );
    assert!(boot.get(KERNEL).is_some() && boot.get("/loader/entries.srel").is_some());
    assert_eq!(
        text(&trees.esp, "/loader/loader.conf"),
        "timeout 5\ndefault nixos-generation-8.conf\nconsole-mode keep\n"
    );
    assert_eq!(
        text(&boot, "/loader/entries/nixos-generation-8-specialisation-gaming.conf"),
        format!(
            "title NixOS (gaming)\nsort-key nixos\nversion Generation 8 NixOS 24.05 (Linux 6.6.30), built on \
             2024-05-31\nlinux {KERNEL}\ninitrd {INITRD}\noptions \
             init=/nix/store/00000000000000000000000000000000-nixos-system-gaming-24.05/init loglevel=4 quiet\n"
        )
    );
}

#[test]
fn an_entry_has_what_its_system_asks_for() {
    let (_folder, mut options) = options();
    options.naming = Naming::Generation;
    options.extra_files = BTreeMap::from([("/EFI/memtest/x.efi".to_owned(), Content::Bytes(b"x".to_vec()))]);
    let mut odd = system("odd");
    odd.initrd = None;
    odd.kernel = source("33333333333333333333333333333333-kernel");
    odd.extra_initrds = vec!["secrets.cpio".to_owned()];
    odd.devicetree = Some(source("44444444444444444444444444444444-dtb/board.dtb"));
    odd.sort_key = "zz".to_owned();
    odd.xen = Some(super::super::bootspec::Xen { kernel: source("5-xen"), params: String::new() });
    let generation = Generation { profile: Some("test".to_owned()), number: 1, date: 0, system: odd };
    let all = Generations::new(system("elsewhere"), vec![generation]).unwrap();
    let trees = build(&all, &options, false).unwrap();
    assert_eq!(
        text(&trees.esp, "/loader/entries/nixos-test-generation-1.conf"),
        "title NixOS [test]\nsort-key zz\nversion Generation 1 NixOS 24.05 (Linux 6.6.30), built on 1970-01-01\n\
         linux /EFI/nixos/33333333333333333333333333333333-kernel.efi\ninitrd /secrets.cpio\noptions \
         init=/nix/store/00000000000000000000000000000000-nixos-system-odd-24.05/init loglevel=4 quiet\n\
         devicetree /EFI/nixos/44444444444444444444444444444444-dtb-board.dtb.efi\n"
    );
    assert_eq!(text(&trees.esp, "/EFI/nixos/.extra-files/EFI/memtest/x.efi"), "");
    assert_eq!(text(&trees.esp, "/EFI/memtest/x.efi"), "x");
    // The default is not in the menu, so the pattern finds the newest entry.
    assert_eq!(text(&trees.esp, "/loader/loader.conf"), "timeout 5\ndefault nixos-*\nconsole-mode keep\n");
    let warnings: Vec<&str> = trees.warnings.iter().map(|warning| warning.0.as_str()).collect();
    assert!(
        warnings.len() == 2 && warnings[0].contains("Xen") && warnings[1].contains("is no generation"),
        "{warnings:?}"
    );
}

#[test]
fn loader_conf_says_what_is_asked_for() {
    let (_folder, mut options) = options();
    options.naming = Naming::Generation;
    options.editor = false;
    options.reboot_for_bitlocker = true;
    options.tries = Some(3);
    options.limit = Some(1);
    for (timeout, console_mode, expected) in [
        (Timeout::Seconds(0), ConsoleMode::Auto, ("0", "auto")),
        (Timeout::Forever, ConsoleMode::Max, ("menu-force", "max")),
        (Timeout::Seconds(9), ConsoleMode::Number(2), ("9", "2")),
        (Timeout::Seconds(9), ConsoleMode::Keep, ("9", "keep")),
    ] {
        (options.timeout, options.console_mode) = (timeout, console_mode);
        let trees = build(&generations(), &options, false).unwrap();
        assert_eq!(
            text(&trees.esp, "/loader/loader.conf"),
            format!(
                "timeout {}\npreferred nixos-generation-8.conf\ndefault nixos-*\neditor 0\nreboot-for-bitlocker \
                 yes\nconsole-mode {}\n",
                expected.0, expected.1
            )
        );
        let entries = paths(&trees.esp).into_iter().filter(|path| path.contains("generation-"));
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [
                "/loader/entries/nixos-generation-8+3.conf",
                "/loader/entries/nixos-generation-8-specialisation-gaming+3.conf",
            ]
        );
    }
}

#[test]
fn what_no_menu_can_show_is_refused() {
    let (folder, mut options) = options();
    options.naming = Naming::Generation;
    let refused = |generations: &Generations, options: &Options| {
        let error = build(generations, options, false).unwrap_err();
        error.what().to_owned()
    };
    let named = |name: &str| {
        let mut top = system("a");
        top.specialisations.insert(name.to_owned(), system("b"));
        Generations::single(top, 0)
    };
    for name in ["a b", "ä", "a/b", &"n".repeat(217)] {
        assert_eq!(refused(&named(name), &options), "a boot entry cannot have this name", "{name}");
    }
    build(&named(&"n".repeat(216)), &options, false).unwrap();
    // Entries named by their hash allow any name.
    build(&named("ä b"), &Options { naming: Naming::Hash, ..options.clone() }, false).unwrap();
    let mut top = system("a");
    top.kernel_params.push("x\ny".to_owned());
    assert_eq!(
        refused(&Generations::single(top, 0), &options),
        "a line of a boot entry holds a control character"
    );
    let none = Options { limit: Some(0), ..options.clone() };
    assert_eq!(refused(&generations(), &none), "a menu of no generations cannot boot");
    let empty = Generations::new(system("a"), Vec::new()).unwrap();
    assert_eq!(refused(&empty, &options), "there is no generation to boot");
    let arm = Options { firmware: Firmware::AA64, ..options.clone() };
    assert_eq!(refused(&generations(), &arm), "the EFI program is for another processor");

    let unsigned = loader(folder.path(), Firmware::X64).unwrap();
    assert_eq!(unsigned, folder.path().join("systemd-bootx64.efi"));
    let signed = folder.path().join("systemd-bootx64.efi.signed");
    std::fs::write(&signed, "").unwrap();
    assert_eq!(loader(folder.path(), Firmware::X64).unwrap(), signed);
    let error = loader(folder.path(), Firmware::AA64).unwrap_err().to_string();
    assert!(error.contains("systemd-bootaa64.efi") && error.contains("systemd-boot-efi"), "{error}");
}

#[test]
fn no_name_ends_like_a_count_of_tries() {
    for (name, plain) in [
        ("debian-6.2.0+1", "debian-6.2.0_1"),
        ("x+3-1", "x_3-1"),
        ("x+", "x+"),
        ("x+1a", "x+1a"),
        ("x+1-", "x+1-"),
        ("6.1.0+deb12", "6.1.0+deb12"),
        ("x", "x"),
    ] {
        assert_eq!(super::uncounted(name), plain);
    }
}
