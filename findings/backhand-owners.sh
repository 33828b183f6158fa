#!/usr/bin/env bash
# Package:   the crate backhand 0.25.5, with mksquashfs of Debian 12 as the writer
# Behaviour: a filesystem with more than 2048 different owners, whose table of ids has more than one block, is refused
#            without a word. A symbolic link of 256 bytes is refused, too; one of 255 bytes is read.
# Rule:      Linux, Documentation/filesystems/squashfs.rst, 3.6: ids are stored in metadata blocks of 8 KiB, 2048 ids
#            each; fs/squashfs/id.c. A link may have up to 65,535 bytes there (fs/squashfs/squashfs_fs.h, symlink_size).
# Needs:     mksquashfs and unsquashfs, a Rust toolchain, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir empty
# Pseudo files, so that no root is needed: `count` files, each with another owner.
owners() { for ((number = 1; number <= $1; number++)); do echo "f$number f 644 $((1000 + number)) 0 true"; done; }
owners 2000 >few
owners 2100 >many
echo "short s 777 0 0 $(printf '%*s' 255 '' | tr ' ' a)" >short
echo "long s 777 0 0 $(printf '%*s' 256 '' | tr ' ' a)" >long
for name in few many short long; do
    mksquashfs empty "$name.squashfs" -quiet -no-progress -comp gzip -pf "$name" >/dev/null
    unsquashfs -lln "$name.squashfs" >"$name.list"
done
mkdir -p reader/src
cat >reader/Cargo.toml <<'TOML'
[package]
name = "reader"
version = "0.0.0"
edition = "2021"
[dependencies]
backhand = { version = "=0.25.5", default-features = false, features = ["gzip"] }
TOML
cat >reader/src/main.rs <<'RUST'
use std::io::BufReader;
fn main() {
    for path in std::env::args().skip(1) {
        let file = BufReader::new(std::fs::File::open(&path).unwrap());
        match backhand::FilesystemReader::from_reader(file) {
            Err(error) => println!("{path}: refused: {error:?}"),
            Ok(volume) => {
                let right = volume.files().filter(|node| {
                    let name = node.fullpath.display().to_string();
                    name.strip_prefix("/f").and_then(|number| number.parse().ok()).is_none_or(|number: u32| node.header.uid == 1000 + number)
                });
                println!("{path}: read, {} of {} names with their owners", right.count(), volume.files().count());
            }
        }
    }
}
RUST
cargo run -q --manifest-path reader/Cargo.toml -- few.squashfs many.squashfs short.squashfs long.squashfs | tee said
for name in few short; do grep -q "^$name.squashfs: read" said || { echo "$name is not read either"; exit 1; }; done
for name in many long; do grep -q "^$name.squashfs: refused" said || { echo "this finding no longer holds"; exit 1; }; done
