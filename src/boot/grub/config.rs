//! grub.cfg and what lies beside it, as the installer of nixpkgs writes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Place, script};
use crate::boot::bootspec::System;
use crate::boot::files::{Content, Files};
use crate::boot::generations::{Generation, Generations};
use crate::boot::store::{STORE, Source, Store};
use crate::error::{Error, Kind, Result};
use crate::text::{printable, printable_path};

/// Bytes of an environment block (GNU GRUB manual, "The GRUB environment block").
const ENVIRONMENT: usize = 1024;

/// The day on which everything in a store was changed, as menus show it for a specialisation.
const STORE_DAY: &str = "1970-01-01";

/// How the menu appears until its time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutStyle {
    /// As a menu.
    #[default]
    Menu,
    /// As a number that counts down.
    Countdown,
    /// Not at all.
    Hidden,
}

/// Which entry boots where nobody chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultEntry {
    /// This one: its number from 0, its title, or a path of them through submenus, `1>0`.
    Entry(String),
    /// The one that was chosen last.
    Saved,
}

/// A menu's user, without whose password entries cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What grub-mkpasswd-pbkdf2 prints: `grub.pbkdf2.sha512.10000....`.
    pub hash: String,
}

/// A picture behind the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splash {
    /// PNG, JPEG or TGA on the host; the suffix says which.
    pub file: PathBuf,
    /// `stretch` or `normal`.
    pub mode: String,
    /// The colour around it, `#RRGGBB`.
    pub background: Option<String>,
}

/// What the installer remembers of itself, in `grub/state`: when it differs, the first nixos-rebuild on the machine
/// installs GRUB again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The name of the package: `grub`.
    pub name: String,
    /// Its version: `2.12`.
    pub version: String,
    /// `no`, `only` or `both`: whether it is a GRUB for UEFI.
    pub efi: String,
    /// `boot.loader.grub.devices`.
    pub devices: Vec<String>,
    /// Where the ESP is mounted; `/boot` where there is none, too.
    pub efi_mount_point: String,
    /// `boot.loader.grub.extraGrubInstallArgs`.
    pub arguments: Vec<String>,
}

/// The menu. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The boot directory.
    pub boot: Place,
    /// The store, where entries point there; `None` copies kernels and initrds into the boot directory, as it has to be
    /// where that has a filesystem of its own.
    pub store: Option<Place>,
    /// What titles begin with.
    pub distro: String,
    /// The most generations of a profile that are shown.
    pub limit: Option<usize>,
    /// Seconds until the default boots; `None` waits for ever.
    pub timeout: Option<u32>,
    /// How the menu appears until then.
    pub timeout_style: TimeoutStyle,
    /// What boots then.
    pub default: DefaultEntry,
    /// Options of the entry of the default system.
    pub entry_options: String,
    /// Options of the entries of generations.
    pub sub_entry_options: String,
    /// A font in GRUB's own format on the host; with it the menu is graphical.
    pub font: Option<PathBuf>,
    /// Modes of the screen: under UEFI, under a BIOS.
    pub gfxmode: [String; 2],
    /// What the kernel gets of them.
    pub gfxpayload: [String; 2],
    /// A picture behind the menu.
    pub splash: Option<Splash>,
    /// A folder with a theme.txt.
    pub theme: Option<Source>,
    /// Bits a second of a first serial port that shows the menu too; `None` leaves it alone.
    pub serial: Option<u32>,
    /// Users with a password.
    pub users: Vec<User>,
    /// Lines before all entries.
    pub extra_config: String,
    /// Lines in each entry of a system.
    pub extra_per_entry_config: String,
    /// Entries of others; `@bootRoot@` in them is the boot directory.
    pub extra_entries: String,
    /// Whether those come before the default system's.
    pub extra_entries_first: bool,
    /// What is in the environment block: `saved_entry`, or `next_entry` for the next boot alone.
    pub environment: BTreeMap<String, String>,
    /// What the installer remembers; `None` writes no state.
    pub state: Option<State>,
}

