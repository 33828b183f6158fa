//! `[boot]`: a tree with a kernel becomes a disk that starts, by every loader and firmware, and what is missing is told.

use std::path::Path;

use super::gnu_tar;
use crate::support::guest::Guest;
use crate::support::judges::{self, kernel};
use crate::support::program::{build, diskwright};
use crate::support::tools::{Said, command, must, quick_scratch, run, scratch};

/// The release of the kernel that guests start.
fn release() -> String {
    let (kernel, _) = kernel();
    kernel.file_name().unwrap().to_str().unwrap().trim_start_matches("vmlinuz-").to_owned()
}

const OS_RELEASE: &str = "PRETTY_NAME=\"Trial Linux 1\"\nID=trial\n";
const FIRMWARE: &str = "usr/lib/systemd/boot/efi";

/// A system as a tar: a kernel, an initrd that says what it sees, the loaders of systemd, and an identity that must not stay.
fn project(folder: &Path) {
    let tree = folder.join("tree");
    let write = |name: &str, bytes: &[u8]| {
        let path = tree.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let release = release();
    let script = "echo \"line: $(cat /proc/cmdline)\"\n\
         for disk in /dev/vda*; do mount -t ext4 $disk /mnt 2>/dev/null && break; done\n\
         cat /mnt/etc/fstab /mnt/etc/machine-id; echo \"kernel: $(uname -r)\"\n";
    write(&format!("boot/vmlinuz-{release}"), &std::fs::read(kernel().0).unwrap());
    write(&format!("boot/initrd.img-{release}"), &Guest::new().initrd(script));
    write("boot/efi/.keep", b"");
    write("usr/lib/os-release", OS_RELEASE.as_bytes());
    write("usr/lib/systemd/systemd", b"");
    write("usr/bin/systemd-repart", b"");
    write("etc/machine-id", b"0123456789abcdef0123456789abcdef\n");
    write("var/lib/dbus/machine-id", b"0123456789abcdef0123456789abcdef\n");
    write("etc/fstab", b"# unconfigured\n");
    for name in ["systemd-bootx64.efi", "linuxx64.efi.stub"] {
        let file = judges::file(&format!("/{FIRMWARE}/{name}"));
        write(&format!("{FIRMWARE}/{name}"), &std::fs::read(file).unwrap());
    }
    let archive = folder.join("tree.tar");
    gnu_tar(&tree, &["--owner=0", "--group=0", "-cf", archive.to_str().unwrap(), "."]);
    std::fs::remove_dir_all(tree).unwrap();
}

const BIOS_BOOT: &str = "[[partition]]\ntype = \"bios-boot\"\nsize = \"1MiB\"\n";
const ESP: &str = "[[partition]]\ntype = \"esp\"\nlabel = \"ESP\"\nfilesystem = { type = \"vfat\" }\n";
const ROOT: &str = "[[partition]]\ntype = \"linux\"\nlabel = \"root\"\n\
     filesystem = { type = \"ext4\", label = \"trial\", free = \"16MiB\" }\n\
     contents = [ { tar = \"tree.tar\", target = \"/\" } ]\n";

/// A manifest whose section `boot` has these lines, with these partitions.
fn manifest(folder: &Path, boot: &str, partitions: &[&str]) -> std::path::PathBuf {
    let path = folder.join("disk.toml");
    let partitions = partitions.concat();
    std::fs::write(&path, format!("version = 1\n[boot]\n{boot}\n{partitions}")).unwrap();
    path
}

/// What a file of a partition of the disk holds.
fn cat(disk: &Path, place: &str) -> String {
    must(diskwright().arg("cat").arg(format!("{}:{place}", disk.display()))).text()
}

/// The name by which the kernel knows partition `number`, as sfdisk has it.
fn partuuid(disk: &Path, number: usize) -> String {
    let text = must(command("sfdisk").args(["--part-uuid"]).arg(disk).arg(number.to_string())).text();
    format!("PARTUUID={}", text.trim().to_lowercase())
}

/// The keys that say where the GRUB of this machine is.
fn grub() -> String {
    let file = judges::file("/usr/lib/grub/i386-pc/moddep.lst");
    let folder = file.parent().and_then(Path::parent).unwrap();
    format!(
        "grub = \"{}\"\ngrub_mkimage = \"{}\"\n",
        folder.display(),
        judges::find("grub-mkimage").display()
    )
}

/// Checks what a guest said that was started from a disk whose root the kernel knows by `name`.
fn started(said: &str, name: &str) {
    for line in [
        format!("root={name} rw console=ttyS0"),
        format!("{name} / ext4 defaults,x-systemd.growfs 0 1"),
        "uninitialized".to_owned(),
        format!("kernel: {}", release()),
        "guest: done".to_owned(),
    ] {
        assert!(said.contains(&line), "no `{line}` in\n{said}");
    }
}

const COMMON: &str =
    "cmdline = \"console=ttyS0 quiet panic=-1 no_timer_check\"\nfstab = true\ngrow = true\ntimeout = 0\n";

#[test]
fn a_tree_boots_by_a_bios_and_by_firmware() {
    let folder = scratch();
    project(folder.path());
    let disk = folder.path().join("disk.img");
    let boot = format!("loader = \"systemd-boot\"\nbios = true\n{}{COMMON}", grub());
    build(&manifest(folder.path(), &boot, &[BIOS_BOOT, ESP, ROOT]), &disk);
    crate::support::table::assert_clean(&disk);
    let (release, name) = (release(), partuuid(&disk, 3));
    assert_eq!(
        cat(&disk, &format!("2:/loader/entries/trial-{release}.conf")),
        format!(
            "title Trial Linux 1\nversion {release}\nsort-key trial\nlinux /trial/{release}/linux\ninitrd \
             /trial/{release}/initrd\noptions root={name} rw console=ttyS0 quiet panic=-1 no_timer_check\n"
        )
    );
    assert_eq!(cat(&disk, "2:/loader/loader.conf"), "timeout 0\ndefault trial*\n");
    assert_eq!(
        cat(&disk, "3:/etc/fstab"),
        format!(
            "{name} / ext4 defaults,x-systemd.growfs 0 1\n{} /boot/efi vfat umask=0077 0 2\n",
            partuuid(&disk, 2)
        )
    );
    let list =
        must(diskwright().args(["ls", "-l"]).arg(format!("{}:3:/var/lib/dbus", disk.display()))).text();
    assert!(list.contains("machine-id -> /etc/machine-id"), "{list}");
    let kind = "0fc63daf-8483-4772-8e79-3d69d8477de4";
    assert_eq!(cat(&disk, "3:/etc/repart.d/50-root.conf"), format!("[Partition]\nType={kind}\n"));
    let dump = must(command("sfdisk").arg("--dump").arg(&disk)).text();
    assert!(dump.contains("attrs=\"GUID:59\""), "{dump}");
    started(&Guest::new().disk(&disk).boot_by_bios(), &name);
    started(&Guest::new().disk(&disk).boot_by_firmware(), &name);
}

#[test]
fn grub_starts_a_tree_from_an_mbr_and_from_firmware() {
    let folder = scratch();
    project(folder.path());
    let disk = folder.path().join("disk.img");
    let boot = format!("loader = \"grub\"\n{}{COMMON}", grub());
    let path = manifest(folder.path(), &boot, &[ESP, ROOT]);
    build(&path, &disk);
    started(&Guest::new().disk(&disk).boot_by_firmware(), &partuuid(&disk, 2));
    let menu = cat(&disk, "2:/boot/grub/grub.cfg");
    std::fs::write(folder.path().join("grub.cfg"), &menu).unwrap();
    must(command("grub-script-check").arg(folder.path().join("grub.cfg")));
    assert!(menu.contains(&format!("/boot/vmlinuz-{} root=", release())), "{menu}");
    // An MBR, whose attributes of a GPT mean nothing.
    let text = std::fs::read_to_string(&path).unwrap();
    let root = "[[partition]]\ntype = \"0x83\"";
    let text = text.replace("[boot]\n", "[disk]\ntable = \"mbr\"\n[boot]\nfrom = \"0x83\"\n");
    let text = text.replace(ESP, "").replace("[[partition]]\ntype = \"linux\"\nlabel = \"root\"", root);
    std::fs::write(&path, text).unwrap();
    build(&path, &disk);
    crate::support::table::assert_clean(&disk);
    let signature = must(command("blkid").args(["-p", "-o", "value", "-s", "PTUUID"]).arg(&disk)).text();
    started(&Guest::new().disk(&disk).boot_by_bios(), &format!("PARTUUID={}-01", signature.trim()));
}

#[test]
fn firmware_starts_a_unified_kernel_image_of_a_tree() {
    let folder = scratch();
    project(folder.path());
    let disk = folder.path().join("disk.img");
    build(&manifest(folder.path(), &format!("loader = \"uki\"\n{COMMON}"), &[ESP, ROOT]), &disk);
    started(&Guest::new().disk(&disk).boot_by_firmware(), &partuuid(&disk, 2));
    // With systemd-boot all kernels are in its menu.
    let program = judges::file(&format!("/{FIRMWARE}/systemd-bootx64.efi"));
    let boot = format!("loader = \"uki\"\nsystemd_boot = \"{}\"\n{COMMON}", program.display());
    build(&manifest(folder.path(), &boot, &[ESP, ROOT]), &disk);
    let list = must(diskwright().arg("ls").arg(format!("{}:1:/EFI/Linux", disk.display()))).text();
    assert_eq!(list.trim(), format!("trial-{}.efi", release()));
}

/// U-Boot gives no initrd to an x86 kernel, so the kernel stops there.
#[test]
fn u_boot_reads_extlinux_conf_of_a_tree() {
    let folder = scratch();
    project(folder.path());
    let disk = folder.path().join("disk.img");
    // U-Boot waits for a second at least.
    let boot = format!("loader = \"extlinux\"\n{}", COMMON.replace("timeout = 0", "timeout = 1"));
    build(&manifest(folder.path(), &boot, &[BIOS_BOOT, ROOT]), &disk);
    let said = Guest::new().disk(&disk).boot_by_u_boot();
    for line in [
        "Found /boot/extlinux/extlinux.conf\n".to_owned(),
        format!("Retrieving file: /boot/vmlinuz-{}", release()),
        format!("append: root={} rw console=ttyS0", partuuid(&disk, 2)),
        "Starting kernel ...".to_owned(),
    ] {
        assert!(said.contains(&line), "no `{line}` in\n{said}");
    }
}

/// Limine is not a program of Debian 12: another EFI program stands for it.
#[test]
fn limine_gets_its_files() {
    let folder = scratch();
    project(folder.path());
    let program = judges::file(&format!("/{FIRMWARE}/systemd-bootx64.efi"));
    std::fs::create_dir(folder.path().join("limine")).unwrap();
    std::fs::copy(&program, folder.path().join("limine/BOOTX64.EFI")).unwrap();
    let disk = folder.path().join("disk.img");
    build(
        &manifest(
            folder.path(),
            &format!("loader = \"limine\"\nlimine = \"limine\"\n{COMMON}"),
            &[ESP, ROOT],
        ),
        &disk,
    );
    let (release, name) = (release(), partuuid(&disk, 2));
    let menu = cat(&disk, "1:/limine.conf");
    for line in [
        format!("/Trial Linux 1 ({release})\n"),
        format!("    kernel_path: boot():/trial/{release}/linux\n"),
        format!("    module_path: boot():/trial/{release}/initrd\n"),
        format!("    cmdline: root={name} rw console=ttyS0 "),
    ] {
        assert!(menu.contains(&line), "no `{line}` in\n{menu}");
    }
    let copied = must(diskwright().arg("cat").arg(format!("{}:1:/EFI/BOOT/BOOTX64.EFI", disk.display())));
    assert!(copied.out == std::fs::read(program).unwrap());
}

/// What `limine bios-install` does: the boot sector knows both halves of the second stage, in the BIOS boot partition or
/// behind an MBR. Limine is not a program of Debian 12, so bytes stand for it.
#[test]
fn limine_for_a_bios_is_embedded() {
    let folder = scratch();
    project(folder.path());
    let mut image = vec![0; 512 + 20_364];
    image[3..11].copy_from_slice(b"LIMINE  ");
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image[512..].fill(0x22);
    std::fs::create_dir(folder.path().join("limine")).unwrap();
    let array: Vec<String> = image.iter().map(|byte| format!("0x{byte:02x}")).collect();
    let text = format!("const uint8_t binary_limine_hdd_bin_data[] = {{\n{},\n}};\n", array.join(", "));
    std::fs::write(folder.path().join("limine/limine-bios-hdd.h"), text).unwrap();
    std::fs::write(folder.path().join("limine/limine-bios.sys"), b"the third stage").unwrap();
    const BOOT: &str = "[[partition]]\ntype = \"xbootldr\"\nfilesystem = { type = \"vfat\" }\n";
    let boot = format!("loader = \"limine\"\nlimine = \"limine\"\n{COMMON}");
    let mbr = format!("from = \"linux\"\n{boot}\n[disk]\ntable = \"mbr\"\n");
    let root = ROOT.replace("label = \"root\"\n", "");
    for (boot, partitions, number, start) in
        [(&boot, vec![BIOS_BOOT, BOOT, ROOT], 2, 1 << 20), (&mbr, vec![BOOT, root.as_str()], 1, 512)]
    {
        let disk = folder.path().join("disk.img");
        build(&manifest(folder.path(), boot, &partitions), &disk);
        let bytes = std::fs::read(&disk).unwrap();
        // 40 sectors, two halves of 20.
        let half = 20 * 512_u16;
        let places = [u64::try_from(start).unwrap(), u64::try_from(start).unwrap() + u64::from(half)];
        let fields = [half.to_le_bytes().repeat(2), places.map(u64::to_le_bytes).concat()].concat();
        assert_eq!(&bytes[0x1a4..0x1b8], fields);
        assert!(bytes[..0x1a4] == image[..0x1a4]);
        assert!(bytes[start..start + 20_364] == image[512..]);
        assert_eq!(cat(&disk, &format!("{number}:/limine-bios.sys")), "the third stage");
        assert!(cat(&disk, &format!("{number}:/limine.conf")).contains("kernel_path: boot():/trial/"));
        crate::support::table::assert_clean(&disk);
    }
    for (boot, partitions, words) in [
        (
            "loader = \"limine\"\n",
            vec![BIOS_BOOT, BOOT, ROOT],
            &["there is no Limine for a BIOS", "limine-bios-hdd.bin"][..],
        ),
        (
            "loader = \"limine\"\nbios = true\n",
            vec![BOOT, ROOT],
            &["a BIOS finds no Limine on this disk", "bios-boot"],
        ),
        (
            "loader = \"limine\"\nbios = true\n",
            vec![BIOS_BOOT, ROOT],
            &["no place for the files of Limine", "xbootldr"],
        ),
        (
            "loader = \"limine\"\n[disk]\narchitecture = \"arm64\"\n",
            vec![BIOS_BOOT, BOOT, ROOT],
            &["no BIOS starts a system of this processor", "arm64"],
        ),
        (
            "loader = \"limine\"\nlimine = \"tree.tar\"\n",
            vec![BIOS_BOOT, BOOT, ROOT],
            &["there is no Limine for a BIOS", "tree.tar"],
        ),
    ] {
        refused(folder.path(), boot, &partitions, words);
    }
}

fn refused(folder: &Path, boot: &str, partitions: &[&str], words: &[&str]) {
    let path = manifest(folder, boot, partitions);
    let out = folder.join("none.img");
    let said: Said = run(diskwright().arg("build").arg(&path).arg("-o").arg(&out));
    let error = said.error();
    assert!(said.code != 0 && !out.exists(), "{boot}: {error}");
    for word in words {
        assert!(error.contains(word), "{boot}: no `{word}` in\n{error}");
    }
}

/// What is made goes to where links above it lead, also where nothing is yet.
#[test]
fn boot_and_etc_may_be_links() {
    let folder = quick_scratch();
    let root = "[[partition]]\ntype = \"linux\"\nlabel = \"root\"\nfilesystem = { type = \"ext4\" }\ncontents = [\n\
        { symlink = \"usr/boot\", target = \"/boot\" },\n{ symlink = \"/usr/etc\", target = \"/etc\" },\n\
        { text = \"ID=x\", target = \"/usr/lib/os-release\" },\n{ text = \"x\", target = \"/usr/boot/vmlinuz-1 a\" },\n]\n";
    let disk = folder.path().join("disk.img");
    build(&manifest(folder.path(), "loader = \"extlinux\"\nfstab = true", &[root]), &disk);
    let menu = cat(&disk, "1:/usr/boot/extlinux/extlinux.conf");
    assert!(menu.contains("/boot/vmlinuz-1 a\n"), "{menu}");
    assert_eq!(cat(&disk, "1:/usr/etc/fstab"), format!("{} / ext4 defaults 0 1\n", partuuid(&disk, 1)));
}

/// Releases that end like a count of tries, a release that is appended to os-release, lines of fstab that do not stay, and a
/// root that is found by its type.
#[test]
fn odd_names_do_not_change_what_boots() {
    let folder = quick_scratch();
    let root = |kind: &str, label: &str| {
        format!(
            "[[partition]]\ntype = \"{kind}\"\nfilesystem = {{ type = \"ext4\", label = \"{label}\" }}\ncontents = [\n\
        {{ text = \"ID=x\\nPRETTY_NAME=old\\nPRETTY_NAME=new\\n\", target = \"/etc/os-release\" }},\n\
        {{ text = \"LABEL=x /data ext4 defaults 0 2\\n\", target = \"/etc/fstab\" }},\n\
        {{ text = \"x\", target = \"/boot/vmlinuz-6.2.0+1\" }},\n{{ text = \"x\", target = \"/boot/initrd.img-6.2.0+1\" }},\n]\n"
        )
    };
    const HOME: &str = "[[partition]]\ntype = \"home\"\nfilesystem = { type = \"ext4\" }\nsize = \"8MiB\"\n";
    std::fs::write(
        folder.path().join("loader.efi"),
        std::fs::read(judges::file(&format!("/{FIRMWARE}/systemd-bootx64.efi"))).unwrap(),
    )
    .unwrap();
    let disk = folder.path().join("disk.img");
    let boot = "loader = \"systemd-boot\"\nsystemd_boot = \"loader.efi\"\nfstab = true\n[disk]\narchitecture = \"x86-64\"";
    let said = build(&manifest(folder.path(), boot, &[ESP, &root("root-x86-64", "r"), HOME, HOME]), &disk);
    for words in
        ["/etc/fstab of the contents is replaced, with `LABEL=x /data", "partition 4 is mounted nowhere"]
    {
        assert!(said.error().contains(words), "no `{words}` in\n{}", said.error());
    }
    let entry = cat(&disk, "1:/loader/entries/x-6.2.0_1.conf");
    assert!(entry.starts_with("title new\nversion 6.2.0+1\n"), "{entry}");
    assert_eq!(cat(&disk, "2:/etc/fstab").matches(" /home ").count(), 1);
    refused(
        folder.path(),
        "loader = \"extlinux\"\nroot = \"label\"\nfrom = \"linux\"",
        &[&root("linux", "my root")],
        &["a command line cannot tell the label of the root", "found: my root"],
    );
    for (line, words) in [
        ("a\\u0000b", &["a command line cannot hold this character", "U+0000"][..]),
        ("a {roothash:root", &["this stands for no root hash", "{roothash:NAME}"]),
        ("a {ROOTHASH:root}", &["this stands for no root hash"]),
    ] {
        let boot = format!("loader = \"extlinux\"\nfrom = \"linux\"\ncmdline = \"{line}\"");
        refused(folder.path(), &boot, &[&root("linux", "r")], words);
    }
    let empty = root("linux", "r")
        .replace("{ text = \"x\", target = \"/boot/vmlinuz", "{ text = \"\", target = \"/boot/vmlinuz");
    let words = ["the kernel is an empty file", "/boot/vmlinuz-6.2.0+1"];
    refused(folder.path(), "loader = \"extlinux\"\nfrom = \"linux\"", &[&empty], &words);
}

#[test]
fn what_a_disk_lacks_to_boot_is_told() {
    let folder = quick_scratch();
    let root = |files: &str| {
        format!(
            "[[partition]]\ntype = \"linux\"\nlabel = \"root\"\nfilesystem = {{ type = \"ext4\" }}\ncontents = [\n{files}]\n"
        )
    };
    let text = |target: &str, text: &str| format!("{{ text = \"{text}\", target = \"{target}\" }},\n");
    let named = text("/etc/os-release", "ID=x\\n");
    let (empty, nameless, kernel) = (
        root(
            &(named.clone()
                + &text("/boot/config-6.1", "x")
                + &text("/usr/lib/modules/6.1/modules.dep", "x")),
        ),
        root(&text("/boot/vmlinuz-1", "x")),
        root(&(named + &text("/boot/vmlinuz-1", "x"))),
    );
    std::fs::write(folder.path().join("other"), "x").unwrap();
    let boot = "loader = \"systemd-boot\"";
    for (boot, partitions, words) in [
        (
            boot,
            &[ESP, empty.as_str()][..],
            &[
                "there is no kernel",
                "found: config-6.1 in /boot, and 6.1 in /usr/lib/modules",
                "`kernel`",
                "disk.toml:2",
            ][..],
        ),
        (boot, &[ESP, &nameless], &["does not say which system it is", "os-release", "`title`"]),
        (boot, &[&kernel], &["finds no loader on this disk", "type esp", "disk.toml:2"]),
        (boot, &[ESP, &kernel], &["does not say for which processor", "`architecture`"]),
        (
            "loader = \"extlinux\"\nfrom = \"x\"",
            &[&kernel],
            &["no partition has this label", "`root`", "disk.toml:4"],
        ),
        ("loader = \"grub\"", &[&kernel], &["nothing starts GRUB", "bios-boot"]),
        ("loader = \"extlinux\"\nbios = true", &[&kernel], &["a BIOS finds no GRUB", "bios-boot"]),
        (
            "loader = \"grub\"",
            &[BIOS_BOOT, &kernel],
            &["no files of GRUB for i386-pc", "/usr/lib/grub/i386-pc"],
        ),
        (
            "loader = \"extlinux\"\nkernel = \"vmlinuz\"",
            &[&kernel],
            &["the source does not exist", "vmlinuz", "beside it there is disk.toml, other"],
        ),
        ("loader = \"extlinux\"\nroot = \"label\"", &[&kernel], &["has no label"]),
        (
            "loader = \"extlinux\"\nroot = \"label\"",
            &[&kernel.replace("\"ext4\"", "\"ext4\", label = \"r\"")],
            &["without an initrd no kernel finds its root by a label", "partuuid"],
        ),
        ("loader = \"lilo\"", &[&kernel], &["a boot loader is one of", "disk.toml:3"]),
        ("loader = \"grub\"\ncmdline = \"{roothash:root}\"", &[BIOS_BOOT, &kernel], &["no root hash"]),
    ] {
        refused(folder.path(), boot, partitions, words);
    }
}
