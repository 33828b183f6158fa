#!/usr/bin/env bash
# Package:   fsck.fat of Debian's dosfstools 4.2-1
# Behaviour: a file of 4,294,967,295 bytes, the largest that FAT holds, whose chain of clusters is complete, is said to
#            have a chain of 0 bytes, and fsck.fat would cut it to nothing. The same file one cluster shorter is clean.
# Rule:      Microsoft, FAT: General Overview of On-Disk Format, 1.03, FAT Directory Structure: DIR_FileSize is a 32-bit
#            number of bytes; 131,072 clusters of 32 KiB, 2^32 bytes, are what 2^32 - 1 bytes need.
# Needs:     Debian 12 with apt, Python 3, a network. The image is 5 GiB and almost all of it a hole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q download dosfstools=4.2-1 >/dev/null 2>&1
dpkg-deb -x dosfstools_*.deb root
dpkg-deb -f dosfstools_*.deb Package Version
# One file LARGE.BIN from cluster 3 on, without a byte of its data.
make() {
    truncate -s 5G "$1.img"
    root/sbin/mkfs.fat -F 32 -s 64 -S 512 "$1.img" >/dev/null
    python3 - "$1.img" "$2" <<'PYTHON'
import struct, sys
image, size = open(sys.argv[1], "r+b"), int(sys.argv[2])
boot = image.read(512)
reserved, fats = struct.unpack_from("<HB", boot, 14)
length = struct.unpack_from("<I", boot, 36)[0]
clusters = -(-size // 32768)
chain = list(range(4, 3 + clusters)) + [0x0FFFFFFF]
for fat in range(fats):
    image.seek((reserved + fat * length) * 512 + 3 * 4)
    image.write(struct.pack(f"<{clusters}I", *chain))
image.seek((reserved + fats * length) * 512)
image.write(struct.pack("<11sBBBHHHHHHHI", b"LARGE   BIN", 0x20, 0, 0, 0, 0x21, 0x21, 0, 0, 0x21, 3, size))
# The count of free clusters, so that it is right too.
image.seek(512 + 488)
free = struct.unpack("<I", image.read(4))[0]
image.seek(512 + 488)
image.write(struct.pack("<I", free - clusters))
PYTHON
    if root/sbin/fsck.fat -n "$1.img" >"$1.log" 2>&1; then echo clean; else grep -o 'cluster chain length is.*' "$1.log"; fi
}
shorter=$(make shorter $((4294967295 - 32768)))
longest=$(make longest 4294967295)
printf '4294934527 bytes: %s\n4294967295 bytes: %s (it would be right to find it clean)\n' "$shorter" "$longest"
[ "$shorter" = clean ] && [[ "$longest" == *"is 0 bytes"* ]] || { echo "this finding no longer holds"; exit 1; }
