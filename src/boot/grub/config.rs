//! grub.cfg and the files beside it, as the installer of nixpkgs writes them.

use std::collections::BTreeMap;

use super::options::{DefaultEntry, Options, Splash, State, TimeoutStyle};
use super::{Place, script};
use crate::boot::bootspec::System;
use crate::boot::entry;
use crate::boot::files::{Content, Files};
use crate::boot::generations::{Generation, Generations};
use crate::boot::source::{STORE, Source};
use crate::boot::timeout::Timeout;
use crate::error::{Error, Kind, Result};
use crate::nix::Store;
use crate::text::{printable, printable_path};

/// Length of an environment block in bytes (GNU GRUB manual, "The GRUB environment block").
const ENVIRONMENT: usize = 1024;

/// The modification day of everything in a store, as menus show it for a specialisation.
const STORE_DAY: &str = "1970-01-01";

/// The files below the boot directory: `/grub/grub.cfg`, `/grub/grubenv`, `/grub/state`, and copies of the
/// files that they name.
///
/// # Errors
/// [`Kind::Manifest`] for text that would break a line of a script, and for values that GRUB does not know;
/// [`Kind::Source`] for a theme that cannot be read.
pub fn build(store: &Store, generations: &Generations, options: &Options) -> Result<Files> {
    options.check()?;
    let mut writer = Writer::new(options);
    writer.files.add("/grub", Content::Directory, 0o700)?;
    writer.header();
    writer.graphics(store)?;
    writer.block(&options.extra_config);
    writer.line(0, "");
    if options.extra_entries_first {
        writer.extra_entries();
    }
    writer.system(&options.distro.clone(), "", generations.default_system(), None)?;
    if !options.extra_entries_first {
        writer.extra_entries();
    }
    for (profile, shown) in generations.profiles(options.limit) {
        writer.profile(profile, shown)?;
    }
    let Writer { mut files, text, .. } = writer;
    files.bytes("/grub/grub.cfg", text)?;
    files.bytes("/grub/grubenv", environment(&options.environment)?)?;
    if let Some(state) = &options.state {
        files.bytes("/grub/state", state_text(state)?)?;
    }
    Ok(files)
}

/// The files below the boot directory for systems of any kind: `/grub/grub.cfg` and `/grub/grubenv`. The paths of the entries
/// begin at the top of the filesystem that has the boot directory.
///
/// # Errors
/// [`Kind::Manifest`] for a menu without entries, text that would break a line of a script, and values that GRUB does not
/// know.
pub fn menu(entries: &[entry::Entry], options: &Options) -> Result<Files> {
    options.check()?;
    entry::some(entries)?;
    let mut writer = Writer::new(options);
    writer.header();
    // The drive that was searched for stands before the path of the boot directory.
    let drive = writer.boot.strip_suffix(options.boot.path.as_str()).unwrap_or_default().to_owned();
    let word = |path: &String| script::word_of_path(&format!("{drive}{path}"));
    for entry in entries {
        writer.begin_entry(&entry.title_with_version(), &options.entry_options);
        writer.line(1, &format!("linux {} {}", word(&entry.kernel), script::parameters(&entry.parameters)));
        if !entry.initrds.is_empty() {
            writer
                .line(1, &format!("initrd {}", entry.initrds.iter().map(word).collect::<Vec<_>>().join(" ")));
        }
        if let Some(devicetree) = &entry.devicetree {
            writer.line(1, &format!("devicetree {}", word(devicetree)));
        }
        writer.lines(0, &["}", ""]);
    }
    let Writer { mut files, text, .. } = writer;
    files.bytes("/grub/grub.cfg", text)?;
    files.bytes("/grub/grubenv", environment(&options.environment)?)?;
    Ok(files)
}

/// The text of a configuration while it is written, and the files that it names.
struct Writer<'a> {
    options: &'a Options,
    text: String,
    files: Files,
    /// The commands that find the filesystems of the boot directory and of the store, if they are searched
    /// for.
    searches: [Option<String>; 2],
    /// The beginnings of paths in the boot directory and in the store.
    boot: String,
    store: String,
}

