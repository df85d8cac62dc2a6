#!/bin/sh
# check-demo.sh EXPECTED OUTPUT: whether the demo told its story.
#
# Each line of EXPECTED is an extended regular expression (blank lines and lines that start with #
# are not). Each must match a line of OUTPUT below the one that the expression before it matched.
# Colours are taken out of OUTPUT first.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: check-demo.sh EXPECTED OUTPUT" >&2
    exit 64
fi

escape=$(printf '\033')
plain=$(mktemp)
trap 'rm -f "$plain"' EXIT
sed "s/${escape}\[[0-9;]*[A-Za-z]//g" "$2" >"$plain"

at=0
count=0
while IFS= read -r expression || [ -n "$expression" ]; do
    case "$expression" in
        '' | '#'*) continue ;;
    esac
    found=$(tail -n "+$((at + 1))" "$plain" | grep -n -m 1 -E -e "$expression" | cut -d: -f1)
    if [ -z "$found" ]; then
        echo "the demo did not print, below line $at: $expression" >&2
        exit 1
    fi
    at=$((at + found))
    count=$((count + 1))
done <"$1"

if [ "$count" -eq 0 ]; then
    echo "$1 expects nothing" >&2
    exit 1
fi
echo "the demo printed all $count expected lines, in order"
