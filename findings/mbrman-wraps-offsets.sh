#!/usr/bin/env bash
# Package:   crate mbrman 0.6.1 (crates.io, 2025-07-07)
# Behaviour: the sector number of an extended boot record is multiplied by the sector size in 32 bits. On a disk of
#            8 GiB, the record of a logical partition at 4 GiB and 2 MiB is written to 2 MiB. The call succeeds.
# Rule:      sector numbers of an MBR have 32 bits, so byte offsets have 41 (2 TiB at 512 bytes a sector).
# Needs:     a Rust toolchain, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
mbrman = "=0.6.1"
[workspace]
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).expect("a path");
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    file.set_len(8 << 30)?;
    let mut table = mbrman::MBR::new_from(&mut file, 512, [1, 2, 3, 4])?;
    table[1] = mbrman::MBRPartitionEntry {
        boot: mbrman::BOOT_INACTIVE,
        first_chs: mbrman::CHS::empty(),
        sys: 0x0f,
        last_chs: mbrman::CHS::empty(),
        starting_lba: 2048,
        sectors: (8 << 21) - 2048,
    };
    // The extended partition begins at 1 MiB; the second record lies behind the 4 GiB of the first logical partition.
    table.push(0x83, 2048, 8_388_608)?;
    table.push(0x83, 8_392_704, 1 << 20)?;
    println!("write_into succeeds: {}", table.write_into(&mut file).is_ok());
    for (place, at) in [("4 GiB and 2 MiB, its place", 8_392_704 * 512_u64), ("2 MiB, inside the first partition", 2 << 20)] {
        let mut bytes = [0; 2];
        file.read_exact_at(&mut bytes, at + 510)?;
        println!("at {place}: {}", if bytes == [0x55, 0xaa] { "a boot record" } else { "none" });
    }
    Ok(())
}
RUST
found=$(cargo run --quiet --release --manifest-path "$folder/Cargo.toml" -- "$folder/disk.img")
expected='write_into succeeds: true
at 4 GiB and 2 MiB, its place: none
at 2 MiB, inside the first partition: a boot record'
printf '%s\n' "$found"
[ "$found" = "$expected" ] || { echo "this finding no longer holds"; exit 1; }
