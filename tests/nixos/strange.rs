//! Systems, closures and wishes that are odd but valid, and some that are not.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::closure::{grub, grub_mkimage, systemd_boot};
use crate::support::tools::{command, must, run};
use crate::support::{debugfs, fat, table};
use crate::tiny::Tiny;

/// A build that must be refused, and the words of the message.
fn refused(build: &mut std::process::Command, code: i32, words: &[&str]) {
    let said = run(build);
    assert_eq!(said.code, code, "{build:?}: {}", said.error());
    for word in words {
        assert!(said.error().contains(word), "{build:?}\nno `{word}` in\n{}", said.error());
    }
}

#[test]
fn a_system_is_found_by_every_way_to_it() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let folder = tiny.path().to_owned();
    // What `nix build` leaves, which leads nowhere where the store lies elsewhere; a link to that store; the same again.
    symlink(&system, folder.join("result")).unwrap();
    symlink(tiny.host(&system), folder.join("elsewhere")).unwrap();
    symlink("elsewhere", folder.join("again")).unwrap();
    // The profile of a store elsewhere, and a link to what `nix build` leaves.
    std::fs::create_dir_all(tiny.root().join("profiles")).unwrap();
    symlink("system-1-link", tiny.root().join("profiles/system")).unwrap();
    symlink(&system, tiny.root().join("profiles/system-1-link")).unwrap();
    symlink("result", folder.join("result of result")).unwrap();
    symlink("round", folder.join("round")).unwrap();
    symlink("/nowhere", folder.join("nowhere")).unwrap();
    let mut digests = Vec::new();
    let out = folder.join("out.img");
    for name in [
        &system,
        &format!("{system}/"),
        "./result",
        "result/",
        "elsewhere",
        "./again//",
        "root/profiles/system",
        "result of result",
        &format!("root{system}"),
        &tiny.host(&system).display().to_string(),
    ] {
        let mut build = tiny.nixos(name, "none", &out);
        // Without a given seed: the same system gives the same image, however it was named.
        must(build.args(["--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"]).current_dir(&folder));
        digests.push(crate::support::tools::digest(&out));
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    std::fs::remove_file(&out).unwrap();
    for (name, code, words) in [
        ("nowhere", 1, ["the store path does not exist", "at --system"]),
        ("absent", 1, ["the store path does not exist", "at --system"]),
        ("round", 1, ["the store path does not exist", "at --system"]),
        ("/etc", 2, ["this is no store path", "at --system"]),
        (&format!("{system}/init"), 2, ["this is no store path", "not `/`"]),
        ("/nix/store/x", 2, ["this is no store path", "32 characters"]),
        ("", 2, ["there is no system", "--system"]),
    ] {
        refused(tiny.nixos(name, "none", &out).current_dir(&folder), code, &words);
    }
    let member = tiny.object("no-system", &[], |place| std::fs::create_dir(place).unwrap());
    refused(
        &mut tiny.nixos(&member, "none", &out),
        1,
        &["this is no system of NixOS", "/init", "at --system"],
    );
    let mut build = tiny.nixos(&system, "none", &out);
    refused(build.args(["--generations", &member]), 1, &["this is no system of NixOS", "at --generations"]);
    must(tiny.nixos(&member, "none", &out).arg("--only-nix-store"));
}

#[test]
fn closures_of_every_odd_kind_are_read_or_refused() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("out.img");
    let file = |name: &str, text: &str| {
        let path = tiny.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let text = tiny.registration();
    let list: String =
        text.lines().filter(|line| line.starts_with('/')).fold(String::new(), |all, line| all + line + "\n");
    file("a closure, with\na newline ü/registration", &text);
    file("a closure, with\na newline ü/store-paths", &list);
    let build = |closure: &Path| tiny.with_closure(&system, "none", &out, closure);
    must(&mut build(&tiny.path().join("a closure, with\na newline ü")));
    must(&mut build(&file("twice", &text.repeat(2))));
    let crlf = text.replace('\n', "\r\n");
    for (name, text, words) in [
        ("crlf", crlf.as_str(), ["crlf:1: /nix/store/", "\\x0d"]),
        ("empty", "", ["the closure lists no store path", "at --closure"]),
        ("blank", "\n\n", ["the closure lists no store path", "at --closure"]),
        ("cut", &text[..text.len() - 1], ["the registration is cut off", "at --closure"]),
        ("other", "[{\"a\": 1}]", ["has no path", "at --closure"]),
        ("html", "<html>\n<body>\n", ["this is no store path", "html:1: <html>"]),
    ] {
        refused(&mut build(&file(name, text)), 2, &words);
    }
    refused(&mut build(&tiny.path().join("absent")), 1, &["the closure does not exist", "at --closure"]);
    refused(&mut build(tiny.path().join("root").as_path()), 1, &["store-paths"]);
}

