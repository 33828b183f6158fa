//! `diskwright nixos`: a NixOS system from flags, which is a manifest with a `nixos` section and nothing else.

use std::path::{Path, PathBuf};

use super::job::{Common, Target};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::front::manifest::Manifest;
use crate::front::manifest::schema::{self, Disk, Nixos, NixosContent};
use crate::front::manifest::values::{DiskId, DiskSize, Guid, NixosFilesystem};
use crate::front::nixos::{BootLoader, EntryNames, Layout, Timeout};
use crate::units::Bytes;

/// Arguments of `nixos`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright nixos --system ./result --layout efi -o nixos.qcow2
  diskwright nixos --system /nix/store/…-nixos-system-… --closure ./closure-info --layout legacy -o nixos.img
  diskwright nixos --system ./result --layout hybrid --contents source=./ssh,target=/etc/ssh,mode=0600 -o nixos.img

Every flag is a key of the [nixos] section of a manifest, with dashes for underscores.")]
pub(super) struct Args {
    /// The system: the store path that `config.system.build.toplevel` is, or a link to it
    #[arg(long, value_name = "TOPLEVEL")]
    system: String,
    /// What it needs: a directory of closureInfo, a registration, the JSON of exportReferencesGraph, or auto, which
    /// asks nix-store [default: auto]
    #[arg(long, value_name = "PATH")]
    closure: Option<String>,
    /// Folder of this machine that holds nix/store [default: /]
    #[arg(long, value_name = "DIR")]
    store_root: Option<String>,
    /// Partitions: legacy, legacy+boot, legacy+gpt, efi, efixbootldr, hybrid or none [default: legacy]
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// Where the boot partition ends, from the start of the disk [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    boot_size: Option<Bytes>,
    /// Size of the disk, or auto [default: auto]
    #[arg(long, value_name = "SIZE")]
    disk_size: Option<DiskSize>,
    /// With a disk of size auto, what is left free in the root [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    additional_space: Option<Bytes>,
    /// Filesystem of the root: ext4 [default: ext4]
    #[arg(long, value_name = "TYPE")]
    fs_type: Option<NixosFilesystem>,
    /// Label of the root filesystem [default: nixos, or nix-store with --only-nix-store]
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// UUID of the root filesystem [default: nixpkgs' own, without compat derived from the seed]
    #[arg(long, value_name = "UUID")]
    root_uuid: Option<Guid>,
    /// GUID of the root partition [default: nixpkgs' own, without compat derived from the seed]
    #[arg(long, value_name = "UUID")]
    gpt_uuid: Option<Guid>,
    /// What goes into the root beside the store: source=PATH,target=PATH[,mode=MODE][,user=NAME,group=NAME], or the same
    /// as a JSON object; give it again for more
    #[allow(rustdoc::broken_intra_doc_links, reason = "the brackets are those of a synopsis")]
    #[arg(long, value_name = "CONTENT", value_parser = content)]
    contents: Vec<NixosContent>,
    /// File that becomes /etc/nixos/configuration.nix
    #[arg(long, value_name = "FILE")]
    config_file: Option<String>,
    /// Store path that root's channels lead to
    #[arg(long, value_name = "PATH")]
    channel: Option<String>,
    /// Another store path that goes into the store; give it again for more
    #[arg(long, value_name = "PATH")]
    additional_paths: Vec<String>,
    /// Make the root of the filesystem the store itself, with nothing else in it
    #[arg(long)]
    only_nix_store: bool,
    /// What boots it: systemd-boot, grub, extlinux or none [default: by layout]
    #[arg(long, value_name = "LOADER")]
    boot_loader: Option<BootLoader>,
    /// EFI program of systemd-boot [default: the one of the system's systemd]
    #[arg(long, value_name = "FILE")]
    systemd_boot: Option<String>,
    /// Folder that holds GRUB's i386-pc and x86_64-efi [default: the one in the closure]
    #[arg(long, value_name = "DIR")]
    grub: Option<String>,
    /// Program grub-mkimage [default: the one in the closure, or on PATH]
    #[arg(long, value_name = "FILE")]
    grub_mkimage: Option<String>,
    /// Unified kernel image that goes to EFI/Linux on the EFI system partition
    #[arg(long, value_name = "FILE")]
    uki: Option<String>,
    /// Seconds that the menu waits, or forever [default: 5]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<Timeout>,
    /// Earlier system that can be booted too, the oldest first; give it again for more
    #[arg(long, value_name = "TOPLEVEL")]
    generations: Vec<String>,
    /// Names of systemd-boot's entries: hash or generation [default: hash]
    #[arg(long, value_name = "NAMES")]
    entry_names: Option<EntryNames>,
    /// Whether the layout is nixpkgs' to the bit, odd choices included: true or false [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)]
    compat: Option<bool>,
    /// UUID from which every id derives that is not given [default: derived from the flags]
    #[arg(long, value_name = "UUID")]
    seed: Option<Guid>,
    /// GUID of the disk, or of an MBR its signature [default: nixpkgs' own; derived from the seed]
    #[arg(long, value_name = "ID")]
    guid: Option<DiskId>,
    /// Time the writer dates itself with, in seconds since 1970 [default: SOURCE_DATE_EPOCH, or else 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Where the image goes; `-` is standard output
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    verify: super::job::Verify,
    #[command(flatten)]
    common: Common,
}

