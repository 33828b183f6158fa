#!/usr/bin/env bash
# Package:   the crate ext4-view 1.0.0, with mke2fs of Debian 12 as the writer
# Behaviour: a filesystem with inodes of 128 bytes and metadata_csum, which mke2fs makes, Linux mounts and e2fsck finds
#            clean, is refused: the crate cannot read the inode of its root.
# Rule:      Linux, fs/ext4/inode.c, ext4_inode_csum: with inodes of 128 bytes only the low half of the checksum is
#            stored. "checksum_hi" exists only where i_extra_isize reaches it.
# Needs:     mke2fs and e2fsck, a Rust toolchain, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
PATH=$PATH:/usr/sbin:/sbin
for size in 128 256; do
    mke2fs -q -F -t ext4 -O metadata_csum -I "$size" "$size.img" 8M >/dev/null 2>&1
    e2fsck -fn "$size.img" >/dev/null 2>&1 || { echo "e2fsck finds faults with inodes of $size bytes"; exit 1; }
done
mkdir -p reader/src
cat >reader/Cargo.toml <<'TOML'
[package]
name = "reader"
version = "0.0.0"
edition = "2021"
[dependencies]
ext4-view = { version = "=1.0.0", features = ["std"] }
TOML
cat >reader/src/main.rs <<'RUST'
fn main() {
    for path in std::env::args().skip(1) {
        let found = ext4_view::Ext4::load_from_path(&path).and_then(|ext4| Ok(ext4.read_dir("/")?.count()));
        match found {
            Ok(entries) => println!("{path}: read, {entries} entries in the root"),
            Err(error) => println!("{path}: refused: {error}"),
        }
    }
}
RUST
cargo run -q --manifest-path reader/Cargo.toml -- 128.img 256.img | tee said
grep -q '^256.img: read' said && grep -q '^128.img: refused' said || { echo "this finding no longer holds"; exit 1; }
