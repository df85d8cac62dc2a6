"""All full runs with one set of images, also those of other days: how often in a row everything passed.

A run in which something failed is never taken out: it ends the row.
"""

import hashlib
import json
import statistics
import time

from machine import IMAGES

FILE = IMAGES.parent / "history"


def add(agent, seconds, outcomes):
    """Notes a full run of that program. `outcomes` is {scenario: (outcome, seconds)}."""
    run = {
        "ended": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "agent": hashlib.sha256(agent.read_bytes()).hexdigest()[:12],
        "seconds": round(seconds),
        "outcomes": {name: [outcome, round(took, 1)] for name, (outcome, took) in outcomes.items()},
    }
    with open(FILE, "a") as file:
        file.write(json.dumps(run) + "\n")


def told():
    """The last runs in a row in which everything passed, and a table of them."""
    runs = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    row = runs
    for at, run in enumerate(runs):
        if any(outcome != "passed" for outcome, _ in run["outcomes"].values()):
            row = runs[at + 1:]
    lines = [f"{len(runs)} full runs; in the last {len(row)} all scenarios passed"]
    lines += [f"{run['ended']}  agent {run['agent']}  {len(run['outcomes'])} passed  {run['seconds']} s" for run in row]
    times = {}
    for run in row:
        for name, one in run["outcomes"].items():
            times.setdefault(name, []).append(one)
    return "\n".join([*lines, table(times)])


def table(times):
    """How often each scenario passed and how long it took, for docs/benchmarks.md. `times` is
    {scenario: [(outcome, seconds)]}."""
    lines = ["| scenario | passed | least | median | most |", "|---|---|---|---|---|"]
    for name, each in times.items():
        passed = sum(outcome == "passed" for outcome, _ in each)
        seconds = [seconds for _, seconds in each]
        figures = [min(seconds), statistics.median(seconds), max(seconds)]
        words = " | ".join(f"{figure:.1f} s" for figure in figures)
        lines.append(f"| `{name}` | {passed} of {len(each)} | {words} |")
    return "\n".join(lines)
