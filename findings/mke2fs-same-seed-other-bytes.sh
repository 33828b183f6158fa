#!/usr/bin/env bash
# Package:   mke2fs of Debian's e2fsprogs 1.47.0-2+b2 or a point release of it
# Behaviour: `mke2fs -d` of the same folder with UUID, hash seed and SOURCE_DATE_EPOCH given writes other bytes two
#            seconds later: the clock stands in the superblock, and in the inodes that mke2fs makes by itself
#            (lost+found, journal, resize inode) and as ctime and crtime of every file that it copies.
# Rule:      reproducible-builds.org, SOURCE_DATE_EPOCH: "the last modification of something, usually the source code",
#            to be taken in place of the current time. e2fsprogs takes it from 1.47.1 on.
# Needs:     Debian 12 with apt, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q download e2fsprogs=1.47.0-2* libext2fs2=1.47.0-2* >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
export LD_LIBRARY_PATH=$folder/root/lib/x86_64-linux-gnu:$folder/root/usr/lib/x86_64-linux-gnu SOURCE_DATE_EPOCH=1
root/sbin/mke2fs -V 2>&1 | head -n 1
mkdir tree
echo hello >tree/file
touch -d @1 tree/file tree
make() {
    root/sbin/mke2fs -q -F -t ext4 -d tree -U 6b0c9a6e-3f0f-4b57-9f0e-0f6f4c2b7a01 \
        -E hash_seed=0867da16-f251-457d-a9e8-c31f9a3c220b "$1" 8M >/dev/null
}
make first.img
sleep 2
make second.img
different=$({ cmp -l first.img second.img || true; } | wc -l)
echo "bytes that differ between two runs two seconds apart: $different (none would be right)"
[ "$different" -gt 0 ] || { echo "this finding no longer holds"; exit 1; }
