//! Options of systemd-repart that are not done: each is refused by name, with its reason.

use crate::error::{Error, Kind, Result};
use crate::front::repart::parse_boolean;

/// What is refused, by name and with its reason.
#[derive(Debug, clap::Args)]
pub(super) struct Refused {
    /// Only yes and auto: loop devices are not used
    #[arg(long, value_name = "BOOL", hide = true)]
    offline: Option<String>,
    /// Only yes: images are sparse files
    #[arg(long, value_name = "BOOL", hide = true)]
    discard: Option<String>,
    /// Only auto: attributes of the host's filesystem stay as they are
    #[arg(long, value_name = "BOOL", hide = true)]
    cow: Option<String>,
    /// Refused: no image is mounted
    #[arg(long = "image", value_name = "IMAGE", hide = true)]
    image_root: Option<String>,
    /// Refused: no image is mounted
    #[arg(long, value_name = "POLICY", hide = true)]
    image_policy: Option<String>,
    /// Refused: no device is looked at
    #[arg(long, hide = true)]
    list_devices: bool,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "FILE", hide = true)]
    key_file: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "DEVICE", hide = true)]
    tpm2_device: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "FILE", hide = true)]
    tpm2_device_key: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "HANDLE", hide = true)]
    tpm2_seal_key_handle: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "PCRS", hide = true)]
    tpm2_pcrs: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "FILE", hide = true)]
    tpm2_public_key: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "TEXT", hide = true)]
    tpm2_public_key_policyref: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "PCRS", hide = true)]
    tpm2_public_key_pcrs: Option<String>,
    /// Refused: nothing is encrypted
    #[arg(long, value_name = "FILE", hide = true)]
    tpm2_pcrlock: Option<String>,
}

impl Refused {
    /// The first of them that was given.
    pub(super) fn check(&self) -> Result<()> {
        let encrypted =
            "nothing is encrypted here: LUKS2 is not written yet, and a TPM belongs to one machine";
        let mounted = "no image is mounted, since that takes root; unpack it, and give the folder as --root";
        let is = |value: &Option<String>, allowed: &[bool], auto: bool| match value.as_deref() {
            None => true,
            Some("auto") => auto,
            Some(text) => parse_boolean(text).is_some_and(|truth| allowed.contains(&truth)),
        };
        let refused: [(&str, bool, &str); 15] = [
            (
                "--offline",
                !is(&self.offline, &[true], true),
                "filesystems are written without loop devices and without the kernel",
            ),
            (
                "--discard",
                !is(&self.discard, &[true], false),
                "an image is a sparse file, and what a new partition does not write reads as zero",
            ),
            (
                "--cow",
                !is(&self.cow, &[], true),
                "attributes of files on btrfs are left as the folder has them; chattr +C changes that of the folder",
            ),
            ("--image", self.image_root.is_some(), mounted),
            ("--image-policy", self.image_policy.is_some(), mounted),
            ("--list-devices", self.list_devices, "no device is looked at: this program writes files"),
            ("--key-file", self.key_file.is_some(), encrypted),
            ("--tpm2-device", self.tpm2_device.is_some(), encrypted),
            ("--tpm2-device-key", self.tpm2_device_key.is_some(), encrypted),
            ("--tpm2-seal-key-handle", self.tpm2_seal_key_handle.is_some(), encrypted),
            ("--tpm2-pcrs", self.tpm2_pcrs.is_some(), encrypted),
            ("--tpm2-public-key", self.tpm2_public_key.is_some(), encrypted),
            ("--tpm2-public-key-policyref", self.tpm2_public_key_policyref.is_some(), encrypted),
            ("--tpm2-public-key-pcrs", self.tpm2_public_key_pcrs.is_some(), encrypted),
            ("--tpm2-pcrlock", self.tpm2_pcrlock.is_some(), encrypted),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            None => Ok(()),
            Some((flag, _, why)) => Err(Error::new(Kind::Usage, "this option of systemd-repart is not done")
                .at_flag(flag)
                .why(why)),
        }
    }
}
