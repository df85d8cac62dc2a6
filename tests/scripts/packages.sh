#!/usr/bin/env bash
# Shows of the .deb and the .rpm, with the real dpkg and rpm, that
#
#   - packaging twice gives the same bytes
#   - both have what `make install` installs, and nothing else but what `deb_only` says
#   - lintian finds nothing wrong
#   - they install, the program runs, and an upgrade and a removal leave alone what the administrator wrote
#   - scripts start, restart and stop the service when they should, and touch no device
#   - removed, they leave nothing behind
#
# The root in which that happens is thrown away: an overlay over this machine's own, in a mount namespace. So it
# needs root (or sudo), and what is not Debian or a relative of it will not do. Nothing is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export LC_ALL=C
umask 022
out=target/packages

say() { printf 'packages: %s (%d s)\n' "$*" "$SECONDS"; }

die() {
    printf 'packages: %s\n' "$*" >&2
    exit 1
}

# same WHAT EXPECTED FOUND: two texts.
same() {
    [ "$2" = "$3" ] || { diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") >&2 || die "$1 is not as expected (> is what was found)"; }
}

# --- in the namespace, as root -----------------------------------------------------------------------

# fresh: another root to be thrown away. What is changed in it is in $upper; / is what it was before.
fresh() {
    upper=$scratch/$1/upper root=$scratch/$1/root
    mkdir -p "$scratch/$1"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$upper,workdir=$scratch/$1/work" "$root"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    # Containers have settings that leave documents out and start no services.
    rm -rf "$root"/etc/dpkg/dpkg.cfg.d/* "$root/usr/sbin/policy-rc.d" "$root/etc/pvusb-agent"
    # A systemd and a udevd that note what they are asked. What only changes links is done by the real systemctl.
    mkdir -p "$root/run/systemd/system" "$root/run/udev" "$root/packages"
    : >"$root/run/udev/control"
    mv "$root/usr/bin/systemctl" "$root/usr/bin/systemctl.real"
    cat >"$root/usr/bin/systemctl" <<'END'
#!/bin/sh
echo "systemctl $*" >>/run/asked
case " $* " in *' is-enabled '* | *' preset '* | *' disable '*) exec systemctl.real --root=/ "$@" ;; esac
END
    printf '#!/bin/sh\necho "udevadm $*" >>/run/asked\n' >"$root/usr/bin/udevadm"
    chmod 755 "$root/usr/bin/systemctl" "$root/usr/bin/udevadm"
    cp "$packages"/* "$root/packages/"
    # Where there is rpm, another package has it.
    mkdir -p "$root/usr/share/zsh/site-functions"
    before=$(changed)
}

# What is in the throw-away root and not in this machine's, or is not the same, but for the books of dpkg, rpm,
# journalctl and others. Directories count only if they are new.
changed() {
    (cd "$upper" && find . -mindepth 1 \
        \( -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/cache -o -path ./var/log -o -path ./run -o -path ./tmp \
        -o -path ./var/lib/systemd/catalog \) -prune \
        -o -printf '%y %P\n') | sort -k 2 | while read -r type path; do
        [ "$type" = d ] && [ -e "/$path" ] || printf '/%s\n' "$path"
    done
}

# left EXPECTED…: what has been changed since `fresh`.
left() {
    same 'what is left behind' "$(printf '%s\n' "$@" | sort)" "$(comm -13 <(sort <<<"$before") <(changed | sort))"
}

inside() { chroot "$root" "$@"; }

# asked WHAT ACTION…: which verbs systemd and udevd were asked for, in order, since the last time.
asked() {
    local what=$1
    shift
    same "what systemd and udevd were asked for: $what" "$(printf '%s\n' "$@")" \
        "$(sed -E '/is-(enabled|active)/d; s/--(system|quiet|no-reload|root=.) //g' "$root/run/asked")"
    : >"$root/run/asked"
}

# What the administrator has in /etc/pvusb-agent: a policy, a rule of ours and one of his own.
administrate() {
    sed 's/^version: 1$/version: 1 # edited/' "$root/usr/share/doc/pvusb-agent/policy.example.yaml" \
        >"$root/etc/pvusb-agent/policy.yaml"
    mkdir "$root/etc/pvusb-agent/rules.d"
    ln -s /usr/share/pvusb-agent/rules/security-keys.yaml "$root/etc/pvusb-agent/rules.d/10-keys.yaml"
    printf 'version: 1\nrules:\n  - keep: dom0\n    match: {id: "16c0:ffff"}\n' >"$root/etc/pvusb-agent/rules.d/20-mine.yaml"
    written=$(content)
    inside pvusb-agent check >/dev/null || die 'what the administrator wrote is refused'
}

administrated=(/etc/pvusb-agent /etc/pvusb-agent/policy.yaml /etc/pvusb-agent/rules.d
    /etc/pvusb-agent/rules.d/10-keys.yaml /etc/pvusb-agent/rules.d/20-mine.yaml)

content() { (cd "$root/etc/pvusb-agent" && find . -printf '%p %m %l\n' | sort && find . -type f -exec sha256sum {} + | sort); }

untouched() { same "/etc/pvusb-agent after $1" "$written" "$(content)"; }

# Whether the installed program is the one that was built, and runs.
runs() {
    same '--version' "pvusb-agent $version" "$(inside pvusb-agent --version)"
    inside pvusb-agent check /usr/share/doc/pvusb-agent/policy.example.yaml >/dev/null || die 'the installed example is refused'
    inside pvusb-agent test --every-rule /usr/share/pvusb-agent/rules/tests >/dev/null || die 'tests of the installed rules fail'
    same '/etc/pvusb-agent' '755 root root' "$(stat -c '%a %U %G' "$root/etc/pvusb-agent")"
}

try_deb() {
    fresh deb
    inside dpkg -i "/packages/$deb1" >/dev/null
    asked 'when it is installed' 'systemctl --preset-mode=enable-only preset pvusb-agent.service' \
        'udevadm control --reload' 'systemctl daemon-reload' 'systemctl start pvusb-agent.service'
    runs
    [ -z "$(inside dpkg --verify pvusb-agent)" ] || die 'dpkg --verify complains'
    [ -L "$root/etc/systemd/system/multi-user.target.wants/pvusb-agent.service" ] || die 'the service is not enabled'
    administrate

    inside dpkg -i "/packages/$deb2" >/dev/null
    same 'the version' "$version-2" "$(inside dpkg-query -W -f '${Version}' pvusb-agent)"
    asked 'in an upgrade' 'udevadm control --reload' 'systemctl daemon-reload' 'systemctl restart pvusb-agent.service'
    runs
    untouched 'an upgrade'

    inside dpkg -r pvusb-agent >/dev/null
    asked 'when it is removed' 'systemctl stop pvusb-agent.service' 'systemctl daemon-reload' 'udevadm control --reload'
    untouched 'a removal'
    # That it was enabled is remembered until it is purged, as for all services of Debian.
    left "${administrated[@]}" /etc/systemd/system/multi-user.target.wants/pvusb-agent.service \
        /var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/pvusb-agent.service \
        /var/lib/systemd/deb-systemd-helper-enabled/pvusb-agent.service.dsh-also

    inside dpkg -P pvusb-agent >/dev/null
    asked 'when it is purged' 'systemctl daemon-reload'
    untouched 'a purge'
    left "${administrated[@]}"

    rm -r "$root/etc/pvusb-agent"
    inside dpkg -i "/packages/$deb1" >/dev/null
    inside dpkg -P pvusb-agent >/dev/null
    left ''
    say 'the .deb installs, upgrades, and goes without a trace'
}

try_rpm() {
    fresh rpm
    # Debian's rpm has its database elsewhere, and does not want to install.
    local rpm=(rpm --root "$root" --dbpath /var/lib/rpm --force-debian)
    rpmdb --root "$root" --dbpath /var/lib/rpm --initdb
    before=$(changed)
    : >"$root/run/asked"
    # Without Fedora's packages nothing can be depended on; `requirements` looks at what it would be.
    "${rpm[@]}" -i --nodeps "$packages/$rpm1"
    asked 'when it is installed' 'systemctl preset pvusb-agent.service' 'systemctl daemon-reload' 'udevadm control --reload'
    runs
    "${rpm[@]}" -V --nodeps pvusb-agent || die 'rpm -V complains'
    administrate

    "${rpm[@]}" -U --nodeps "$packages/$rpm2"
    same 'the version' "$version-2" "$("${rpm[@]}" -q --qf '%{VERSION}-%{RELEASE}' pvusb-agent)"
    asked 'in an upgrade' 'systemctl daemon-reload' 'udevadm control --reload' 'systemctl daemon-reload' \
        'systemctl try-restart pvusb-agent.service'
    runs
    untouched 'an upgrade'

    "${rpm[@]}" -e pvusb-agent
    asked 'when it is removed' 'systemctl disable pvusb-agent.service' 'systemctl stop pvusb-agent.service' \
        'systemctl daemon-reload' 'udevadm control --reload'
    untouched 'a removal'
    left "${administrated[@]}"

    rm -r "$root/etc/pvusb-agent"
    "${rpm[@]}" -i --nodeps "$packages/$rpm1"
    "${rpm[@]}" -e pvusb-agent
    left ''
    say 'the .rpm installs, upgrades, and goes without a trace'
}

if [ "${1-}" = --inside ]; then
    packages=$2 version=$3 deb1=$4 deb2=$5 rpm1=$6 rpm2=$7
    scratch=$(mktemp -d)
    # An overlay's upper layer must not be on an overlay itself, and / may be one.
    mount -t tmpfs packages "$scratch"
    try_deb
    try_rpm
    exit 0
fi
[ $# -eq 0 ] || { echo 'usage: tests/scripts/packages.sh' >&2; exit 64; }

# --- before that, as whoever this is -----------------------------------------------------------------

tests/scripts/deps.sh cpio dpkg-dev lintian rpm systemd
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/packages"

# make_both REVISION
make_both() {
    rm -f $out/*.deb $out/*.rpm
    make --no-print-directory deb rpm REVISION="$1" >&2
}

# made SUFFIX: the one package of this kind.
made() {
    local found=("$out"/*."$1")
    [ -f "${found[0]}" ] && [ ${#found[@]} -eq 1 ] || die "there is not one .$1 in $out"
    printf '%s\n' "${found[0]##*/}"
}

