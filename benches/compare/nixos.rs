//! A NixOS system of at least 1.7 GB and 45,000 files as a qcow2 that boots by UEFI, compared with programs
//! that can assemble the same disk without a virtual machine and without root.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::{Case, Group, program};
use super::trees;

/// Debian's systemd-boot.
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

pub(crate) fn run(folder: &Path) {
    let system = System::make(folder);
    let (image, theirs) = (folder.join("nixos.qcow2"), folder.join("theirs.qcow2"));
    let script = system.script(&theirs);
    let [root, closure] = [&system.root, &system.closure].map(|path| path.as_os_str().to_owned());
    let mut ours = vec!["nixos".into(), "--system".into(), system.toplevel.clone().into()];
    ours.extend(["--store-root".into(), root, "--closure".into(), closure]);
    ours.extend(["--layout", "efi", "--systemd-boot", LOADER, "-o"].map(Into::into));
    ours.push(image.clone().into_os_string());
    let mut verified = ours.clone();
    verified.push("--verify-closure".into());
    Group {
        title: "nixos: a closure to a qcow2 that boots by UEFI",
        cases: vec![
            Case::new(
                "mke2fs -d, mtools, sgdisk, qemu-img convert, from a tree that is staged already",
                "sh",
            )
            .args(["-euc", &script])
            .makes(&theirs),
            Case::new("diskwright nixos", program()).args(ours).makes(&image),
            Case::new("diskwright nixos --verify-closure", program()).args(verified).makes(&image),
        ],
    }
    .run();
}

/// A store with a system in it.
struct System {
    root: PathBuf,
    /// Its registration.
    closure: PathBuf,
    toplevel: String,
    /// The contents of its disk by our own program, as trees for the others: of the boot partition, and of
    /// the root.
    esp: PathBuf,
    staged: PathBuf,
}

impl System {
    fn make(folder: &Path) -> Self {
        let store = trees::store(folder);
        let home = folder.join("nixos");
        let system = Self {
            root: home.join("root"),
            closure: home.join("registration"),
            toplevel: "/nix/store/10000000000000000000000000000000-nixos-system-bench-26.05".to_owned(),
            esp: home.join("esp"),
            staged: home.join("staged"),
        };
        if home.join("done").exists() {
            return system;
        }
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).expect("the folder of the system can be made");
        // Linked, not copied: both programs read the same files.
        command("cp", &["-al".as_ref(), store.as_os_str(), system.root.as_os_str()]);
        let place = system.root.join(&system.toplevel[1..]);
        std::fs::create_dir_all(&place).expect("the toplevel can be made");
        for (name, bytes) in [
            ("init", b"#!/bin/sh\n".to_vec()),
            ("kernel-params", b"root=LABEL=nixos".to_vec()),
            ("nixos-version", b"26.05".to_vec()),
            ("system", b"x86_64-linux".to_vec()),
            // As large as a usual kernel and its initrd.
            ("bzImage", vec![7; 12 << 20]),
            ("initrd.zst", vec![9; 24 << 20]),
        ] {
            std::fs::write(place.join(name), bytes).expect("a file can be made");
        }
        symlink(format!("{}/bzImage", system.toplevel), place.join("kernel")).expect("a link can be made");
        symlink(format!("{}/initrd.zst", system.toplevel), place.join("initrd")).expect("a link can be made");
        system.register();
        system.stage();
        std::fs::write(home.join("done"), "").expect("the system can be marked as made");
        system
    }

    /// Writes the registration, with the true hash of every path.
    fn register(&self) {
        let mut text = String::new();
        let store = self.root.join("nix/store");
        let mut names: Vec<_> = std::fs::read_dir(&store)
            .expect("the store can be read")
            .map(|entry| {
                entry.expect("a name can be read").file_name().into_string().expect("names are text")
            })
            .collect();
        names.sort();
        for name in names {
            let progress = diskwright::progress::Progress::default();
            let digested =
                diskwright::nix::nar::hash_host(&store.join(&name), 1, &progress).expect("it is readable");
            let hash = digested.hash.to_string();
            let _ = write!(text, "/nix/store/{name}\n{}\n{}\n\n0\n", &hash[7..], digested.size);
        }
        std::fs::write(&self.closure, text).expect("the registration can be written");
    }

    /// Takes our own disk apart into trees: what the others would have to stage first is given to them.
    fn stage(&self) {
        let (disk, part) = (self.esp.with_extension("img"), self.esp.with_extension("part"));
        command(
            program(),
            &[
                "nixos".as_ref(),
                "--system".as_ref(),
                self.toplevel.as_ref(),
                "--store-root".as_ref(),
                self.root.as_os_str(),
                "--closure".as_ref(),
                self.closure.as_os_str(),
                "--layout".as_ref(),
                "efi".as_ref(),
                "--systemd-boot".as_ref(),
                LOADER.as_ref(),
                "-o".as_ref(),
                disk.as_os_str(),
            ],
        );
        // The boot partition of 249 MiB begins at 8 MiB, the root at 257 MiB.
        let cut = |skip: &str, count: &[&str]| {
            let mut dd = Command::new("dd");
            dd.args(["bs=1M", "conv=sparse", "status=none", skip]).args(count);
            dd.arg(format!("if={}", disk.display())).arg(format!("of={}", part.display()));
            assert!(dd.status().is_ok_and(|status| status.success()), "dd failed");
        };
        std::fs::create_dir_all(&self.esp).expect("a folder can be made");
        cut("skip=8", &["count=249"]);
        command(
            "mcopy",
            &["-sn".as_ref(), "-i".as_ref(), part.as_os_str(), "::".as_ref(), self.esp.as_os_str()],
        );
        std::fs::create_dir_all(&self.staged).expect("a folder can be made");
        cut("skip=257", &[]);
        let dump = format!("rdump / {}", self.staged.display());
        command("debugfs", &["-R".as_ref(), dump.as_ref(), part.as_os_str()]);
        for file in [disk, part] {
            std::fs::remove_file(file).expect("what was written can be removed");
        }
    }

    /// The commands of the others, from the staged trees.
    fn script(&self, out: &Path) -> String {
        let size = trees::bytes(&self.staged) / (1 << 20) * 5 / 4 + 512;
        format!(
            "raw={out}.raw; esp={out}.esp
             rm -f $raw $esp; truncate -s {disk}M $raw; truncate -s 249M $esp
             sgdisk -n 1:16384:+249M -t 1:ef00 -c 1:ESP -n 2:526336:0 -t 2:8300 -c 2:primary $raw > /dev/null
             mkfs.vfat -n ESP $esp > /dev/null; mcopy -s -i $esp {esp}/* ::
             dd if=$esp of=$raw bs=1M seek=8 conv=notrunc,sparse status=none
             mke2fs -q -F -t ext4 -b 4096 -L nixos -E offset={offset} -d {staged} $raw {size}M
             qemu-img convert -f raw -O qcow2 $raw {out}; rm $raw $esp",
            out = out.display(),
            disk = 257 + size + 1,
            esp = self.esp.display(),
            offset = 257_u64 << 20,
            staged = self.staged.display(),
        )
    }
}

fn command(program: &str, args: &[&std::ffi::OsStr]) {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?} failed");
}
