#!/usr/bin/env bash
# Package:   mkfs.erofs of Debian's erofs-utils 1.5-1
# Behaviour: a tree with a file name of 255 bytes, the longest that Linux and EROFS allow, is refused with "Could not
#            format the device"; no name is told. With 254 bytes the image is made.
# Rule:      Linux, fs/erofs/erofs_fs.h: EROFS_NAME_LEN is 255.
# Needs:     Debian 12 with apt, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q download erofs-utils=1.5-1* liblz4-1 libfuse2 libselinux1 libpcre2-8-0 libuuid1 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
export LD_LIBRARY_PATH=$folder/root/lib/x86_64-linux-gnu:$folder/root/usr/lib/x86_64-linux-gnu
dpkg-deb -f erofs-utils_*.deb Package Version
make() {
    mkdir "tree-$1"
    : >"tree-$1/$(printf '%*s' "$1" '' | tr ' ' n)"
    if root/usr/bin/mkfs.erofs --quiet "$1.img" "tree-$1" >"$1.log" 2>&1; then echo made; else echo "refused: $(grep -v "^$" "$1.log" | tail -n 1)"; fi
}
short=$(make 254)
long=$(make 255)
printf 'a name of 254 bytes: %s\na name of 255 bytes: %s (it would be right to make it)\n' "$short" "$long"
[ "$short" = made ] && [ "$long" != made ] || { echo "this finding no longer holds"; exit 1; }