#[test]
fn two_hundred_generations_with_two_kernels_of_one_name_share_what_they_can() {
    let mut tiny = Tiny::new();
    let kernel = tiny.object("linux-6.2", &[], |place| {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join("bzImage"), "another kernel").unwrap();
    });
    let mut systems = Vec::new();
    for number in 0..200 {
        let kernel = kernel.clone();
        systems.push(tiny.system_with(&format!("26.05-{number}"), |place| {
            if number % 2 == 0 {
                std::fs::remove_file(place.join("kernel")).unwrap();
                symlink(format!("{kernel}/bzImage"), place.join("kernel")).unwrap();
            }
            // One has no initrd, which it can do without.
            if number == 77 {
                std::fs::remove_file(place.join("initrd")).unwrap();
            }
        }));
    }
    let newest = systems.pop().unwrap();
    let generations: Vec<_> = systems.iter().flat_map(|system| ["--generations", system]).collect();
    let disk = tiny.path().join("disk.img");
    let mut build = tiny.nixos(&newest, "efi", &disk);
    must(build.args(&generations).args(systemd_boot()).args(["--entry-names", "generation"]));
    let part = tiny.path().join("part");
    table::extract(&disk, table::partitions(&disk)[0], &part);
    fat::assert_clean(&part);
    let files = fat::view(&part);
    let entries = files.keys().filter(|name| name.starts_with("loader/entries/nixos-generation-")).count();
    assert_eq!(entries, 200);
    let kernels: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.ends_with("-bzImage.efi"))
        .map(|(_, bytes)| String::from_utf8(bytes.clone().unwrap()).unwrap())
        .collect();
    assert_eq!(kernels, ["a kernel", "another kernel"]);
    let without =
        String::from_utf8(files["loader/entries/nixos-generation-78.conf"].clone().unwrap()).unwrap();
    assert!(!without.contains("initrd") && without.contains("linux /EFI/nixos/"), "{without}");

    // GRUB shows a hundred, extlinux twenty, and the profile has all.
    let grub = ["--grub", grub(), "--grub-mkimage", grub_mkimage()];
    let mut build = tiny.nixos(&newest, "legacy+boot", &disk);
    must(build.args(&generations).args(grub));
    table::extract(&disk, table::partitions(&disk)[0], &part);
    let menu = fat::view(&part)["grub/grub.cfg"].clone().unwrap();
    let menu = String::from_utf8(menu).unwrap();
    assert_eq!(menu.matches("menuentry \"NixOS - Configuration ").count(), 100);
    assert!(menu.contains("Configuration 200 ") && !menu.contains("Configuration 100 "));
    let mut build = tiny.nixos(&newest, "none", &disk);
    must(build.args(&generations).args(["--boot-loader", "extlinux"]));
    crate::support::ext4::assert_clean(&disk);
    let found = debugfs::view(&disk);
    let link = |name: &str| found.0[format!("nix/var/nix/profiles/{name}").as_bytes()].target.clone();
    assert_eq!(link("system"), b"system-200-link");
    assert_eq!(link("system-200-link"), newest.as_bytes());
    assert_eq!(link("system-1-link"), systems[0].as_bytes());
    let conf = must(command("debugfs").args(["-R", "cat /boot/extlinux/extlinux.conf"]).arg(&disk)).text();
    assert_eq!(conf.matches("\nLABEL ").count(), 21);
}

/// It is refused with any loader, and without one.
#[test]
fn a_system_of_another_kernel_is_refused() {
    let mut tiny = Tiny::new();
    let out = tiny.path().join("out.img");
    for kernel in ["x86_64-darwin", "aarch64-freebsd"] {
        let system = tiny.system_with(&format!("26.05-{kernel}"), |place| {
            std::fs::write(place.join("system"), kernel).unwrap();
        });
        for layout in ["none", "efi"] {
            let mut build = tiny.nixos(&system, layout, &out);
            let words = ["the system is not for Linux", "boots a Linux kernel", &format!("found: {kernel}")];
            refused(build.args(["--boot-loader", "none"]), 1, &words);
        }
    }
    let system = tiny.system("26.05");
    let zeros = "00000000-0000-0000-0000-000000000000";
    for flag in ["--root-uuid", "--gpt-uuid", "--guid"] {
        let mut build = tiny.nixos(&system, "efi", &out);
        let words = ["a UUID of zeros names nothing", &format!("at {flag}")];
        refused(build.args(["--boot-loader", "none", flag, zeros]), 2, &words);
    }
}

