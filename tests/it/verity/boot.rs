//! A verified root under OVMF: firmware starts a unified kernel image that diskwright assembled, and its initrd opens the
//! root with the root hash on its own command line.

use std::path::Path;

use crate::support::guest::Guest;
use crate::support::judges::{self, kernel};
use crate::support::program::build;
use crate::support::tools::{command, must, scratch};
use crate::support::tree::noise;

/// What the initrd does, with the tools that a distribution's has.
const SCRIPT: &str = r"
hash=$(sed 's/.*roothash=\([0-9a-f]*\).*/\1/' /proc/cmdline)
echo roothash $hash
mkdir -p /dev/mapper
export DM_DISABLE_UDEV=1
if ! veritysetup open /dev/vda2 root /dev/vda3 $hash; then echo not opened; exit 0; fi
echo opened $(veritysetup status root | grep -c verified)
if ! mount -t ext4 -o ro /dev/mapper/root /mnt; then echo not mounted; exit 0; fi
echo release $(cat /mnt/etc/os-release)
if sha256sum /mnt/data > /tmp/sum; then echo read $(cat /tmp/sum); else echo refused; fi
echo state $(veritysetup status root | grep status:)
";

const MANIFEST: &str = r#"
version = 1

[[partition]]
type = "esp"
size = "160MiB"
filesystem = { type = "vfat", label = "ESP" }

[[partition.contents]]
target = "/EFI/BOOT/BOOTX64.EFI"

[partition.contents.uki]
stub = "STUB"
kernel = "KERNEL"
initrd = ["initrd"]
os_release = "tree/etc/os-release"
cmdline = "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check roothash={roothash:root} trial=1"

[[partition]]
type = "root-x86-64"
label = "root"
filesystem = { type = "ext4" }
contents = [{ source = "tree", target = "/" }]

[[partition]]
type = "root-x86-64-verity"
verity = { data = "root" }
"#;

/// Bytes of the file that is read.
const LENGTH: u64 = 3 << 20;

fn prepared(folder: &Path, guest: &Guest) -> std::path::PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=verified\n").unwrap();
    std::fs::write(tree.join("data"), noise(17, LENGTH)).unwrap();
    std::fs::write(folder.join("initrd"), guest.initrd(SCRIPT)).unwrap();
    let stub = judges::file("/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let text = MANIFEST.replace("STUB", stub.to_str().unwrap());
    let text = text.replace("KERNEL", kernel().0.to_str().unwrap());
    let manifest = folder.join("disk.toml");
    std::fs::write(&manifest, text).unwrap();
    manifest
}

fn guest() -> Guest {
    Guest::new().program("veritysetup").module("dm-verity").module("ext4")
}

#[test]
fn firmware_boots_into_a_verified_root_and_a_flipped_bit_is_refused() {
    let folder = scratch();
    let manifest = prepared(folder.path(), &guest());
    let disk = folder.path().join("disk.img");
    build(&manifest, &disk);

    let mut bytes = std::fs::read(&disk).unwrap();
    let data = noise(17, LENGTH);
    let at = bytes.windows(4096).step_by(512).position(|window| window == &data[..4096]).unwrap() * 512;

    let console = Guest::new().disk(&disk).boot_by_firmware();
    let sum = must(command("sha256sum").arg(folder.path().join("tree/data"))).text();
    let sum = sum.split_whitespace().next().unwrap();
    for line in ["opened 1", "release ID=verified", &format!("read {sum}"), "status: verified", "guest: done"]
    {
        assert!(console.contains(line), "no `{line}` in\n{console}");
    }

    // The last bit of the file's second mebibyte.
    bytes[at + (2 << 20) - 1] ^= 1;
    std::fs::write(&disk, bytes).unwrap();
    let console = Guest::new().disk(&disk).boot_by_firmware();
    for line in ["opened 1", "release ID=verified", "refused", "status: corrupted", "guest: done"] {
        assert!(console.contains(line), "no `{line}` in\n{console}");
    }
}

#[test]
fn binutils_finds_the_sections_of_a_unified_kernel_image() {
    let folder = scratch();
    let manifest = prepared(folder.path(), &guest());
    let disk = folder.path().join("disk.img");
    build(&manifest, &disk);
    let esp = folder.path().join("esp.img");
    let extent = crate::support::table::partitions(&disk)[0];
    crate::support::table::extract(&disk, extent, &esp);
    crate::support::fat::assert_clean(&esp);
    let image = folder.path().join("x.efi");
    must(command("mcopy").arg("-i").arg(&esp).arg("::/EFI/BOOT/BOOTX64.EFI").arg(&image));
    let section = |name: &str| {
        let out = folder.path().join("section");
        let mut dump = command("objcopy");
        dump.args(["-O", "binary", "--dump-section"]).arg(format!("{name}={}", out.display()));
        must(dump.arg(&image).arg(folder.path().join("copy")));
        std::fs::read(out).unwrap()
    };
    assert!(section(".linux") == std::fs::read(kernel().0).unwrap());
    assert!(section(".initrd") == std::fs::read(folder.path().join("initrd")).unwrap());
    assert_eq!(section(".osrel"), b"ID=verified\n");
    let line = String::from_utf8(section(".cmdline")).unwrap();
    let hash = line.split("roothash=").nth(1).unwrap().split(' ').next().unwrap();
    let [data, hashes] = [1, 2].map(|number| {
        let file = folder.path().join(format!("part{number}"));
        crate::support::table::extract(&disk, crate::support::table::partitions(&disk)[number], &file);
        file
    });
    must(command("veritysetup").arg("verify").arg(data).arg(hashes).arg(hash));
    let release = kernel().0.file_name().unwrap().to_str().unwrap().replace("vmlinuz-", "");
    assert_eq!(section(".uname"), release.as_bytes());
}