impl Options {
    /// nixpkgs' defaults: 5 seconds, the first entry, 100 generations, text.
    #[must_use]
    pub fn new(boot: Place, store: Option<Place>) -> Self {
        Self {
            boot,
            store,
            distro: "NixOS".to_owned(),
            limit: Some(100),
            timeout: Some(5),
            timeout_style: TimeoutStyle::Menu,
            default: DefaultEntry::Entry("0".to_owned()),
            entry_options: "--class nixos --unrestricted".to_owned(),
            sub_entry_options: "--class nixos".to_owned(),
            font: None,
            gfxmode: ["auto".to_owned(), "1024x768".to_owned()],
            gfxpayload: ["keep".to_owned(), "text".to_owned()],
            splash: None,
            theme: None,
            serial: None,
            users: Vec::new(),
            extra_config: String::new(),
            extra_per_entry_config: String::new(),
            extra_entries: String::new(),
            extra_entries_first: false,
            environment: BTreeMap::new(),
            state: None,
        }
    }
}

/// The files below the boot directory: `/grub/grub.cfg`, `/grub/grubenv`, `/grub/state`, and copies of what they name.
///
/// # Errors
/// [`Kind::Manifest`] for what would break a line of a script, and for values GRUB knows none of; [`Kind::Source`] for a
/// theme that cannot be read.
pub fn build(store: &Store, generations: &Generations, options: &Options) -> Result<Files> {
    check(options)?;
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

/// The text of a configuration while it is written, and the files it names.
struct Writer<'a> {
    options: &'a Options,
    text: String,
    files: Files,
    /// The command that finds the boot directory's filesystem, and the store's, where they are looked for.
    searches: [Option<String>; 2],
    /// The boot directory and the store as paths begin.
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

    /// A line, two blanks to each level.
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

    /// Lines that the user wrote, as they are.
    fn block(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            if !text.ends_with('\n') {
                self.text.push('\n');
            }
        }
    }

    /// `name`, which begins with a slash, below the boot directory. One that is the root of its filesystem keeps its slash,
    /// so that there are two, as the installer has it; GRUB reads them as one.
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
        let timeout = options.timeout.map_or("-1".to_owned(), |seconds| seconds.to_string());
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

    /// A file of the store as GRUB finds it: there, or its copy below the boot directory.
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

    /// The entries of a system and its specialisations: those of a generation in a submenu of its own.
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

/// Refuses values that would be read as something else.
fn check(options: &Options) -> Result<()> {
    options.boot.check()?;
    if let Some(store) = &options.store {
        store.check()?;
    }
    let refused = |what: &str, expected: &str, found: &str| {
        Err(Error::new(Kind::Manifest, what).expected(expected).found(printable(found.as_bytes())))
    };
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    for value in options.gfxmode.iter().chain(&options.gfxpayload) {
        if !plain(value, "x,-") {
            return refused(
                "this is no mode of a screen",
                "a mode such as 1024x768, auto, keep or text",
                value,
            );
        }
    }
    for user in &options.users {
        if !plain(&user.name, "_-.") {
            return refused(
                "this is no name of a user of GRUB",
                "letters, digits, `_`, `-` and `.`",
                &user.name,
            );
        }
        if !user.hash.starts_with("grub.pbkdf2.") || !plain(&user.hash, ".") {
            return refused(
                "a user of GRUB has no password",
                "what grub-mkpasswd-pbkdf2 prints, which begins with grub.pbkdf2.",
                &user.hash,
            );
        }
    }
    let lines = [&options.distro, &options.entry_options, &options.sub_entry_options];
    let entry = match &options.default {
        DefaultEntry::Entry(entry) => Some(entry),
        DefaultEntry::Saved => None,
    };
    for text in lines.into_iter().chain(entry) {
        if text.chars().any(char::is_control) {
            return refused("a value for GRUB holds a control character", "one line of text", text);
        }
    }
    Ok(())
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
        // A backslash keeps the character that follows it.
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
