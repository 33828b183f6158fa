//! The files of each loader for the kernels that were found.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::find::{self, Kernel, Release};
use super::{Making, RootBy, Seat, Volume};
use crate::boot::uki::{Part, Uki, uname};
use crate::boot::{Entry, Firmware, extlinux, pe, systemd_boot};
use crate::disk::Payload;
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::tree::Meta;
use crate::units::Bytes;

/// Where systemd keeps its EFI programs.
const PROGRAMS: &str = "/usr/lib/systemd/boot/efi";

impl Making<'_> {
    /// The kernels: that of this machine which was given, or those of the root.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a root by its label without an initrd: the kernel itself looks at no labels.
    pub(super) fn kernels(&self) -> Result<Vec<Kernel>> {
        let kernels = self.found_kernels()?;
        for kernel in &kernels {
            if kernel.kernel.whole("a kernel")?.length() == Bytes::ZERO {
                return Err(
                    Error::new(Kind::Source, "the kernel is an empty file").found(kernel.kernel.shown())
                );
            }
        }
        let by_label = self.plan.wish.root == RootBy::Label && !self.plan.wish.says_root();
        if let Some(kernel) = kernels.iter().find(|kernel| by_label && kernel.initrds.is_empty()) {
            return Err(Error::new(Kind::Manifest, "without an initrd no kernel finds its root by a label")
                .found(format!("no initrd for {}", kernel.kernel.shown()))
                .expected("`initrd`, or `root = \"partuuid\"`")
                .hint("an initrd inside the kernel is told by `root = \"none\"` and a `cmdline`"));
        }
        Ok(kernels)
    }

    fn found_kernels(&self) -> Result<Vec<Kernel>> {
        let wish = &self.plan.wish;
        let devicetree = || wish.devicetree.clone().map(Part::from);
        let given = |paths: &[PathBuf]| paths.iter().cloned().map(Part::from).collect::<Vec<_>>();
        if let Some(path) = &wish.kernel {
            let kernel = Part::from(path.clone());
            let slice = kernel.whole("a kernel").map_err(|error| error.or_hint(beside(path)))?;
            let version = uname::of(&slice)?.unwrap_or_default();
            let (initrds, devicetree) = (given(&wish.initrds), devicetree());
            return Ok(vec![Kernel { version, kernel, initrds, devicetree, devicetrees: None }]);
        }
        let mut kernels = find::kernels(self.view)?;
        for kernel in &mut kernels {
            if !wish.initrds.is_empty() {
                kernel.initrds = given(&wish.initrds);
            }
            kernel.devicetree = devicetree();
        }
        Ok(kernels)
    }

    /// The firmware that EFI programs are for: that of the disk's processor, or else of the kernel's.
    pub(super) fn firmware(&self, kernels: &[Kernel]) -> Result<Firmware> {
        if let Some(architecture) = self.plan.architecture {
            return Firmware::of(architecture);
        }
        let machine = match kernels.first() {
            Some(kernel) => pe::machine(&kernel.kernel.whole("a kernel")?)?,
            None => None,
        };
        machine.and_then(Firmware::of_machine).ok_or_else(|| {
            let error = Error::new(Kind::Manifest, "the kernel does not say for which processor it is");
            let kernel = kernels.first().map(|kernel| kernel.kernel.shown());
            let error = kernel
                .into_iter()
                .fold(error, |error, kernel| error.found(format!("no kernel as Linux builds one, {kernel}")));
            error.expected("`architecture` of the disk: x86-64, arm64, …")
        })
    }

    /// An EFI program: the one that was given, or else one of the root, by its possible names.
    pub(super) fn program(
        &self,
        given: Option<&PathBuf>,
        inside: &[String],
        firmware: Firmware,
        (what, hint): (&str, &'static str),
    ) -> Result<Part> {
        let found = match given {
            Some(path) => Some(Part::from(path.clone())),
            None => {
                let there = inside.iter().find(|path| self.view.is_file(path));
                there.map_or(Ok(None), |path| find::part(self.view, path))?
            }
        };
        let part = found.ok_or_else(|| {
            Error::new(Kind::Source, format!("there is no {what}"))
                .expected(inside.last().map_or("a file that is given", String::as_str))
                .why("nothing in the contents of the root has that name")
                .hint(hint)
        })?;
        let machine = pe::machine(&part.whole("an EFI program")?)?;
        if machine == Some(firmware.machine()) {
            return Ok(part);
        }
        let error = Error::new(Kind::Source, format!("{what} is no EFI program for this processor"))
            .expected(format!("one for {firmware}"))
            .found(match machine {
                None => "no EFI program".to_owned(),
                Some(other) => Firmware::of_machine(other)
                    .map_or_else(|| format!("machine type {other:#06x}"), |other| format!("one for {other}")),
            });
        Err(match &part {
            Part::Host(path) => error.at(path),
            Part::Inside { .. } => error,
        })
    }

    pub(super) fn copy(
        &mut self,
        volume: &Volume,
        target: impl Into<String>,
        part: &Part,
        what: &str,
    ) -> Result<()> {
        let payload = Payload::Slice { slice: part.whole(what)?, meta: Meta::root(0o644, self.plan.time) };
        self.add(volume, target, payload);
        Ok(())
    }

    /// The path of a file on the filesystem that a loader reads. A file of another filesystem is copied.
    fn place(&mut self, seat: Seat<'_>, part: &Part, name: &str) -> Result<String> {
        if let Part::Inside { path, .. } = part
            && seat.volume.number == self.plan.root()?.number
        {
            return Ok(path.clone());
        }
        let path = format!("{}/{name}", seat.above);
        self.copy(seat.volume, path.clone(), part, "a file to boot from")?;
        Ok(path)
    }

    /// The entries of a menu on the filesystem `seat`, the newest kernel first.
    pub(super) fn menu(
        &mut self,
        seat: Seat<'_>,
        release: &Release,
        kernels: &[Kernel],
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for kernel in kernels {
            let token = &release.id;
            let (id, folder) = match kernel.version.as_str() {
                "" => (token.clone(), token.clone()),
                version => (format!("{token}-{version}"), format!("{token}/{version}")),
            };
            let image = self.place(seat, &kernel.kernel, &format!("{folder}/linux"))?;
            let mut initrds = Vec::new();
            for (number, initrd) in (1..).zip(&kernel.initrds) {
                let number = if number == 1 { String::new() } else { format!("-{number}") };
                initrds.push(self.place(seat, initrd, &format!("{folder}/initrd{number}"))?);
            }
            let devicetree = kernel.devicetree.as_ref();
            let devicetree = devicetree.map(|file| self.place(seat, file, &format!("{folder}/devicetree")));
            let in_root = seat.volume.number == self.plan.root()?.number;
            entries.push(Entry {
                id,
                title: release.title.clone(),
                version: kernel.version.clone(),
                sort_key: token.clone(),
                kernel: image,
                initrds,
                devicetree: devicetree.transpose()?,
                devicetrees: kernel.devicetrees.clone().filter(|_| in_root),
                parameters: self.plan.command_line()?,
            });
        }
        Ok(entries)
    }

    fn esp(&self) -> Result<Volume> {
        self.plan.esp().cloned().ok_or_else(|| Error::bug("a loader has no EFI system partition"))
    }

    pub(super) fn systemd_boot(&mut self, release: &Release, kernels: &[Kernel]) -> Result<()> {
        let firmware = self.firmware(kernels)?;
        let esp = self.esp()?;
        self.systemd_boot_program(&esp, firmware)?;
        // systemd-boot reads what the firmware reads.
        let fat = |volume: &&Volume| matches!(volume.spec, crate::filesystem::Spec::Vfat(_));
        let boot = self.plan.xbootldr().filter(fat).cloned().unwrap_or_else(|| esp.clone());
        let entries = self.menu(Seat { volume: &boot, above: "" }, release, kernels)?;
        let default = format!("{}*", release.id);
        let files = systemd_boot::menu(&entries, self.plan.wish.timeout, &default)?;
        for (path, file) in files.iter() {
            if let crate::boot::files::Content::Bytes(bytes) = &file.content {
                let volume = if path == "/loader/loader.conf" { &esp } else { &boot };
                let payload = self.plan.text(&String::from_utf8_lossy(bytes), volume, file.mode)?;
                self.add(volume, path, payload);
            }
        }
        Ok(())
    }

    fn systemd_boot_program(&mut self, esp: &Volume, firmware: Firmware) -> Result<()> {
        let name = format!("{PROGRAMS}/systemd-boot{}.efi", firmware.efi());
        let hint = "give the EFI program by `systemd_boot`; it is in Debian's systemd-boot-efi and Fedora's systemd-boot-unsigned";
        let given = self.plan.wish.systemd_boot.as_ref();
        let program =
            self.program(given, &[format!("{name}.signed"), name], firmware, ("systemd-boot", hint))?;
        for target in systemd_boot::programs(firmware) {
            self.copy(esp, target, &program, "systemd-boot")?;
        }
        Ok(())
    }

    pub(super) fn extlinux(&mut self, release: &Release, kernels: &[Kernel]) -> Result<()> {
        let plan = self.plan;
        let seat = plan.seat()?;
        let entries = self.menu(seat, release, kernels)?;
        let text = extlinux::menu(&release.title, &entries, plan.wish.timeout)?;
        let payload = plan.text(&text, seat.volume, 0o644)?;
        self.add(seat.volume, format!("{}/extlinux/extlinux.conf", seat.above), payload);
        Ok(())
    }

    /// Unified kernel images: all where systemd-boot finds them, or the newest where the firmware does.
    pub(super) fn uki(&mut self, release: &Release, kernels: &[Kernel]) -> Result<()> {
        let (esp, firmware) = (self.esp()?, self.firmware(kernels)?);
        let inside = [format!("{PROGRAMS}/linux{}.efi.stub", firmware.efi())];
        let hint = "give the EFI program by `stub`; it is in Debian's systemd-boot-efi and Fedora's systemd-boot-unsigned";
        let what = ("stub of systemd for unified kernel images", hint);
        let stub = self.program(self.plan.wish.stub.as_ref(), &inside, firmware, what)?;
        let menu = self.plan.wish.systemd_boot.is_some();
        if menu {
            self.systemd_boot_program(&esp, firmware)?;
            let conf = systemd_boot::conf(self.plan.wish.timeout, &format!("{}*", release.id));
            let payload = self.plan.text(&conf, &esp, 0o644)?;
            self.add(&esp, "/loader/loader.conf", payload);
        }
        let os_release = ["/etc/os-release", "/usr/lib/os-release"];
        let os_release = os_release.into_iter().find_map(|path| find::part(self.view, path).transpose());
        let os_release = os_release.transpose()?;
        let command_line: Arc<[_]> = self.plan.pieces(&self.plan.command_line()?)?.into();
        for kernel in kernels.iter().take(if menu { usize::MAX } else { 1 }) {
            let uki = Uki {
                stub: stub.clone(),
                kernel: kernel.kernel.clone(),
                initrds: kernel.initrds.clone(),
                os_release: os_release.clone(),
                uname: Some(kernel.version.clone()).filter(|version| !version.is_empty()),
                devicetree: kernel.devicetree.clone(),
                ..Uki::default()
            };
            let target = match (menu, kernel.version.as_str()) {
                (false, _) => format!("/EFI/BOOT/{}", firmware.removable()),
                (true, "") => format!("/EFI/Linux/{}.efi", release.id),
                (true, version) => {
                    let name = systemd_boot::uncounted(&format!("{}-{version}", release.id));
                    format!("/EFI/Linux/{name}.efi")
                }
            };
            let (uki, command_line) = (Arc::new(uki), Arc::clone(&command_line));
            let meta = Meta::root(0o644, self.plan.time);
            self.add(&esp, target, Payload::Uki { uki, command_line, meta });
        }
        Ok(())
    }
}

/// What is beside a file that is not there, as a hint.
fn beside(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let shown: Vec<String> = names.iter().take(8).map(|name| printable(name.as_bytes())).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    (!shown.is_empty()).then(|| format!("beside it there is {}{more}", shown.join(", ")))
}