make_both 1
deb1=$(made deb) rpm1=$(made rpm)
cp "$out/$deb1" "$out/$rpm1" "$scratch/packages"
first=$(cd $out && sha256sum "$deb1" "$rpm1")
# Later, from files that were written at another time, by somebody with other habits.
(umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 make_both 1)
same 'what packaging gives the second time' "$first" "$(cd $out && sha256sum "$deb1" "$rpm1")"
say 'packaging twice gave the same bytes:'
printf '%s\n' "$first"
make_both 2
deb2=$(made deb) rpm2=$(made rpm)
cp "$out/$deb2" "$out/$rpm2" "$scratch/packages"

# What the .deb has and `make install` has not.
deb_only='./usr/share/doc/pvusb-agent/changelog.Debian.gz
./usr/share/doc/pvusb-agent/copyright'

mkdir "$scratch/deb" "$scratch/rpm"
made() {
    make -s install DESTDIR="$scratch/$1" PREFIX=/usr ZSHDIR="$2"
    find "$scratch/$1/usr/share/man" -type f -exec gzip -9n {} +
}
made made-deb /usr/share/zsh/vendor-completions
made made-rpm /usr/share/zsh/site-functions
dpkg-deb -x "$out/$deb2" "$scratch/deb"
# rpm2cpio writes everything and ends with 1: it compares how much that was with a tag that cargo-generate-rpm does
# not write as it expects. The digest says whether all is there.
rpm -K --nosignature "$out/$rpm2" >/dev/null
{ rpm2cpio "$out/$rpm2" || true; } | (cd "$scratch/rpm" && cpio --quiet -id --no-absolute-filenames)
# Every file and directory with its mode, and every file with what is in it.
listed() {
    (cd "$1" && find . -mindepth 1 -printf '%m %p\n' && find . -type f -exec sha256sum {} +) | sort -k 2 |
        awk -v only="$2" 'BEGIN { split(only, names); for (i in names) leave[names[i]] } !($2 in leave)'
}
same 'what the .deb has' "$(listed "$scratch/made-deb" '')" "$(listed "$scratch/deb" "$deb_only")"
same 'what the .rpm has' "$(listed "$scratch/made-rpm" '')" "$(listed "$scratch/rpm" '')"
for only in $deb_only; do [ -e "$scratch/deb/$only" ] || die "the .deb has no $only"; done
say "both have what make install installs: $(find "$scratch/made-deb" -type f | wc -l) files"

