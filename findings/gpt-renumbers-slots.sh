#!/usr/bin/env bash
# Package:   crate gpt 4.1.0 (crates.io, 2025-03-16)
# Behaviour: a table whose partitions have the numbers 1, 14 and 15 is written with the numbers 1, 2 and 3: entries are
#            packed from the first slot on, without a warning.
# Rule:      UEFI 2.10, 5.3.3: the array has a slot for each number; unused entries may stand between used ones. Cloud
#            images keep root at 1 and boot partitions at 14 and 15, and root=PARTUUID=.../PARTNROFF counts slots.
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
gpt = "=4.1.0"
uuid = "1"
[workspace]
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::collections::BTreeMap;
use std::fs::OpenOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).expect("a path");
    let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open()?;
    file.set_len(100 << 20)?;
    gpt::mbr::ProtectiveMBR::with_lb_size((100 << 11) - 1).overwrite_lba0(&mut file)?;
    let config = || gpt::GptConfig::new().writable(true);
    let mut disk = config().create_from_device(file, None)?;
    let partition = |number: u64| gpt::partition::Partition {
        part_type_guid: gpt::partition_types::LINUX_FS,
        part_guid: uuid(number),
        first_lba: number * 2048,
        last_lba: number * 2048 + 2047,
        flags: 0,
        name: format!("number {number}"),
    };
    let asked: BTreeMap<u32, _> = [1, 14, 15].map(|n| (n, partition(u64::from(n)))).into();
    disk.update_partitions(asked)?;
    disk.write()?;
    // The array begins in sector 2; a slot has 128 bytes. The name is 72 bytes of UTF-16 from byte 56 on.
    let bytes = std::fs::read(&path)?;
    for (number, slot) in (1..).zip(bytes[1024..1024 + 128 * 128].chunks(128)) {
        let units: Vec<u16> = slot[56..].chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        if slot[0] != 0 {
            println!("{number}: {}", String::from_utf16(&units)?.trim_end_matches('\0'));
        }
    }
    Ok(())
}

fn uuid(number: u64) -> uuid::Uuid {
    format!("00000000-0000-4000-8000-{number:012}").parse().expect("a UUID")
}
RUST
found=$(cargo run --quiet --release --manifest-path "$folder/Cargo.toml" -- "$folder/disk.img")
expected='1: number 1
14: number 14
15: number 15'
packed='1: number 1
2: number 14
3: number 15'
printf 'asked for, and right:\n%s\nin the slots that gpt 4.1.0 wrote:\n%s\n' "$expected" "$found"
[ "$found" = "$packed" ] || { echo "this finding no longer holds"; exit 1; }
