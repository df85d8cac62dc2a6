#!/usr/bin/env bash
# Writes dist/order.ld anew: which functions an agent uses that has nothing to do. It is found out with valgrind, of
# an agent with fifty devices and twenty domains (tests/integration/weight.rs), from its start to its rest.
#
# Run it when the test of its weight fails because the code has changed much. The list need not be exact: a name
# that is missing in it costs some memory, one that is too many the same, and a wrong one nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export LC_ALL=C
tests/scripts/deps.sh valgrind
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# With the names in it.
names=$(realpath -m "${CARGO_TARGET_DIR:-target}/order")
CARGO_TARGET_DIR=$names CARGO_PROFILE_RELEASE_STRIP=none cargo build --locked --release
program=$names/release/pvusb-agent

# The test ends the agent by SIGKILL, so what was counted is written again and again meanwhile.
cat >"$scratch/program" <<END
#!/bin/sh
exec valgrind --tool=callgrind --demangle=no --dump-every-bb=200000 --log-file=$scratch/log.%p \
    --callgrind-out-file=$scratch/called.%p "$program" "\$@"
END
chmod 755 "$scratch/program"
# It takes more memory and time under valgrind than the test allows.
PVUSB_AGENT_PROGRAM=$scratch/program cargo test --locked --test integration weight:: >"$scratch/test" 2>&1 || true

sed -n 's/^c\{0,1\}fn=([0-9]*) //p' "$scratch"/called.* | sort -u >"$scratch/called"
nm --print-size --defined-only "$program" | awk 'NF == 4 && $3 ~ /[tTwW]/ { print $4, $2 }' | sort >"$scratch/there"
join "$scratch/called" "$scratch/there" >"$scratch/used"
count=$(wc -l <"$scratch/used")
[ "$count" -gt 500 ] || { cat "$scratch/test" >&2; echo "only $count functions were seen" >&2; exit 1; }

# In a name, `Cs…_` is a crate in one build of it, `s…_` one of several blocks of code with the same name, and `B…_` refers
# back to a place in the name (https://doc.rust-lang.org/rustc/symbol-mangling/v0.html). All of them are other ones
# after the next change, so they are left open; so are the crate for which a generic function was made, which comes last
# and is any of those that need it, a number after it, and what comes after LONG characters. Of several small functions that
# are the same, one is left, whose name is any of theirs: for up to SMALL bytes fewer characters count.
LONG=120 SMALL=64 SHORT=60
{
    echo '/* Which functions come first in the program: those of an idle agent (build.rs). Made by `make order`. */'
    echo 'SECTIONS { .text.first : {'
    while read -r name size; do
        if ((16#$size > SMALL)); then echo "$LONG $name"; else echo "$SHORT $name"; fi
    done <"$scratch/used" |
        sed -E 's/(\.[0-9]+)?$/*/; s/(.)(Cs[0-9A-Za-z]{6,12}_[0-9]+[a-z_]+|B[0-9A-Za-z]{0,3}_)\*$/\1*/
            s/Cs[0-9A-Za-z]{6,12}_/*/g; s/([MX])s[0-9A-Za-z]{0,3}_/\1*/g; s/B[0-9A-Za-z]{0,3}_/B*/g; s/ _R[A-Za-z]*\*/ */
            s/^('$LONG' .{'$LONG'}).+/\1*/; s/^('$SHORT' .{'$SHORT'}).+/\1*/
            s/\*+/*/g; s/^[0-9]+ (.*)/*(.text.\1)/' | sort -u
    echo '} } INSERT BEFORE .text;'
} >dist/order.ld
echo "dist/order.ld: $(grep -c '^\*' dist/order.ld) names of $count functions"
