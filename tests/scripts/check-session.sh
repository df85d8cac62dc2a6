#!/usr/bin/env bash
# Whether the session that README.md shows is what the demo prints:
#
#     tests/scripts/check-session.sh README.md OUTPUT
#
# Every line of the first ```text block must be a line of OUTPUT.
set -euo pipefail

readme=$1 output=$2
session=$(awk '/^```text$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$readme")
[ -n "$session" ] || { echo "$readme shows no session" >&2; exit 1; }

missing=0
while IFS= read -r line; do
    if ! grep -qxF -- "$line" "$output"; then
        printf 'the demo did not print what %s shows: %s\n' "$readme" "$line" >&2
        missing=1
    fi
done <<<"$session"
[ "$missing" = 0 ] && echo "the demo printed every line that $readme shows"
