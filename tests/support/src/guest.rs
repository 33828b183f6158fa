//! A guest in QEMU: Debian's cloud kernel, an initrd written here, disks, and a shell script that runs as
//! init. It is for tests that need a kernel and privileges of their own.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::cpio::Cpio;
use super::judges::{self, kernel};
use super::tools::{Said, attend, build_folder, command, must, scratch};

/// A line at the end of the script; without it the guest died earlier.
const DONE: &str = "guest: done";

/// A line before the script, so that earlier messages of the kernel can be left out.
const BEGIN: &str = "guest: begin";

/// The modules a disk needs, as far as they are not built into the kernel.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "crc32c_generic"];

/// The module that tests/install builds.
const ZFS: &str = "zfs";

/// How long a guest may take: a guard against one that hangs.
const LIMIT: Duration = Duration::from_secs(900);

/// A machine to be started.
#[derive(Debug, Default)]
pub struct Guest {
    /// Files, and what QEMU calls their formats.
    disks: Vec<(PathBuf, &'static str)>,
    programs: Vec<&'static str>,
    modules: Vec<&'static str>,
    /// Files of the initrd, by their paths without the first slash.
    files: Vec<(&'static str, Vec<u8>)>,
    /// The keys that are typed once the console has printed a text.
    typed: Option<(&'static str, &'static [u8])>,
    /// More arguments of QEMU.
    arguments: Vec<String>,
}

impl Guest {
    /// A machine without disks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a raw disk: `/dev/vda`, then `/dev/vdb`.
    pub fn disk(self, image: &Path) -> Self {
        self.disk_as(image, "raw")
    }

    /// Adds a disk in a format that QEMU knows.
    pub fn disk_as(mut self, image: &Path, format: &'static str) -> Self {
        self.disks.push((image.to_owned(), format));
        self
    }

    /// Adds arguments of QEMU.
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Types `keys` once the console has printed `cue`. Each key must be one byte: a key of several bytes,
    /// such as an arrow, may reach the guest in parts, and the first part is the escape key.
    pub fn types(mut self, cue: &'static str, keys: &'static [u8]) -> Self {
        self.typed = Some((cue, keys));
        self
    }

    /// Puts a program of this machine and its libraries into the initrd.
    pub fn program(mut self, name: &'static str) -> Self {
        self.programs.push(name);
        self
    }

    /// Puts a file into the initrd; `path` has no slash at its start.
    pub fn file(mut self, path: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((path, bytes.into()));
        self
    }

    /// Loads the modules of ZFS, and brings its programs.
    pub fn zfs(self) -> Self {
        let programs = ["zpool", "zfs"];
        programs.into_iter().fold(self.module(ZFS), Self::program)
    }

    /// Loads a module of the kernel and what it depends on, before anything else is done.
    pub fn module(mut self, name: &'static str) -> Self {
        self.modules.push(name);
        self
    }

    /// Starts it, runs `script` as root with busybox's tools, and returns what it printed. A command that fails ends
    /// the script, and with it the test.
    pub fn run(self, script: &str) -> String {
        let folder = scratch();
        let initrd = folder.path().join("initrd");
        std::fs::write(&initrd, self.initrd(script)).unwrap();
        let (kernel, _) = kernel();
        let mut qemu = self.machine();
        // On a busy host the timer of an emulated machine may not tick while the kernel checks it.
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check"]);
        qemu.arg("-kernel").arg(&kernel).arg("-initrd").arg(&initrd);
        let said = self.start(&mut qemu);
        let text = said.text().replace('\r', "");
        let (_, printed) =
            text.split_once(BEGIN).unwrap_or_else(|| panic!("no start:\n{text}\n{}", said.error()));
        let (printed, _) = printed.split_once(DONE).unwrap_or_else(|| panic!("the script failed:\n{text}"));
        printed.trim().to_owned()
    }

    /// Starts it by its own boot loader under OVMF and returns the console's output until the power went off.
    pub fn boot_by_firmware(self) -> String {
        let folder = scratch();
        let firmware = judges::file("/usr/share/OVMF");
        let variables = folder.path().join("variables");
        let suffix = if firmware.join("OVMF_CODE_4M.fd").exists() { "_4M.fd" } else { ".fd" };
        std::fs::copy(firmware.join(format!("OVMF_VARS{suffix}")), &variables).unwrap();
        let mut qemu = self.machine();
        let code = firmware.join(format!("OVMF_CODE{suffix}"));
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={}", code.display()));
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
        self.start(&mut qemu).text().replace('\r', "")
    }

    /// Starts it by its own boot loader under SeaBIOS and returns the console's output until the power went
    /// off.
    pub fn boot_by_bios(self) -> String {
        self.start(&mut self.machine()).text().replace('\r', "")
    }

    /// Starts U-Boot instead of a BIOS, which boots what it finds, and returns the console's output until the
    /// end.
    pub fn boot_by_u_boot(self) -> String {
        let rom = judges::file("/usr/lib/u-boot/qemu-x86/u-boot.rom");
        let mut qemu = self.machine();
        self.start(qemu.arg("-bios").arg(rom)).text().replace('\r', "")
    }

    /// QEMU with the disks of this machine, without a screen and a network.
    fn machine(&self) -> Command {
        let mut qemu = command("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-nodefaults", "-nographic", "-no-reboot"]);
        // A guest's clock may run ahead of a busy host's, and e2fsck would remark on writes in the future.
        qemu.args(["-rtc", "base=2020-01-01T00:00:00"]);
        qemu.args(["-serial", "stdio"]);
        for (disk, format) in &self.disks {
            // Data only has to be safe in the guest's kernel: the host outlives the test.
            let drive =
                format!("file={},format={format},if=virtio,cache=unsafe,discard=unmap", disk.display());
            qemu.arg("-drive").arg(drive);
        }
        qemu.args(&self.arguments);
        qemu
    }

    /// Runs QEMU until the guest ends. A guest that does not end fails with its output.
    fn start(&self, qemu: &mut Command) -> Said {
        let _turn = turn();
        let input = if self.typed.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = qemu.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Kept until the end of the guest, because a console without an input behaves otherwise.
        let (mut keyboard, mut waiting) = (child.stdin.take(), self.typed);
        attend(child, LIMIT, move |seen| {
            if let (Some((cue, keys)), Some(keyboard)) = (waiting, &mut keyboard)
                && ends_after(seen, cue)
            {
                waiting = None;
                // A guest that is gone already has its console judged.
                let _ = keyboard.write_all(keys).and_then(|()| keyboard.flush());
            }
        })
    }

    /// An initrd that runs `script` as [`Guest::run`] does, for a machine that finds it by itself.
    pub fn initrd(&self, script: &str) -> Vec<u8> {
        let mut cpio = Cpio::default();
        let has_zfs = self.modules.contains(&ZFS);
        let modules = if has_zfs { judges::zfs_modules() } else { kernel().1 };
        // The kernel opens this as the first three file descriptors before /dev is mounted.
        cpio.device("dev/console", (5, 1));
        for directory in ["proc", "sys", "mnt", "tmp", "etc"] {
            cpio.directory(directory);
        }
        if has_zfs {
            // Its programs read there what is mounted.
            cpio.symlink("etc/mtab", "/proc/mounts");
        }
        let (busybox, _) = judges::binary("busybox");
        cpio.file("bin/busybox", 0o755, &std::fs::read(busybox).unwrap());
        cpio.symlink("bin/sh", "busybox");
        let mut load = String::new();
        let names: Vec<_> = MODULES.iter().chain(&self.modules).copied().collect();
        for module in needed(&modules, &names) {
            let name = module.rsplit('/').next().unwrap_or(&module).to_owned();
            cpio.file(&format!("modules/{name}"), 0o644, &std::fs::read(modules.join(&module)).unwrap());
            let _ = writeln!(load, "insmod /modules/{name}");
        }
        for program in &self.programs {
            let (path, folder) = judges::binary(program);
            cpio.file(&format!("bin/{program}"), 0o755, &std::fs::read(&path).unwrap());
            for library in libraries_in(&path, folder.as_deref()) {
                // The guest's loader looks for all libraries here, wherever they are on the host.
                let name = library.rsplit('/').next().unwrap_or(&library);
                let place = if folder.is_some() && !name.starts_with("ld-") {
                    format!("lib/{name}")
                } else {
                    library.trim_start_matches('/').to_owned()
                };
                cpio.file(&place, 0o755, &std::fs::read(&library).unwrap());
            }
        }
        for (path, bytes) in &self.files {
            cpio.file(path, 0o644, bytes);
        }
        cpio.file("script", 0o755, format!("#!/bin/sh\nset -e\n{script}\n").as_bytes());
        let init = format!(
            "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t proc proc /proc\n\
             mount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n{load}echo '{BEGIN}'\n\
             sh /script 2>&1 && echo '{DONE}'\nsync\npoweroff -f\n"
        );
        cpio.file("init", 0o755, init.as_bytes());
        cpio.finish()
    }
}

/// Whether `cue` stands in what was read last: as far back as one read of the console reaches.
fn ends_after(seen: &[u8], cue: &str) -> bool {
    let tail = &seen[seen.len().saturating_sub(4096 + cue.len())..];
    tail.windows(cue.len()).any(|part| part == cue.as_bytes())
}

/// How many guests may run at once, over all processes. An emulated machine takes a core and 1 GiB, and
/// firmware that gets too little processor time runs into its own timeouts.
const GUESTS: u32 = 2;

/// Waits until fewer than `GUESTS` run, in all processes that test this build. The lock of the file stands
/// for one guest; it ends with the process that holds it.
pub fn turn() -> File {
    loop {
        for number in 0..GUESTS {
            let place = build_folder().join(format!("guest-{number}"));
            let place = File::options().create(true).truncate(false).write(true).open(place).unwrap();
            if place.try_lock().is_ok() {
                return place;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The files of modules and of all modules that they depend on, dependencies first. A built-in module has no
/// file and is not in the list.
pub fn needed(modules: &Path, names: &[&str]) -> Vec<String> {
    let list = modules.join("modules.dep");
    let list = std::fs::read_to_string(&list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    let mut files: Vec<String> = Vec::new();
    for name in names {
        let Some((file, others)) = list
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| file.rsplit('/').next() == Some(&format!("{name}.ko")))
        else {
            continue;
        };
        // "a.ko: b.ko c.ko": c before b before a (depmod(8)).
        for file in others.split_whitespace().rev().chain([file]) {
            if !files.iter().any(|other| other == file) {
                files.push(file.to_owned());
            }
        }
    }
    files
}

/// The libraries a program is linked with, the loader among them.
pub fn libraries(program: &Path) -> Vec<String> {
    libraries_in(program, None)
}

/// The same for a program some of whose libraries lie in `folder`.
fn libraries_in(program: &Path, folder: Option<&Path>) -> Vec<String> {
    let mut ldd = command("ldd");
    ldd.envs(folder.map(|folder| ("LD_LIBRARY_PATH", folder))).arg(program);
    let said = must(&mut ldd);
    said.text().split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
