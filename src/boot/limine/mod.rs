//! limine.conf, which Limine reads, and in [`bios`] what a BIOS starts of it.
//!
//! Source: Limine 8 and 9, CONFIG.md.

pub mod bios;

use std::fmt::Write as _;

use super::entry::{self, Entry};
use super::timeout::Timeout;
use crate::error::Result;

/// The text of limine.conf for systems of any kind. The first one boots if nobody chooses.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) for a menu without entries and for text that would break a line.
pub fn menu(entries: &[Entry], timeout: Timeout) -> Result<String> {
    entry::some(entries)?;
    let timeout = match timeout {
        Timeout::Seconds(seconds) => seconds.to_string(),
        Timeout::Forever => "no".to_owned(),
    };
    let mut text = format!("timeout: {timeout}\ndefault_entry: 1\n");
    for entry in entries {
        let version = Some(format!(" ({})", entry.version)).filter(|_| !entry.version.is_empty());
        let _ = write!(
            text,
            "\n/{}{}\n    protocol: linux\n    kernel_path: boot():{}\n    cmdline: {}\n",
            entry.title,
            version.unwrap_or_default(),
            entry.kernel,
            entry.parameters
        );
        for initrd in &entry.initrds {
            let _ = writeln!(text, "    module_path: boot():{initrd}");
        }
        if let Some(devicetree) = &entry.devicetree {
            let _ = writeln!(text, "    dtb_path: boot():{devicetree}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_boots_if_nobody_chooses() {
        let entry = |version: &str| Entry {
            id: "x".to_owned(),
            title: "X".to_owned(),
            version: version.to_owned(),
            kernel: "/x/linux".to_owned(),
            initrds: vec!["/x/initrd".to_owned(), "/x/initrd-2".to_owned()],
            parameters: "root=/dev/x rw".to_owned(),
            ..Entry::default()
        };
        let boots = "    protocol: linux\n    kernel_path: boot():/x/linux\n    cmdline: root=/dev/x rw\n    \
                     module_path: boot():/x/initrd\n    module_path: boot():/x/initrd-2\n";
        assert_eq!(
            menu(&[entry("2"), entry("")], Timeout::Seconds(3)).unwrap(),
            format!("timeout: 3\ndefault_entry: 1\n\n/X (2)\n{boots}\n/X\n{boots}")
        );
        assert!(menu(&[entry("")], Timeout::Forever).unwrap().starts_with("timeout: no\n"));
        assert!(menu(&[], Timeout::Forever).is_err());
    }
}
