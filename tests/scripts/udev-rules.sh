#!/usr/bin/env bash
# Shows that udev understands every line of the rules: by `udevadm verify`, or where there is none (it came with systemd
# 254; Debian 12 has 252) by what `udevadm test` says while it reads them. They are read from a directory that no other
# process sees, and no device is touched. Needs root or sudo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "${1-}" = --inside ]; then
    shift
    mkdir -p /run/udev
    mount -t tmpfs udev-rules /run/udev
    mkdir /run/udev/rules.d
    cp "$@" /run/udev/rules.d/
    # What it thinks of the device is no question here.
    udevadm test /sys/devices/virtual/mem/null 2>&1 | grep '^/run/udev/rules.d/' || true
    exit 0
fi

tests/scripts/deps.sh udev
if udevadm verify --help >/dev/null 2>&1; then
    udevadm verify --resolve-names=never udev/*.rules
    exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
complaints() { "${as_root[@]}" unshare --mount --propagation private "$0" --inside "$@"; }

# A check that never complains is none.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sed 's/SUBSYSTEM/SUBSYSTEN/' udev/70-pvusb-agent.rules >"$scratch/bad.rules"
[ -n "$(complaints "$scratch/bad.rules")" ] || { echo 'a bad rule is not noticed' >&2; exit 1; }

found=$(complaints udev/*.rules)
[ -z "$found" ] || { printf '%s\n' "$found" >&2; exit 1; }
echo "udev understands $(echo udev/*.rules | wc -w) files of rules"
