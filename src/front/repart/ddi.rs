//! The definitions of `--make-ddi=`: a signed EROFS with its hashes, as systemd has them in files.

use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// Which kind of a discoverable disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ddi {
    /// An extension of /usr and /opt.
    Sysext,
    /// An extension of /etc.
    Confext,
    /// A portable service: a whole tree.
    Portable,
}

impl FromStr for Ddi {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sysext" => Ok(Self::Sysext),
            "confext" => Ok(Self::Confext),
            "portable" => Ok(Self::Portable),
            _ => Err(Error::new(Kind::Usage, "there is no such kind of image")
                .expected("sysext, confext or portable")
                .found(text)),
        }
    }
}

/// Where systemd has the definitions.
const FOLDER: &str = "/usr/lib/systemd/repart/definitions";

impl Ddi {
    /// The definitions: names and texts.
    pub(super) fn definitions(self) -> [(String, String); 3] {
        let (kind, copies) = match self {
            Self::Sysext => ("sysext", "CopyFiles=/usr/\nCopyFiles=/opt/\n"),
            Self::Confext => ("confext", "CopyFiles=/etc/\n"),
            Self::Portable => ("portable", "CopyFiles=/\n"),
        };
        let name = |name: &str| format!("{FOLDER}/{kind}.repart.d/{name}.conf");
        let text = |kind: &str, verity: &str, rest: &str| {
            format!("[Partition]\nType={kind}\nVerity={verity}\nVerityMatchKey=root\n{rest}")
        };
        [
            (name("10-root"), text("root", "data", &format!("Format=erofs\n{copies}Minimize=best\n"))),
            (name("20-root-verity"), text("root-verity", "hash", "Minimize=best\n")),
            (name("30-root-verity-sig"), text("root-verity-sig", "signature", "")),
        ]
    }
}
