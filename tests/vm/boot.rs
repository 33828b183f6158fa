//! Boots under TCG: each way to get disks, what stays for the next start, folders of the host.

use std::path::Path;

use crate::closure::{registration, store_root, systems};
use crate::machine::{Bench, boot, console};
use crate::support::judges;
use crate::support::program::diskwright;
use crate::support::tools::{command, must, names_in, run, scratch};

/// Says which disks there are, and counts the starts in a file on the disk whose serial is `root`.
const ROOT: &str = r#"
for disk in /sys/block/vd*; do
  echo "disk: $(cat $disk/serial) sectors $(cat $disk/size) ro $(cat $disk/ro)"
done
for disk in /sys/block/vd*; do if [ "$(cat $disk/serial)" = root ]; then root=/dev/${disk##*/}; fi; done
if [ "$(findfs LABEL=nixos)" = $root ]; then echo "root: labelled"; fi
mount -t ext4 $root /mnt
echo start >> /mnt/starts
echo "starts: $(wc -l < /mnt/starts)"
"#;

/// Mounts the store disk read only below the root, and an overlay over it that can be written.
const STORE: &str = r#"
for disk in /sys/block/vd*; do if [ "$(cat $disk/serial)" = nix-store ]; then store=/dev/${disk##*/}; fi; done
mkdir -p /mnt/nix/.ro-store /mnt/nix/.rw-store /mnt/nix/store /nix
mount --bind /mnt/nix /nix
mount -t $type -o ro $store /nix/.ro-store
mount -t tmpfs tmpfs /nix/.rw-store
mkdir /nix/.rw-store/upper /nix/.rw-store/work
mount -t overlay -o lowerdir=/nix/.ro-store,upperdir=/nix/.rw-store/upper,workdir=/nix/.rw-store/work overlay /nix/store
init=$(tr ' ' '\n' < /proc/cmdline | sed -n s/^init=//p)
echo "init: $(stat -c '%u:%g %a %Y' $(dirname $init)) $(head -n 1 $init)"
registration=$(tr ' ' '\n' < /proc/cmdline | sed -n s/^regInfo=//p)
echo "registered: $(grep -c '^/nix/store/.*system-tiny' $registration)"
touch /nix/store/new && echo "store: writable"
touch /nix/.ro-store/new 2> /dev/null || echo "store disk: read only"
"#;

const END: &str = "umount -a -r 2> /dev/null || true\n";

#[test]
fn a_root_alone_is_empty_at_first_and_stays() {
    let bench = Bench::booting(&format!("{ROOT}\n{END}"), &["ext4"]);
    let run = || {
        let mut vm = bench.vm();
        vm.args(["--accel", "tcg", "--mode", "root-alone", "--share-by", "9p", "--disk-size", "512MiB"]);
        console(vm.args(["--empty-disk", "64MiB,serial=first", "--empty-disk", "size=1GiB,serial=second"]))
    };
    for starts in ["starts: 1\n", "starts: 2\n"] {
        let said = run();
        for line in [
            "disk: root sectors 1048576 ro 0",
            "disk: first sectors 131072 ro 0",
            "disk: second sectors 2097152 ro 0",
            "root: labelled",
            starts,
        ] {
            assert!(said.contains(line), "no `{line}` in\n{said}");
        }
    }
    // Nothing but the state stays, and that is small.
    let left = names_in(bench.folder());
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("nix-vm.")), "{left:?}");
    let state = &names_in(&bench.folder().join("nixos-vm"))[0];
    let root = bench.folder().join("nixos-vm").join(state).join("root.qcow2");
    must(command("qemu-img").arg("check").arg(&root));
    assert!(root.metadata().unwrap().len() < 16 << 20);
}

#[test]
fn a_store_disk_is_read_only_and_has_its_registration() {
    for kind in ["ext4", "erofs"] {
        let script = format!("type={kind}\n{ROOT}\n{STORE}\n{END}");
        let bench = Bench::booting(&script, &["ext4", "overlay", "erofs"]);
        for starts in ["starts: 1\n", "starts: 2\n"] {
            let mut vm = bench.vm();
            let said = console(vm.args(["--accel", "tcg", "--mode", "store-disk", "--store-type", kind]));
            for line in [
                "disk: root sectors 2097152 ro 0",
                "ro 1",
                "init: 0:0 555 1 #!/bin/sh",
                "registered: 1",
                "store: writable",
                "store disk: read only",
                starts,
            ] {
                assert!(said.contains(line), "{kind}: no `{line}` in\n{said}");
            }
        }
    }
}

/// Nix itself, in the machine, fills its database from the registration, and finds every store path as it is registered.
#[test]
fn real_nix_takes_the_registration_of_a_store_disk() {
    let nix = r#"
rm /nix/store/new
mkdir -p /root /etc
echo root:x:0:0::/root:/bin/sh > /etc/passwd
export HOME=/root NIX_CONFIG="build-users-group ="
nix-store --load-db < $registration
nix-store --query --requisites $(dirname $init) | sed 's/^/known: /'
nix-store --verify --check-contents && echo "nix: verified"
"#;
    let script = format!("type=ext4\n{ROOT}\n{STORE}\n{nix}\n{END}");
    let bench = Bench::booting_with(&script, &["ext4", "overlay"], &["nix-store"]);
    let mut vm = bench.vm();
    let said = console(vm.args(["--accel", "tcg", "--mode", "store-disk"]));
    for line in [format!("known: {}", bench.system), "-linux-6.1\n".to_owned(), "nix: verified\n".to_owned()]
    {
        assert!(said.contains(&line), "no `{line}` in\n{said}");
    }
}

/// The full disk of a system, over which the machine writes: what it wrote is there again, another system does not see it, and
/// the disk itself was never a file.
#[test]
fn what_is_written_over_a_full_disk_is_there_at_the_next_start() {
    let bench = Bench::booting(
        &format!("{ROOT}\nls -d /mnt/nix/store/*system-tiny*\nls -l /mnt/nix/var/nix/db/db.sqlite\n{END}"),
        &["ext4"],
    );
    let run_with = |space: &str, more: &[&str]| {
        let mut vm = bench.vm();
        console(vm.args(["--accel", "tcg", "--additional-space", space]).args(more))
    };
    let run = |more: &[&str]| run_with("32MiB", more);
    for (more, starts) in
        [(&[][..], 1), (&[][..], 2), (&["--temporary"][..], 1), (&[][..], 3), (&["--fresh"][..], 1)]
    {
        let said = run(more);
        for line in [format!("starts: {starts}\n"), bench.system.clone(), "root: labelled".to_owned()] {
            assert!(said.contains(&line), "{more:?}: no `{line}` in\n{said}");
        }
    }
    // Another disk has another state: that of the first one stays.
    assert!(run_with("64MiB", &[]).contains("starts: 1\n"));
    assert!(run(&[]).contains("starts: 2\n"));
    let states = names_in(&bench.folder().join("nixos-vm"));
    assert_eq!(states.len(), 2, "{states:?}");
    // QEMU opens the overlay over nothing else.
    let overlay = bench.folder().join("nixos-vm").join(&states[0]).join("root.qcow2");
    let said = must(command("qemu-img").arg("info").arg(&overlay)).text();
    assert!(said.contains("backing file: unwritten-sha256-"), "{said}");
    assert_ne!(run_quietly(&overlay), 0);
}

fn run_quietly(overlay: &Path) -> i32 {
    run(command("qemu-io").args(["-c", "read 0 512"]).arg(overlay)).code
}

/// scsi and a real IDE: the system sees its disks on the bus that was asked for.
#[test]
fn disks_are_on_the_bus_that_was_asked_for() {
    for (bus, modules, expected) in [
        ("scsi", &["virtio_scsi", "sd_mod"][..], "bus: virtio"),
        ("ide", &["ata_piix", "sd_mod"][..], "bus: ata"),
    ] {
        let script = r#"
sleep 1
echo "bus: $(readlink -f /sys/block/sda | tr '/' '\n' | grep -o -E '^(ata|virtio)' | head -n 1)"
cat /sys/block/sda/device/vendor /sys/block/sda/device/model
echo "size: $(cat /sys/block/sda/size)"
"#;
        let bench = Bench::booting(script, modules);
        let mut vm = bench.vm();
        vm.args(["--accel", "tcg", "--mode", "root-alone", "--share-by", "9p", "--disk-size", "256MiB"]);
        let said = console(vm.args(["--disk-interface", bus]));
        assert!(said.contains(expected) && said.contains("size: 524288\n"), "{bus}:\n{said}");
    }
}

/// Folders by virtiofs. Debian 12 has the older program of that name, which takes its folder by another option.
#[test]
fn folders_are_shared_by_virtiofs() {
    crate::support::left_out::need_root("the virtiofsd of QEMU 7.2, which sets its groups");
    let old = judges::file("/usr/lib/qemu/virtiofsd");
    let script = r#"
mkdir -p /nix/.ro-store /tmp/xchg
mount -t virtiofs nix-store /nix/.ro-store
mount -t virtiofs xchg /tmp/xchg
echo "store: $(ls /nix/.ro-store | grep -c system-tiny)"
touch /nix/.ro-store/new 2> /dev/null || echo "store: read only"
cat /tmp/xchg/from-host
echo "from guest" > /tmp/xchg/from-guest
umount /tmp/xchg /nix/.ro-store
"#;
    let bench = Bench::booting(script, &["virtiofs"]);
    let wrapper = bench.folder().join("virtiofsd");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> {folder}/called\n[ \"$1 $3\" = '--socket-path --shared-dir' ] || exit 2\n\
         case $* in *--readonly*) more=,ro ;; esac\nexec {} --socket-path=\"$2\" -o source=\"$4\" -o cache=always\n",
        old.display(),
        folder = bench.folder().display()
    );
    std::fs::write(&wrapper, text.replace("case $* in *--readonly*) more=,ro ;; esac\n", "")).unwrap();
    must(command("chmod").arg("+x").arg(&wrapper));
    let shared = bench.folder().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("from-host"), "from host\n").unwrap();
    let mut vm = bench.vm();
    vm.args([
        "--accel",
        "tcg",
        "--mode",
        "root-alone",
        "--share",
        "tag=xchg,source=$SHARED_DIR,writable=true",
    ]);
    vm.env("SHARED_DIR", &shared).arg("--virtiofsd").arg(&wrapper);
    let said = console(&mut vm);
    for line in ["store: 1\n", "from host\n"] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    assert_eq!(std::fs::read_to_string(shared.join("from-guest")).unwrap(), "from guest\n");
    let called = std::fs::read_to_string(bench.folder().join("called")).unwrap();
    let calls: Vec<&str> = called.lines().collect();
    assert!(
        calls.len() == 2 && calls[0].ends_with("--readonly") && calls[1].ends_with("--writeback"),
        "{called}"
    );
}

/// The systems of real Nix, by their own boot loaders, from a disk that is never written.
fn by_loader(layout: &str, more: &[&std::ffi::OsStr]) {
    let folder = scratch();
    let systems = systems();
    let closure = registration(folder.path(), &[&systems.system, &systems.earlier]);
    for _ in 0..2 {
        let mut vm = diskwright();
        vm.current_dir(folder.path()).env("TMPDIR", folder.path());
        vm.args([
            "vm",
            "--accel",
            "tcg",
            "--layout",
            layout,
            "--system",
            &systems.system,
            "--memory",
            "1GiB",
        ]);
        vm.arg("--store-root").arg(store_root()).arg("--closure").arg(&closure);
        vm.args(crate::closure::small(layout)).args(["--timeout", "1"]).args(more);
        let said = boot(vm.args(["--qemu-options", "-no-reboot"]));
        let text = said.text().replace('\r', "");
        for line in [
            format!("init: from {}", systems.system),
            "init: label nixos".to_owned(),
            "init: writable".to_owned(),
            "init: end of main".to_owned(),
        ] {
            assert!(text.contains(&line), "{layout}: no `{line}` in\n{text}\n{}", said.error());
        }
        assert_eq!(said.code, 0, "{}", said.error());
    }
    // No disk was written: all that there is beside the closure's list is the machine's state, which is much less. Whether the
    // store still has what it had is not asked, since other tests build and collect in it meanwhile.
    let said = must(command("du").args(["--bytes", "--max-depth=0"]).arg(folder.path()));
    let bytes: u64 = said.text().split_whitespace().next().and_then(|count| count.parse().ok()).unwrap();
    assert!(bytes < 64 << 20, "{bytes}");
}

#[test]
fn a_bios_boots_a_disk_that_was_never_written() {
    let flags = ["--grub", crate::closure::grub(), "--grub-mkimage", crate::closure::grub_mkimage()];
    by_loader("legacy", &flags.map(AsRef::as_ref));
}

#[test]
fn firmware_boots_a_disk_that_was_never_written() {
    let folder = judges::file("/usr/share/OVMF");
    let suffix = if folder.join("OVMF_CODE_4M.fd").exists() { "_4M.fd" } else { ".fd" };
    let [code, variables] = ["OVMF_CODE", "OVMF_VARS"].map(|name| folder.join(format!("{name}{suffix}")));
    by_loader(
        "efi",
        &["--efi-firmware".as_ref(), code.as_ref(), "--efi-variables".as_ref(), variables.as_ref()],
    );
}