#[test]
fn processors_and_firmware_have_to_go_together() {
    let mut tiny = Tiny::new();
    let riscv = tiny.system_with("26.05-riscv", |place| {
        std::fs::write(place.join("system"), "riscv64-linux").unwrap();
    });
    let unknown =
        tiny.system_with("26.05-unknown", |place| std::fs::remove_file(place.join("system")).unwrap());
    let out = tiny.path().join("out.img");
    let grub = ["--grub", grub(), "--grub-mkimage", grub_mkimage()];
    refused(
        tiny.nixos(&riscv, "legacy", &out).args(grub),
        2,
        &["boots by a BIOS, which only x86 has", "one for riscv64"],
    );
    refused(
        tiny.nixos(&riscv, "efi", &out).args(systemd_boot()),
        1,
        &["the EFI program is for another processor", "RISCV64"],
    );
    refused(
        tiny.nixos(&riscv, "efi", &out).args(["--boot-loader", "grub"]).args(grub),
        1,
        &["no files for the platform riscv64-efi", "grub-efi-riscv64-bin"],
    );
    refused(
        tiny.nixos(&unknown, "efi", &out).args(systemd_boot()),
        1,
        &["does not say for which processor it is", "x86_64-linux", &unknown],
    );
    refused(
        tiny.nixos("~/result", "efi", &out).args(systemd_boot()),
        1,
        &["the store path does not exist", "`~` is not expanded", "write the whole path"],
    );
    // A processor with an unknown name is not taken for another one.
    let uefi = "choose the layout efi, or the boot loader extlinux";
    let no_uefi = "no loader for UEFI firmware of this processor is known";
    for (system, name, hint) in [
        ("powerpc64le-linux", "one for ppc64-le", no_uefi),
        ("s390x-linux", "one for s390x", no_uefi),
        ("mips64el-linux", "one for mips64-le", no_uefi),
        ("aarch64-linux", "one for arm64", uefi),
    ] {
        let other = tiny.system_with(&format!("26.05-{system}"), |place| {
            std::fs::write(place.join("system"), system).unwrap();
        });
        for layout in ["legacy", "legacy+gpt", "legacy+boot"] {
            refused(
                tiny.nixos(&other, layout, &out).args(grub),
                2,
                &["boots by a BIOS, which only x86 has", name, hint],
            );
        }
    }
    let odd =
        tiny.system_with("26.05-odd", |place| std::fs::write(place.join("system"), "m68k-linux").unwrap());
    refused(
        tiny.nixos(&odd, "legacy", &out).args(grub),
        1,
        &["the processor of this platform is not known", "found: m68k-linux", &odd],
    );
    // A file that is not an EFI program needs no processor.
    must(tiny.nixos(&unknown, "legacy", &out).args(grub));
    for system in [&riscv, &unknown] {
        must(tiny.nixos(system, "none", &out).args(["--boot-loader", "extlinux"]));
        must(tiny.nixos(system, "efi", &out).args(["--boot-loader", "none"]));
    }
}

#[test]
fn sizes_at_their_edges_fit_or_say_why_not() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    // More than the root of the smallest disk has.
    tiny.object("large", &[], |place| std::fs::write(place, vec![7; 2 << 20]).unwrap());
    let out = tiny.path().join("out.img");
    // One MiB, which is a FAT12 with the loader and a few small files.
    must(tiny.nixos(&system, "efi", &out).args(systemd_boot()).args(["--boot-size", "8MiB"]));
    table::assert_clean(&out);
    for (more, code, words) in [
        (
            ["--boot-size", "7MiB"].as_slice(),
            2,
            ["there is no space for the boot partition", "at --boot-size"],
        ),
        (&["--boot-size", "1TiB", "--disk-size", "4GiB"], 2, ["lies outside", "at --boot-size"]),
        (&["--boot-size", "3TiB", "--compat", "false"], 2, ["too large", "at the partition ESP"]),
        (&["--disk-size", "100MiB"], 2, ["lies outside", "a disk larger than 258MiB would hold it"]),
        (&["--disk-size", "259000001"], 2, ["not a whole number of sectors", "at --disk-size"]),
        (&["--disk-size", "258MiB"], 2, ["nothing is left for it to fill", "at --disk-size"]),
        (&["--disk-size", "259MiB"], 1, ["do not fit the ext4 filesystem", "expected: at least 26"]),
        (&["--timeout", "2147483648"], 2, ["--timeout", "a number of seconds, or forever"]),
    ] {
        refused(tiny.bare(&system, "efi", &out).args(systemd_boot()).args(more), code, &words);
    }
    let folder = tiny.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let mut build = tiny.nixos(&system, "none", &out);
    refused(
        build.arg("--config-file").arg(&folder),
        2,
        &["the configuration is a directory", "at --config-file"],
    );
}

