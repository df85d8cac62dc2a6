#!/bin/sh
# Installs what building, testing and the demo need: on Debian and its relatives, and only what is
# missing. Elsewhere it says what is missing and ends with 1. Names of more packages may be given.
#
# The tests start xenstored themselves, from /usr/lib/xen-*/bin and in directories of their own. No
# service has to run, and outside of Xen the packages start none.
set -eu

say() { printf '%s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

# What each package is for. The last one is the library that shows made-up devices to libudev.
packages='
make                the commands of the Makefile
gcc                 the linker, and the stand-ins in tests/harness
g++                 what the fuzzers link
libc6-dev           for gcc
pkg-config          finds libudev
libudev-dev         libudev
xenstore-utils      xenstore-ls and its relatives, as independent readers
umockdev            libumockdev-preload.so.0
util-linux          unshare and nsenter, for mounts that only a test sees
iproute2            ip, for routes that only a test sees
zsh                 a shell that completions are tried in, beside bash
fish                another one
'

# The C and OCaml xenstored of a Xen that tests/harness/xenstored knows: 4.17 in Debian 12, 4.20 in Debian 13.
xen_utils_default=xen-utils-4.17

installed() {
    test "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed
}

has_xen_utils() { ls /usr/lib/xen-*/bin/xenstored >/dev/null 2>&1; }

# The package in the index that brings xenstored: Debian 12's, or else the newest.
choose_xen_utils() {
    names=$(apt-cache pkgnames xen-utils-4 | sort -V)
    case " $(printf '%s' "$names" | tr '\n' ' ') " in
        *" $xen_utils_default "*) printf '%s\n' "$xen_utils_default" ;;
        *) printf '%s\n' "$names" | tail -n 1 ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

on_debian() {
    missing=
    for package in $(printf '%s\n' "$packages" | awk '{ print $1 }') "$@"; do
        installed "$package" || missing="$missing $package"
    done
    if [ -z "$missing" ] && has_xen_utils; then
        return
    fi
    wanted="$missing$(has_xen_utils || printf ' %s' "$xen_utils_default")"
    say "Missing:$wanted"
    if [ "$(id -u)" -ne 0 ] && ! have sudo; then
        say "This needs root, and there is no sudo. As root, run:"
        say "    apt-get update && apt-get install --no-install-recommends$wanted"
        exit 1
    fi
    as_root apt-get update -q >&2
    if ! has_xen_utils; then
        xen_utils=$(choose_xen_utils)
        if [ -z "$xen_utils" ]; then
            say "This distribution has no package xen-utils-*: the tests need its xenstored and oxenstored."
            exit 1
        fi
        missing="$missing $xen_utils"
        say "Outside of Xen, $xen_utils complains about missing hypervisor information. That is all right."
    fi
    # shellcheck disable=SC2086  # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $missing >&2
}

on_others() {
    missing=
    needs() {
        missing="$missing
    $1"
    }
    have cc || needs "a C compiler with the C library's headers (cc)"
    have pkg-config || needs "pkg-config"
    pkg-config --exists libudev 2>/dev/null || needs "libudev with its headers, for pkg-config to find"
    has_xen_utils || needs "xenstored and oxenstored in /usr/lib/xen-*/bin (Debian: $xen_utils_default)"
    have xenstore-ls || needs "the xenstore-* programs (Debian: xenstore-utils)"
    have zsh || needs "zsh"
    have fish || needs "fish"
    has_umockdev || needs "libumockdev-preload.so.0 (umockdev)"
    if [ -n "$missing" ]; then
        say "This is not Debian or a relative of it, so nothing was installed. Missing:$missing"
        say "Building alone (cargo build --release) needs the C compiler, pkg-config and libudev."
        exit 1
    fi
}

has_umockdev() {
    for dir in /usr/lib /usr/lib64 /usr/local/lib /usr/lib/*-linux-gnu; do
        [ -e "$dir/libumockdev-preload.so.0" ] && return
    done
    return 1
}

if ! have cargo; then
    say "There is no cargo. Install the Rust toolchain (https://rustup.rs), 1.88 or newer."
    exit 1
fi
if have dpkg-query && have apt-get; then
    on_debian "$@"
else
    on_others
fi
