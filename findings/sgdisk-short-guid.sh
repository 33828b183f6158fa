#!/usr/bin/env bash
# Package:   sgdisk of Debian's gdisk 1.0.9-2.1
# Behaviour: `--disk-guid=97FD5997-D90B-4AA3-8D16-C1723AEA73C`, which lacks the last digit, is taken. The disk gets
#            97FD5997-F390-0B4A-A3F8-D106C1723AEA, other digits in other places; exit code 0. nixpkgs passes this GUID
#            when it makes an image, so images of NixOS have the other one.
# Rule:      RFC 9562, 4: a UUID as text has 8, 4, 4, 4 and 12 hexadecimal digits.
# Needs:     Debian 12 with apt, a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q download gdisk=1.0.9-2.1 >/dev/null 2>&1
dpkg-deb -x gdisk_*.deb root
sgdisk=root/sbin/sgdisk
"$sgdisk" --version
given=97FD5997-D90B-4AA3-8D16-C1723AEA73C
truncate -s 10M disk.img
"$sgdisk" --clear --disk-guid="$given" disk.img >/dev/null
found=$("$sgdisk" --print disk.img | sed -n 's/^Disk identifier (GUID): //p')
printf 'given:   %s (%d digits of 32; a refusal would be right)\nwritten: %s\n' "$given" "$(tr -d - <<<"$given" | tr -d '\n' | wc -c)" "$found"
[ "$found" = 97FD5997-F390-0B4A-A3F8-D106C1723AEA ] || { echo "this finding no longer holds"; exit 1; }
