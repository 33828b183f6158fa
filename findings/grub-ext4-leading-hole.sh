#!/usr/bin/env bash
# Package:   grub-fstest of Debian's grub-common 2.06-13+deb12u2, which reads with GRUB's own ext2 module
# Behaviour: a file on ext4 that begins with a hole is not read at all: "something wrong with extent". A file of that
#            length without the hole is read, and so is a file whose hole is in its middle. mke2fs -d makes such files
#            also of zeros that are stored, and a boot loader then misses a file that Linux reads.
# Rule:      Linux, Documentation/filesystems/ext4/ifork.rst: ee_block is the first file block that an extent covers.
#            Nothing asks for an extent at block 0; ext4_ext_map_blocks takes a block before the first extent for a hole.
# Needs:     Debian 12 with apt, mke2fs, e2fsck, debugfs, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
PATH=$PATH:/usr/sbin:/sbin
apt-get -q download grub-common=2.06-13+deb12u2 libdevmapper1.02.1 libudev1 libselinux1 libpcre2-8-0 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
export LD_LIBRARY_PATH=$folder/root/lib/x86_64-linux-gnu:$folder/root/usr/lib/x86_64-linux-gnu
fstest() { "$folder/root/usr/bin/grub-fstest" "$@"; }
fstest --version
mkdir tree
# 8192 bytes, then a line: letters, zeros in front, and zeros in the middle. mke2fs stores no zeros.
head -c 8192 /dev/zero | tr '\0' a >tree/dense
head -c 8192 /dev/zero >tree/hole
head -c 4096 /dev/zero | tr '\0' a >tree/middle
head -c 4096 /dev/zero >>tree/middle
for file in dense hole middle; do echo "the last line" >>"tree/$file"; done
mke2fs -q -t ext4 -d tree disk.img 8M 2>/dev/null
e2fsck -fn disk.img >/dev/null 2>&1 || { echo "e2fsck finds faults"; exit 1; }
for file in dense hole middle; do
    debugfs -R "dump /$file copy" disk.img 2>/dev/null
    cmp copy "tree/$file" || { echo "debugfs reads /$file in another way"; exit 1; }
    if fstest disk.img cmp "/$file" "tree/$file" >said 2>&1; then echo "/$file: read"; else echo "/$file: $(tail -n 1 said)"; fi
done | tee result
[ "$(grep -c ': read$' result)" = 2 ] && grep -q '^/hole: .*something wrong with extent' result ||
    { echo "this finding no longer holds"; exit 1; }