impl<'a> Writer<'a> {
    fn new(options: &'a Options) -> Self {
        let mut drive = 0;
        let mut find = |place: &Place| match place.search.options() {
            Some(search) => {
                drive += 1;
                let found = format!("($drive{drive}){}", place.path);
                (Some(format!("search --set=drive{drive} {search}")), found)
            }
            None => (None, place.path.clone()),
        };
        let (boot_search, boot) = find(&options.boot);
        let (store_search, store) = options.store.as_ref().map_or((None, String::new()), find);
        Self {
            options,
            text: String::new(),
            files: Files::new(),
            searches: [boot_search, store_search],
            boot,
            store,
        }
    }

    /// A line, indented by two blanks for each level.
    fn line(&mut self, level: usize, line: &str) {
        if !line.is_empty() {
            self.text.push_str(&"  ".repeat(level));
            self.text.push_str(line);
        }
        self.text.push('\n');
    }

    fn lines(&mut self, level: usize, lines: &[&str]) {
        for line in lines {
            self.line(level, line);
        }
    }

    /// The user's lines, unchanged.
    fn block(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            if !text.ends_with('\n') {
                self.text.push('\n');
            }
        }
    }

    /// `name`, which begins with a slash, below the boot directory. If that is the root of its filesystem, it
    /// keeps its slash, so the path begins with two, as the installer writes it. GRUB reads them as one.
    fn below_boot(&self, name: &str) -> String {
        let base = if self.boot == "/" { "" } else { &self.boot };
        format!("{base}{name}")
    }

    fn header(&mut self) {
        let options = self.options;
        self.line(0, "# Automatically generated.  DO NOT EDIT THIS FILE!");
        if !options.users.is_empty() {
            self.line(0, "");
            for user in &options.users {
                self.line(0, &format!("password_pbkdf2 {} {}", user.name, user.hash));
            }
            let names: Vec<&str> = options.users.iter().map(|user| user.name.as_str()).collect();
            self.line(0, &format!("set superusers=\"{}\"", names.join(" ")));
        }
        self.line(0, "");
        let [boot, store] = self.searches.clone();
        for search in [store, boot].into_iter().flatten() {
            self.line(0, &search);
        }
        let default = match &options.default {
            DefaultEntry::Saved => "\"${saved_entry}\"".to_owned(),
            DefaultEntry::Entry(entry) => script::word(entry),
        };
        let timeout = match options.timeout {
            Timeout::Seconds(seconds) => seconds.to_string(),
            Timeout::Forever => "-1".to_owned(),
        };
        let style = match options.timeout_style {
            TimeoutStyle::Menu => "menu",
            TimeoutStyle::Countdown => "countdown",
            TimeoutStyle::Hidden => "hidden",
        };
        self.lines(
            0,
            &[
                "if [ -s $prefix/grubenv ]; then",
                "  load_env",
                "fi",
                "",
                "# grub-reboot sets the entry of the next boot alone.",
                "if [ \"${next_entry}\" ]; then",
                "  set default=\"${next_entry}\"",
                "  set next_entry=",
                "  save_env next_entry",
                "  set timeout=1",
                "  set boot_once=true",
                "else",
            ],
        );
        self.line(1, &format!("set default={default}"));
        self.line(1, &format!("set timeout={timeout}"));
        self.line(0, "fi");
        self.line(0, &format!("set timeout_style={style}"));
        self.lines(
            0,
            &[
                "",
                "function savedefault {",
                "  if [ -z \"${boot_once}\" ]; then",
                "    saved_entry=\"${chosen}\"",
                "    save_env saved_entry",
                "  fi",
                "}",
                "",
            ],
        );
    }

    /// Screen, serial port, picture and theme.
    fn graphics(&mut self, store: &Store) -> Result<()> {
        let options = self.options;
        let efi = "if [ \"${grub_platform}\" = \"efi\" ]; then";
        self.lines(0, &[efi, "  insmod efi_gop", "  insmod efi_uga", "else", "  insmod vbe", "fi"]);
        if let Some(font) = &options.font {
            self.files.host("/converted-font.pf2", font)?;
            let font = self.below_boot("/converted-font.pf2");
            let ([mode_efi, mode_bios], [payload_efi, payload_bios]) =
                (&options.gfxmode, &options.gfxpayload);
            self.lines(0, &["", "insmod font", &format!("if loadfont {font}; then"), "  insmod gfxterm"]);
            self.line(1, efi);
            self.line(2, &format!("set gfxmode={mode_efi}"));
            self.line(2, &format!("set gfxpayload={payload_efi}"));
            self.line(1, "else");
            self.line(2, &format!("set gfxmode={mode_bios}"));
            self.line(2, &format!("set gfxpayload={payload_bios}"));
            self.lines(1, &["fi", "terminal_output gfxterm"]);
            self.line(0, "fi");
        }
        if let Some(speed) = options.serial {
            self.line(0, "");
            self.line(0, &format!("serial --unit=0 --speed={speed}"));
            self.lines(0, &["terminal_input --append serial", "terminal_output --append serial"]);
        }
        if let Some(splash) = &options.splash {
            self.splash(splash)?;
        }
        if let Some(theme) = &options.theme {
            self.theme(store, theme)?;
        }
        Ok(())
    }

    fn splash(&mut self, splash: &Splash) -> Result<()> {
        let suffix = splash.file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let module = match suffix.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => "jpeg",
            "png" => "png",
            "tga" => "tga",
            _ => {
                return Err(Error::new(Kind::Manifest, "GRUB cannot show this picture")
                    .expected("a file whose name ends with .png, .jpg, .jpeg or .tga")
                    .found(printable_path(&splash.file)));
            }
        };
        let name = format!("/background.{module}");
        self.files.host(&name, &splash.file)?;
        self.line(0, "");
        if let Some(colour) = &splash.background {
            self.line(0, &format!("background_color {}", script::word(colour)));
        }
        self.line(0, &format!("insmod {module}"));
        let picture = self.below_boot(&name);
        self.line(0, &format!("if background_image --mode {} {picture}; then", script::word(&splash.mode)));
        self.lines(1, &["set color_normal=white/black", "set color_highlight=black/white"]);
        self.line(0, "else");
        self.lines(1, &["set menu_color_normal=cyan/blue", "set menu_color_highlight=white/blue"]);
        self.line(0, "fi");
        Ok(())
    }

    fn theme(&mut self, store: &Store, theme: &Source) -> Result<()> {
        let mut files = Files::new();
        files.tree(store, "/theme", theme)?;
        if files.get("/theme/theme.txt").is_none() {
            return Err(Error::new(Kind::Source, "the theme has no theme.txt").at(&theme.host));
        }
        let ends = |path: &str, suffixes: &[&str]| {
            let path = path.to_ascii_lowercase();
            suffixes.iter().any(|suffix| path.ends_with(suffix))
        };
        self.line(0, "");
        for (module, suffixes) in [("png", [".png"].as_slice()), ("jpeg", &[".jpg", ".jpeg"])] {
            if files.iter().any(|(path, _)| ends(path, suffixes)) {
                self.line(0, &format!("insmod {module}"));
            }
        }
        self.line(0, &format!("set theme={}", self.below_boot("/theme/theme.txt")));
        self.line(0, "export theme");
        for (path, _) in files.iter().filter(|(path, _)| ends(path, &[".pf2"])) {
            self.line(0, &format!("loadfont {}", self.below_boot(path)));
        }
        self.files.merge("", files)
    }

    fn extra_entries(&mut self) {
        let entries = self.options.extra_entries.replace("@bootRoot@", &self.boot);
        self.block(&entries);
    }

    /// A file of the store as GRUB finds it: in the store, or as a copy below the boot directory.
    fn file(&mut self, source: &Source) -> Result<String> {
        if self.options.store.is_some() {
            let inside = source.path.strip_prefix(STORE).unwrap_or(&source.path);
            return Ok(format!("{}/{inside}", self.store));
        }
        let name = format!("/kernels/{}", source.dashed());
        self.files.directory("/kernels")?;
        self.files.host(&name, &source.host)?;
        Ok(self.below_boot(&name))
    }

    /// The entries of a profile in a submenu.
    fn profile(&mut self, profile: Option<&str>, shown: &[Generation]) -> Result<()> {
        let title = match profile {
            None => format!("{} - All configurations", self.options.distro),
            Some(name) => format!("{} - Profile '{name}'", self.options.distro),
        };
        self.line(0, &format!("submenu {} --class submenu {{", script::quoted(&title)));
        for generation in shown {
            let name = format!("{} - Configuration {}", self.options.distro, generation.number);
            let suffix = format!(" ({} - {})", generation.day(), generation.system.version);
            self.system(&name, &suffix, &generation.system, Some(generation))?;
        }
        self.line(0, "}");
        Ok(())
    }

    /// The entries of a system and its specialisations; those of a generation get a submenu.
    fn system(
        &mut self,
        name: &str,
        suffix: &str,
        system: &System,
        generation: Option<&Generation>,
    ) -> Result<()> {
        let alone = system.specialisations.is_empty();
        let submenu = generation.is_some() && !alone;
        if submenu {
            let title = script::quoted(&format!("> {name}{suffix}"));
            self.line(0, &format!("submenu {title} --class submenu {{"));
        }
        let options = match generation {
            None => &self.options.entry_options,
            Some(_) => &self.options.sub_entry_options,
        };
        let variant = if alone { "" } else { " - Default" };
        self.entry(&format!("{name}{variant}{suffix}"), options, system)?;
        for (key, special) in &system.specialisations {
            let own = match &special.configuration_name {
                Some(own) => own.clone(),
                None => format!("({key} - {STORE_DAY} - {})", special.version),
            };
            self.entry(&format!("{name} - {own}"), "", special)?;
        }
        if submenu {
            self.line(0, "}");
        }
        Ok(())
    }

    /// The lines of an entry up to what it starts.
    fn begin_entry(&mut self, title: &str, options: &str) {
        let options = if options.is_empty() { String::new() } else { format!(" {options}") };
        self.line(0, &format!("menuentry {}{options} {{", script::quoted(title)));
        if self.options.default == DefaultEntry::Saved {
            self.line(1, "savedefault");
        }
        for search in self.searches.clone().into_iter().flatten() {
            self.line(1, &search);
        }
        let extra = self.options.extra_per_entry_config.clone();
        self.block(&extra);
    }

    fn entry(&mut self, title: &str, options: &str, system: &System) -> Result<()> {
        let kernel = script::word_of_path(&self.file(&system.kernel)?);
        let initrd = match &system.initrd {
            Some(initrd) => Some(script::word_of_path(&self.file(initrd)?)),
            None => None,
        };
        let xen = match &system.xen {
            Some(xen) => {
                let file = self.file(&xen.kernel)?;
                Some(format!("{} {}", script::word_of_path(&file), script::parameters(&xen.params)))
            }
            None => None,
        };
        let parameters = script::parameters(&system.command_line());
        for text in [title, &parameters, xen.as_deref().unwrap_or_default()] {
            if text.chars().any(char::is_control) {
                return Err(Error::new(Kind::Manifest, "an entry of GRUB holds a control character")
                    .found(printable(text.as_bytes())));
            }
        }
        self.begin_entry(title, options);
        let (linux, module) = if xen.is_some() { ("module", "module") } else { ("linux", "initrd") };
        if let Some(xen) = xen {
            self.line(1, &format!("multiboot {}", xen.trim_end()));
        }
        self.line(1, &format!("{linux} {kernel} {parameters}"));
        if let Some(initrd) = initrd {
            self.line(1, &format!("{module} {initrd}"));
        }
        self.lines(0, &["}", ""]);
        Ok(())
    }
}