/// Reads one `--contents`.
fn content(text: &str) -> Result<NixosContent, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let mut content = NixosContent::default();
    // A comma that begins no key belongs to the value, so that modes such as D0755,F0644 can be written.
    let keys = ["source=", "target=", "mode=", "user=", "group="];
    let mut fields: Vec<String> = Vec::new();
    for part in text.split(',') {
        match fields.last_mut() {
            Some(last) if !keys.iter().any(|key| part.starts_with(key)) => {
                let (key, _) = part.split_once('=').unwrap_or_default();
                // A mode has such parts itself: u=rwX,go=.
                let clause = last.starts_with("mode=") && key.bytes().all(|who| b"ugoa".contains(&who));
                if !clause && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    return Err(format!(
                        "unknown key `{key}`; there are source, target, mode, user, group (a value that holds \
                         `,{key}=` can be written in JSON)"
                    ));
                }
                *last = format!("{last},{part}");
            }
            _ => fields.push(part.to_owned()),
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or("a content is source=PATH,target=PATH and more")?;
        let failed = |why: &dyn std::fmt::Display| format!("{key}: {why}");
        if seen.contains(&key) {
            return Err(format!("`{key}` is there twice; a content is one source and one target"));
        }
        seen.push(key);
        match key {
            "source" => value.clone_into(&mut content.source),
            "target" => value.clone_into(&mut content.target),
            "mode" => content.mode = Some(value.parse().map_err(|why| failed(&why))?),
            "user" => content.user = Some(value.parse().map_err(|why| failed(&why))?),
            "group" => content.group = Some(value.parse().map_err(|why| failed(&why))?),
            _ => return Err(format!("unknown key `{key}`; there are source, target, mode, user, group")),
        }
    }
    match (content.source.is_empty(), content.target.is_empty()) {
        (true, _) => Err("a content has a source".to_owned()),
        (_, true) => Err("a content has a target".to_owned()),
        _ => Ok(content),
    }
}

/// Runs `nixos`.
pub(super) fn run(args: Args) -> Result<()> {
    let mut options = args.common.options()?;
    let target = args.output.map(Target::of);
    args.common.check(target.as_ref())?;
    if args.system.is_empty() {
        return Err(Error::new(Kind::Usage, "there is no system").hint("add --system TOPLEVEL"));
    }
    let nixos = Nixos {
        system: args.system,
        closure: args.closure,
        store_root: args.store_root,
        layout: args.layout,
        boot_size: args.boot_size,
        disk_size: args.disk_size,
        additional_space: args.additional_space,
        fs_type: args.fs_type,
        label: args.label,
        root_uuid: args.root_uuid,
        gpt_uuid: args.gpt_uuid,
        contents: args.contents,
        config_file: args.config_file,
        channel: args.channel,
        additional_paths: args.additional_paths,
        only_nix_store: args.only_nix_store.then_some(true),
        boot_loader: args.boot_loader,
        systemd_boot: args.systemd_boot,
        grub: args.grub,
        grub_mkimage: args.grub_mkimage,
        uki: args.uki,
        timeout: args.timeout,
        generations: args.generations,
        entry_names: args.entry_names,
        format: None,
        compat: args.compat,
    };
    let written = schema::Manifest {
        version: 1,
        disk: Disk { seed: args.seed, guid: args.guid, time: args.time, ..Disk::default() },
        partition: Vec::new(),
        nixos: Some(nixos),
    };
    let manifest = Manifest::new(written, Path::new("."));
    let disk = disk::resolve(&manifest, &options)?;
    options.verify = args.verify.expected(&disk)?;
    args.common.run(&manifest, &disk, target.as_ref(), &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_in_both_spellings() {
        let one = content("source=./ssh,target=/etc/ssh,mode=D0755,F0600,user=alice,group=100").unwrap();
        let other = content(
            r#"{"source":"./ssh","target":"/etc/ssh","mode":"D0755,F0600","user":"alice","group":100}"#,
        )
        .unwrap();
        assert_eq!(one, other);
        assert_eq!(one.mode.unwrap().to_string(), "D0755,F0600");
        for bad in [
            "",
            "source=a",
            "target=/b",
            "source=a,target=/b,mode=9",
            "x=1",
            "{}",
            "/a:/b",
            "source=a,target=/b,owner=3",
            "source=a,target=/b,source=c",
        ] {
            assert!(content(bad).is_err(), "{bad}");
        }
    }
}