# Nothing of Xen is required: a package of dom0's tools may have another name, or be built by hand.
same 'what the .deb depends on' 'libc6 libudev1' \
    "$(dpkg-deb -f "$out/$deb2" Depends | sed -E 's/ \([^)]*\)//g; s/,//g')"
requirements=$(rpm -qp --requires "$out/$rpm2" | sed -E 's/\(.*//; /^rpmlib/d; /^rtld/d' | sort -u)
same 'what the .rpm requires' $'/bin/sh\ncoreutils\nfindutils\nlibc.so.6\nlibgcc_s.so.1\nlibudev.so.1' "$requirements"

# Not for a package that does not go into Debian's archive: `initial-upload-closes-no-bugs`. And the documents
# link to CHANGELOG.md by this name: `wrong-name-for-upstream-changelog`.
lintian --allow-root --fail-on error,warning \
    --suppress-tags initial-upload-closes-no-bugs,wrong-name-for-upstream-changelog "$out/$deb2"
say 'lintian has nothing to say'

version=$(target/packages/tree/usr/bin/pvusb-agent --version)
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" unshare --mount --propagation private "$0" --inside "$scratch/packages" "${version#pvusb-agent }" \
    "$deb1" "$deb2" "$rpm1" "$rpm2"
say 'all is well'
