//! What has no meaning beside a section of another front end, which brings its own.

use super::super::Manifest;
use super::sector_size;
use crate::error::Result;
use crate::key::KeyPath;
use crate::table::Scheme;

const NO_HYBRID: &str = "nothing: systemd-repart makes no hybrid tables";
const NO_LAYOUT: &str = "nothing: nixpkgs' layouts have none of it";

/// Refuses what has no meaning beside definitions of systemd-repart.
pub(super) fn beside_repart(manifest: &Manifest) -> Result<()> {
    if !manifest.written.partition.is_empty() {
        let path = KeyPath::top("partition").index(0);
        return Err(manifest
            .refuse(&path, "definitions of systemd-repart bring all partitions")
            .expected("either [repart] or [[partition]]")
            .hint("a definition in the manifest itself is a table of [repart.partitions]"));
    }
    if manifest.written.boot.is_some() {
        return Err(manifest
            .refuse(&KeyPath::top("boot"), "definitions of systemd-repart bring what boots")
            .expected("either [repart] or [boot]"));
    }
    let disk = &manifest.written.disk;
    let keys = [
        ("table", disk.table.is_some_and(|table| table != Scheme::Gpt), "nothing: it is a GPT"),
        ("guid", disk.guid.is_some(), "nothing: it derives from the seed"),
        ("hybrid", disk.hybrid.is_some(), NO_HYBRID),
        ("hybrid_types", disk.hybrid_types.is_some(), NO_HYBRID),
        ("hybrid_signature", disk.hybrid_signature.is_some(), NO_HYBRID),
        ("protective_last", disk.protective_last.is_some(), NO_HYBRID),
        ("gpt_backup", disk.gpt_backup.is_some(), "nothing: systemd-repart always makes one"),
        ("extended", disk.extended.is_some(), "nothing: a GPT has none"),
        ("first_lba", disk.first_lba.is_some(), "repart.grain_size"),
        ("size_multiple", disk.size_multiple.is_some(), "size"),
        ("align", disk.align.is_some(), "repart.grain_size"),
        ("entries", disk.entries.is_some(), "nothing: there are 128"),
        ("entries_at", disk.entries_at.is_some(), "nothing: they begin at sector 2"),
        ("boot_code", disk.boot_code.is_some(), "nothing: systemd-repart writes none"),
        ("raw", disk.raw.is_some(), "a partition with CopyBlocks"),
    ];
    refuse_keys(manifest, "[repart]", &keys)
}

/// Refuses keys that have no meaning beside a NixOS system.
pub(super) fn beside_nixos(manifest: &Manifest) -> Result<()> {
    let disk = &manifest.written.disk;
    if !manifest.written.partition.is_empty() {
        let path = KeyPath::top("partition").index(0);
        return Err(manifest
            .refuse(&path, "a NixOS system brings its own partitions")
            .expected("either [nixos] or [[partition]]")
            .hint("choose them by `layout`, or describe all of them without [nixos]"));
    }
    if manifest.written.boot.is_some() {
        return Err(manifest
            .refuse(&KeyPath::top("boot"), "a NixOS system brings its own boot loader")
            .expected("either [nixos] or [boot]")
            .hint("choose it by `boot_loader`"));
    }
    if manifest.written.repart.is_some() {
        return Err(manifest
            .refuse(&KeyPath::top("repart"), "a disk is described once")
            .expected("either [nixos] or [repart]")
            .hint("NixSystem= of [X-Diskwright] brings a NixOS system to definitions"));
    }
    let keys = [
        ("table", disk.table.is_some(), "layout"),
        ("size", disk.size.is_some(), "disk_size"),
        ("architecture", disk.architecture.is_some(), "nothing: the system says it"),
        ("hybrid", disk.hybrid.is_some(), "layout = \"hybrid\""),
        ("hybrid_types", disk.hybrid_types.is_some(), NO_LAYOUT),
        ("hybrid_signature", disk.hybrid_signature.is_some(), NO_LAYOUT),
        ("protective_last", disk.protective_last.is_some(), NO_LAYOUT),
        ("gpt_backup", disk.gpt_backup.is_some(), NO_LAYOUT),
        ("extended", disk.extended.is_some(), NO_LAYOUT),
        (
            "sector_size",
            disk.sector_size.is_some_and(|size| size != 512),
            "nothing: nixpkgs' layouts have sectors of 512 bytes",
        ),
        ("first_lba", disk.first_lba.is_some(), "nothing: nixpkgs' layouts begin at sector 34"),
        ("align", disk.align.is_some(), "nothing: nixpkgs' layouts have their places"),
    ];
    refuse_keys(manifest, "[nixos]", &keys)?;
    sector_size(manifest).map(|_| ())
}

/// Refuses the first of these keys of `[disk]` that is there: each with what takes its place beside the section.
fn refuse_keys(manifest: &Manifest, section: &str, keys: &[(&'static str, bool, &str)]) -> Result<()> {
    match keys.iter().find(|(_, there, _)| *there) {
        Some((key, _, instead)) => Err(manifest
            .refuse(&KeyPath::top("disk").key(*key), format!("`{key}` means nothing beside {section}"))
            .expected(*instead)),
        None => Ok(()),
    }
}
