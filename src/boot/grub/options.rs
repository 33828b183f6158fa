//! The appearance and behaviour of GRUB's menu.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Place;
use crate::boot::source::Source;
use crate::boot::timeout::Timeout;
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// What is shown until the time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutStyle {
    /// As a menu.
    #[default]
    Menu,
    /// As a number that counts down.
    Countdown,
    /// Nothing.
    Hidden,
}

/// The entry that boots if nobody chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultEntry {
    /// This entry: its number from 0, its title, or a path of them through submenus, `1>0`.
    Entry(String),
    /// The entry that was chosen last.
    Saved,
}

/// A user of the menu. Entries can only be changed with the password of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// The output of grub-mkpasswd-pbkdf2: `grub.pbkdf2.sha512.10000....`.
    pub hash: String,
}

/// A picture behind the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splash {
    /// A PNG, JPEG or TGA file on the host; its suffix says which.
    pub file: PathBuf,
    /// `stretch` or `normal`.
    pub mode: String,
    /// The colour around it, `#RRGGBB`.
    pub background: Option<String>,
}

/// What the installer records about itself in `grub/state`. If it differs, the first nixos-rebuild on the
/// machine installs GRUB again.
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
    /// The mount point of the ESP; `/boot` if there is none.
    pub efi_mount_point: String,
    /// `boot.loader.grub.extraGrubInstallArgs`.
    pub arguments: Vec<String>,
}

/// The menu. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The boot directory.
    pub boot: Place,
    /// The store, if entries point into it. `None` copies kernels and initrds into the boot directory, which
    /// is necessary if that has a filesystem of its own.
    pub store: Option<Place>,
    /// The beginning of titles.
    pub distro: String,
    /// The largest number of generations that are shown for a profile.
    pub limit: Option<usize>,
    /// The time until the default boots.
    pub timeout: Timeout,
    /// What is shown until then.
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
    /// The modes that the kernel gets.
    pub gfxpayload: [String; 2],
    /// A picture behind the menu.
    pub splash: Option<Splash>,
    /// A folder with a theme.txt.
    pub theme: Option<Source>,
    /// Bits per second of the first serial port, if it shows the menu too.
    pub serial: Option<u32>,
    /// Users with a password.
    pub users: Vec<User>,
    /// Lines before all entries.
    pub extra_config: String,
    /// Lines in each entry of a system.
    pub extra_per_entry_config: String,
    /// Entries for other systems; `@bootRoot@` in them stands for the boot directory.
    pub extra_entries: String,
    /// Whether those come before the entry of the default system.
    pub extra_entries_first: bool,
    /// The variables in the environment block: `saved_entry`, or `next_entry` for the next boot only.
    pub environment: BTreeMap<String, String>,
    /// What the installer records; `None` writes no state.
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
            timeout: Timeout::default(),
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

    /// Refuses values that GRUB would read as something else.
    pub(super) fn check(&self) -> Result<()> {
        self.boot.check()?;
        if let Some(store) = &self.store {
            store.check()?;
        }
        let refused = |what: &str, expected: &str, found: &str| {
            Err(Error::new(Kind::Manifest, what).expected(expected).found(printable(found.as_bytes())))
        };
        let plain = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        for value in self.gfxmode.iter().chain(&self.gfxpayload) {
            if !plain(value, "x,-") {
                return refused(
                    "this is no mode of a screen",
                    "a mode such as 1024x768, auto, keep or text",
                    value,
                );
            }
        }
        for user in &self.users {
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
        let lines = [&self.distro, &self.entry_options, &self.sub_entry_options];
        let entry = match &self.default {
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
}