#[test]
fn a_link_that_leads_nowhere_is_named_with_its_beginning() {
    let mut tiny = Tiny::new();
    let system = tiny.system_with("26.05", |place| {
        std::fs::remove_file(place.join("initrd")).unwrap();
        symlink("/nix/store/nowhere", place.join("initrd")).unwrap();
    });
    let out = tiny.path().join("out.img");
    refused(
        tiny.nixos(&system, "efi", &out).args(systemd_boot()),
        1,
        &[
            "a symbolic link leads to nothing",
            &format!("{system}/initrd\n"),
            "the link leads to /nix/store/nowhere",
        ],
    );
    // Without a loader nothing reads it.
    must(&mut tiny.nixos(&system, "none", &out));
    let broken =
        tiny.system_with("26.11", |place| std::fs::write(place.join("boot.json"), "{\n oops").unwrap());
    refused(
        tiny.nixos(&broken, "efi", &out).args(systemd_boot()),
        1,
        &["boot.json is not JSON", "boot.json:2"],
    );
}

/// A store path may be a file, a link or a program. A node that no archive of Nix can contain is refused.
#[test]
fn store_paths_of_every_kind_are_there() {
    use std::os::unix::fs::PermissionsExt;
    let mut tiny = Tiny::new();
    let file = tiny.object("file", &[], |place| std::fs::write(place, "text").unwrap());
    let link = tiny.object("link", &[], |place| symlink("nowhere", place).unwrap());
    let program = tiny.object("program", &[], |place| {
        std::fs::write(place, "#!").unwrap();
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o4755)).unwrap();
    });
    let empty = tiny.object("empty", &[], |place| std::fs::create_dir(place).unwrap());
    let odd = tiny.object("odd+name_with?all=1.0", &[], |place| {
        std::fs::create_dir_all(place.join("ünicode 'n\tab")).unwrap();
        std::fs::write(place.join("ünicode 'n\tab/\u{1f980}"), "crab").unwrap();
    });
    let system = tiny.system("26.05");
    let out = tiny.path().join("out.img");
    must(tiny.nixos(&system, "none", &out).arg("--verify-closure"));
    crate::support::ext4::assert_clean(&out);
    let found = debugfs::view(&out);
    let shown = |path: &str| {
        let entry = &found.0[&path.as_bytes()[1..]];
        (format!("{:o}", entry.mode), entry.mtime.0, String::from_utf8(entry.target.clone()).unwrap())
    };
    assert_eq!(shown(&file), ("444".to_owned(), 1, String::new()));
    assert_eq!(shown(&link), ("777".to_owned(), 1, "nowhere".to_owned()));
    assert_eq!(shown(&program), ("555".to_owned(), 1, String::new()));
    assert_eq!(shown(&empty), ("555".to_owned(), 1, String::new()));
    assert_eq!(shown(&format!("{odd}/ünicode 'n\tab/\u{1f980}")), ("444".to_owned(), 1, String::new()));

    // Added without Nix's knowledge, so its registered hash is the old one.
    std::fs::remove_file(&out).unwrap();
    let mut build = tiny.nixos(&system, "none", &out);
    must(command("mkfifo").arg(tiny.host(&empty).join("pipe")));
    refused(&mut build, 1, &["/pipe", &empty[11..]]);
    assert!(!out.exists());
}

