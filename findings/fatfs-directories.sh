#!/usr/bin/env bash
# Package:   crate fatfs 0.3.6 (crates.io, 2023-01-17), judged by fsck.fat of dosfstools 4.2
# Behaviour: in every directory that create_dir makes, long-name entries come before the entries `.` and `..`, and
#            fsck.fat -n finds errors. (The unreleased source of the crate is correct.)
# Rule:      Microsoft, "FAT: General Overview of On-Disk Format" 1.03, and the specification of long names: `.` and
#            `..` are the first two entries of a directory, and have no long names.
# Needs:     a Rust toolchain, a network, fsck.fat.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
fatfs = "=0.3.6"
[workspace]
TOML
cat >"$folder/src/main.rs" <<'RUST'
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).expect("a path");
    let directories = std::env::args().nth(2).as_deref() == Some("directories");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    file.set_len(512 << 20)?;
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(4096);
    fatfs::format_volume(&mut file, options)?;
    let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new())?;
    if directories {
        volume.root_dir().create_dir("EFI")?.create_dir("nixos")?;
    } else {
        volume.root_dir().create_file("file")?;
    }
    volume.unmount()?;
    Ok(())
}
RUST
finding() { cargo run --quiet --release --manifest-path "$folder/Cargo.toml" -- "$@"; }
fsck.fat --help 2>&1 | head -n 1
finding "$folder/files.img" files
echo "a volume with one file, by fsck.fat -n:"
fsck.fat -n "$folder/files.img" | sed 's/^/  /'
fsck.fat -n "$folder/files.img" >/dev/null || { echo "not even that is clean: another finding"; exit 1; }
finding "$folder/directories.img" directories
echo "a volume with the directory EFI/nixos, by fsck.fat -n:"
said=$(fsck.fat -n "$folder/directories.img") && { echo "clean: this finding no longer holds"; exit 1; }
sed 's/^/  /' <<<"$said"
grep -q "'\.' entry" <<<"$said" || { echo "another fault than that of '.': this finding no longer holds"; exit 1; }