/// The environment block: a header, variables, and `#` to its fixed end.
fn environment(variables: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut block = String::from(
        "# GRUB Environment Block\n# WARNING: Do not edit this file by tools other than grub-editenv!!!\n",
    );
    for (name, value) in variables {
        let named = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() || !named || value.chars().any(char::is_control) {
            return Err(Error::new(Kind::Manifest, "GRUB's environment cannot hold this variable")
                .expected("a name of letters, digits and `_`, and a value of one line")
                .found(printable(format!("{name}={value}").as_bytes())));
        }
        // A backslash quotes the character after it.
        block.push_str(&format!("{name}={}\n", value.replace('\\', "\\\\")));
    }
    let length = block.len();
    if length > ENVIRONMENT {
        return Err(Error::new(Kind::Capacity, "GRUB's environment is too large")
            .expected(format!("at most {ENVIRONMENT} bytes"))
            .found(format!("{length} bytes")));
    }
    let mut block = block.into_bytes();
    block.resize(ENVIRONMENT, b'#');
    Ok(block)
}

/// The six lines of the installer's state.
fn state_text(state: &State) -> Result<String> {
    let arguments = serde_json::json!({ "extraGrubInstallArgs": state.arguments }).to_string();
    let devices = state.devices.join(",");
    let lines = [&state.name, &state.version, &state.efi, &devices, &state.efi_mount_point, &arguments];
    if let Some(line) = lines.iter().find(|line| line.chars().any(char::is_control)) {
        return Err(Error::new(Kind::Manifest, "a line of GRUB's state holds a control character")
            .found(printable(line.as_bytes())));
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}