/// The files that boot must be in the image, not only on the machine that makes it.
#[test]
fn what_boots_is_in_the_closure() {
    let mut tiny = Tiny::new();
    let system = tiny.system_with("26.05", |place| {
        std::fs::create_dir(place.join("specialisation")).unwrap();
    });
    let broken = tiny.system_with("26.11", |place| {
        std::fs::remove_file(place.join("init")).unwrap();
        symlink(
            "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-systemd/lib/systemd/systemd",
            place.join("init"),
        )
        .unwrap();
    });
    let other = tiny.system("26.05-special");
    symlink(&other, tiny.host(&system).join("specialisation/special")).unwrap();
    let out = tiny.path().join("out.img");
    must(tiny.nixos(&system, "efi", &out).args(systemd_boot()));
    refused(
        tiny.nixos(&broken, "efi", &out).args(systemd_boot()),
        1,
        &["a symbolic link leads to nothing", "zzzz-systemd/lib/systemd/systemd"],
    );
    let without = |name: &str| {
        let text = tiny.registration();
        let closure = diskwright::nix::Closure::from_registration(text.as_bytes(), Path::new("all")).unwrap();
        let mut rest = diskwright::nix::Closure::default();
        for path in closure.paths().filter(|path| !path.to_string().ends_with(name)) {
            let mut facts = closure.facts(path).unwrap().clone();
            facts.references.retain(|path| !path.to_string().ends_with(name));
            rest.add(path.clone(), Some(facts)).unwrap();
        }
        let file = tiny.path().join(format!("without{name}"));
        std::fs::write(&file, rest.registration().unwrap()).unwrap();
        file
    };
    for name in ["-linux-6.1", "-initrd-linux-6.1", "-nixos-system-tiny-26.05-special"] {
        let mut build = tiny.with_closure(&system, "efi", &out, &without(name));
        refused(build.args(systemd_boot()), 1, &["leads to a store path that is not in the closure", name]);
    }
}

#[test]
fn ids_and_errors_belong_to_their_keys() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let out = tiny.path().join("out.img");
    let uuid = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    for (layout, more, words) in [
        ("efi", ["--guid", "deadbeef"], ["of the wrong kind", "a UUID, for a GPT", "at --guid"]),
        ("legacy", ["--guid", uuid], ["of the wrong kind", "8 hex digits", "at --guid"]),
        (
            "none",
            ["--guid", uuid],
            ["--guid means nothing with the layout none", "leave it out", "at --guid"],
        ),
        (
            "none",
            ["--label", "aaaaaaaaaaaaaaaaa"],
            ["this cannot be the label of an ext4 filesystem", "16", "at --label"],
        ),
        ("none", ["--time", "99999999999999"], ["outside what ext4 holds", "a time in between", "at --time"]),
    ] {
        let mut build = tiny.nixos(&system, layout, &out);
        refused(build.args(["--boot-loader", "none"]).args(more), 2, &words);
    }
    for (layout, guid) in [("efi", uuid), ("legacy", "deadbeef")] {
        must(tiny.nixos(&system, layout, &out).args(["--boot-loader", "none", "--guid", guid]));
        let said = must(command("sfdisk").arg("--dump").arg(&out)).text().to_lowercase();
        assert!(said.contains(guid), "{said}");
    }
    // The size in an error suffices.
    let large = tiny.object("kernels", &[], |place| std::fs::write(place, vec![7; 3 << 20]).unwrap());
    let heavy = tiny.system_with("26.06", |place| {
        std::fs::remove_file(place.join("initrd")).unwrap();
        symlink(&large, place.join("initrd")).unwrap();
    });
    let said = run(tiny.nixos(&heavy, "efi", &out).args(systemd_boot()).args(["--boot-size", "9MiB"]));
    let size = said.error().split("hint: --boot-size ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    must(tiny.nixos(&heavy, "efi", &out).args(systemd_boot()).args(["--boot-size", &size]));
    let small = ["--boot-size", "20MiB", "--disk-size"];
    let said = run(tiny.bare(&heavy, "efi", &out).args(systemd_boot()).args(small).arg("23MiB"));
    let size =
        said.error().split("expected: at least ").nth(1).unwrap().split('\n').next().unwrap().to_owned();
    must(tiny.bare(&heavy, "efi", &out).args(systemd_boot()).args(small).arg(&size));
}

/// A store path is a sequence of bytes, even if the host stores zeros as holes.
#[test]
fn a_sparse_store_is_the_same_image() {
    use std::os::unix::fs::FileExt;
    let mut tiny = Tiny::new();
    let zeros = tiny.object("zeros", &[], |place| std::fs::write(place, vec![0; 5_000_000]).unwrap());
    let system = tiny.system("26.05");
    let mut digests = Vec::new();
    for sparse in [false, true] {
        if sparse {
            std::fs::remove_file(tiny.host(&zeros)).unwrap();
            let file = std::fs::File::create_new(tiny.host(&zeros)).unwrap();
            file.set_len(5_000_000).unwrap();
            file.write_all_at(&[0], 2_000_000).unwrap();
        }
        let out = tiny.path().join("out.img");
        must(tiny.nixos(&system, "none", &out).args(["--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"]));
        crate::support::ext4::assert_clean(&out);
        digests.push(crate::support::tools::digest(&out));
    }
    assert_eq!(digests[0], digests[1]);
}
