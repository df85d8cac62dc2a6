#!/usr/bin/env python3
"""Runs the scenarios, all or those that are named, and tells a line about each.

    run.py [--agent PROGRAM] [--list] [--measure] [--repeat N] [--again N] [--jobs N]
           [--tolerate N] [--seconds N] [--history] [NAME…]

NAME is a scenario or a file. A line ends with the seconds that it took, and those of the processor. A few
machines share the work: one more than the computer has cores, because a machine that waits needs none, but
three at most, and fewer where memory is short.

With --repeat, a machine for which one run has nothing left makes room for one of the next at once, so two
runs overlap for a moment.

With --again, one that fails is run so often again on new machines, and has failed if it fails once more; if
not, it is told of as unsteady.

Ends with 0 if all passed, 1 if one failed, 2 if some were not proved: because the rig itself was at fault
or the time was over, in more scenarios than --tolerate says, which is none.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import resource
import shutil
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True

import history  # noqa: E402
from machine import ROOT, RUNS  # noqa: E402
from registry import scenarios  # noqa: E402
from rig import Rig  # noqa: E402
from waiting import Failure, RigFault  # noqa: E402

# Runs whose logs are kept.
KEPT_RUNS = 10

# A scenario in which the rig was at fault is tried again on a new machine, so often.
TRIES = 2


# Bytes of memory that one machine takes.
MACHINE_MEMORY = 3 << 30

_printing = threading.Lock()


@dataclasses.dataclass
class Cost:
    """What a scenario or a boot has taken: seconds, and those of the processor as far as they are known."""

    seconds: float
    processor: float = 0.0


class Results:
    """What all runners of one run have in common."""

    def __init__(self):
        RUNS.mkdir(parents=True, exist_ok=True)
        for old in sorted(RUNS.glob("2*"))[: -KEPT_RUNS + 1]:
            shutil.rmtree(old, ignore_errors=True)
        self.directory = RUNS / time.strftime("%Y%m%d-%H%M%S")
        self.directory.mkdir()
        self.by_outcome = {"passed": [], "failed": [], "known": [], "rig fault": []}
        # How each time ended that a scenario was run, and its seconds: {name: [(outcome, seconds)]}.
        self.times = {}
        self._boots = 0
        self._lock = threading.Lock()

    @property
    def boots(self):
        return self._boots

    def add(self, name, outcome, seconds):
        with self._lock:
            self.by_outcome[outcome].append(name)
            self.times.setdefault(name, []).append((outcome, seconds))

    def failed(self):
        """The names of those that failed, however often."""
        return sorted(set(self.by_outcome["failed"]))

    def unsteady(self, again):
        """The names of those that failed once, and then passed so often, which is at least once."""
        ends = {name: [outcome for outcome, _ in times] for name, times in self.times.items()}
        passed = ["passed"] * again
        return [name for name, each in ends.items() if again and each.count("failed") == 1 and each[-again:] == passed]

    def next_boot(self):
        with self._lock:
            self._boots += 1
            return self.directory / f"boot{self._boots}"


class Work:
    """One run: the scenarios that are still to be run, long ones first, and how the others ended. A runner gets
    first what its machine can run, then what no other has begun with: each boot takes half a minute."""

    def __init__(self, scenarios, deadline, title=None):
        self._left = sorted(scenarios, key=lambda one: not one.long)
        self._wanted = len(self._left)
        self._deadline = deadline
        self._title = title
        self._begun = set()
        self._began = None
        self._lock = threading.Lock()
        # How each scenario ended: {name: (outcome, seconds)}.
        self.outcomes = {}

    def take(self, machine):
        """The next for a runner that has a machine of that kind, or None; None when nothing is left or the
        time is over."""
        with self._lock:
            if not self._left or time.monotonic() > self._deadline:
                return None
            if self._began is None:
                self._began = time.monotonic()
                if self._title:
                    print(self._title, flush=True)
            kinds = [one.machine for one in self._left]
            fresh = next((kind for kind in kinds if kind not in self._begun), kinds[0])
            kind = machine if machine in kinds else fresh
            self._begun.add(kind)
            return self._left.pop(kinds.index(kind))

    def add(self, name, outcome, seconds):
        """Notes how one ended; gives the seconds of the whole run if it was the last of all, else None."""
        with self._lock:
            self.outcomes[name] = (outcome, seconds)
            return time.monotonic() - self._began if len(self.outcomes) == self._wanted else None

    def left(self):
        """The names of those that nobody has begun."""
        with self._lock:
            return [one.name for one in self._left]


class Runner:
    """Runs scenarios one after the other on a machine of its own. `ended` is told of each run of which this one
    has run the last scenario, with its seconds."""

    def __init__(self, program, results, ended=lambda work, seconds: None):
        self.program = program
        self.results = results
        self.ended = ended
        self.rig = None

    def work(self, works):
        """Runs scenarios until none is left, of one run after the other. It does not wait for the other runners
        before it begins with the next run, for which it takes a new machine."""
        try:
            for work in works:
                while scenario := work.take(self.machine):
                    seconds = work.add(scenario.name, *self.run(scenario))
                    if seconds is not None:
                        self.ended(work, seconds)
                self.drop()
        finally:
            self.drop()

    @property
    def machine(self):
        """The kind of the machine that runs; None if none does."""
        return (self.rig.machine.vcpus, self.rig.machine.kind) if self.rig else None

    def boot(self, vcpus, dom0):
        """A machine of that kind; the one that runs, if it is one."""
        if self.machine == (vcpus, dom0):
            return
        self.drop()
        self.rig = Rig(self.results.next_boot(), self.program, vcpus, dom0)
        began = time.monotonic()
        try:
            self.rig.start()
        except Exception:
            self.drop()
            raise
        cost = Cost(time.monotonic() - began, self.rig.machine.processor_seconds())
        tell("booted", f"{vcpus} virtual CPU{'s' if vcpus > 1 else ''}, {dom0}", cost)

    def drop(self):
        if self.rig is not None:
            self.rig.stop()
            self.rig = None

    def run(self, scenario):
        """Runs it, again if the rig was at fault; gives how it ended and its seconds."""
        for _ in range(TRIES):
            outcome, why, cost = self._try(scenario)
            if scenario.known and outcome == "failed":
                outcome, why = "known", f"{scenario.known}\n{why}"
            elif scenario.known and outcome == "passed":
                why = "it is marked as known to fail: take the mark away"
            tell(outcome, scenario.name, cost, why)
            if outcome != "rig fault":
                break
        self.results.add(scenario.name, outcome, cost.seconds)
        return outcome, cost.seconds

    def _try(self, scenario):
        """One attempt: how it ended, what there is to say, and its cost without the boot."""
        outcome, why = "passed", None
        began, taken = time.monotonic(), 0.0
        try:
            self.boot(*scenario.machine)
            began, taken = time.monotonic(), self.rig.machine.processor_seconds()
            try:
                why = scenario.run(self.rig)
            except (Failure, RigFault):
                self.rig.machine.check()
                raise
            try:
                self.rig.clean()
            except Failure as failure:
                self.rig.machine.check()
                raise Failure(f"after it: {failure}") from failure
            self.rig.machine.check()
        except Failure as failure:
            outcome, why = "failed", str(failure)
        except RigFault as fault:
            outcome, why = "rig fault", str(fault)
        except Exception:
            outcome, why = "failed", traceback.format_exc()
        cost = Cost(time.monotonic() - began)
        if self.rig is not None and self.rig.machine.runs():
            cost.processor = self.rig.machine.processor_seconds() - taken
        if outcome != "passed":
            kept = self.results.directory / f"{scenario.name}.{outcome.replace(' ', '-')}"
            why = f"{why}\n     kept in {kept.relative_to(ROOT)}"
            try:
                if self.rig is not None:
                    self.rig.keep(kept)
            except (RigFault, OSError) as error:
                why += f" (not all of it: {error})"
            self.drop()
        return outcome, why, cost


def tell(outcome, name, cost, why=None):
    text = f"{outcome:>9}  {name:<45} {cost.seconds:6.1f} s {cost.processor:6.1f} s"
    if why:
        text += "\n     " + str(why).strip().replace("\n", "\n     ")
    with _printing:
        print(text, flush=True)


def choose(names, measure):
    known = scenarios()
    if not names:
        return [one for one in known if one.measures == measure]
    chosen = [one for one in known if one.name in names or one.theme in names]
    missing = set(names) - {one.name for one in chosen} - {one.theme for one in chosen}
    if missing:
        sys.exit(f"no such scenario: {', '.join(sorted(missing))}; --list shows all")
    return chosen


def usual_jobs(measure):
    """As many machines at once as the computer carries; what measures has it to itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 1 if measure else max(1, min(3, len(os.sched_getaffinity(0)) + 1, memory // MACHINE_MEMORY))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--agent", type=pathlib.Path, default=ROOT / "target/release/pvusb-agent")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--measure", action="store_true", help="run those that measure")
    parser.add_argument("--repeat", type=int, default=1, help="run all of it so often, each time on new machines")
    parser.add_argument("--again", type=int, default=0, help="what fails is run so often again, and must not fail then")
    parser.add_argument("--tolerate", type=int, default=0, help="so many that are not proved do not count")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no scenario after that")
    parser.add_argument("--jobs", type=int, help="how many machines at once")
    parser.add_argument("--history", action="store_true", help="tell of all full runs with these images")
    arguments = parser.parse_args()
    chosen = choose(arguments.names, arguments.measure)
    if arguments.list:
        for one in chosen:
            print(f"{one.theme:<12} {one.name:<45} {(one.run.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if arguments.history:
        print(history.told())
        return 0
    began = time.monotonic()
    deadline = began + arguments.seconds
    results = Results()
    measure = any(one.measures for one in chosen)
    jobs = min(arguments.jobs or usual_jobs(measure), len(chosen))

    def ended(work, seconds):
        if not arguments.names and not measure:
            history.add(arguments.agent, seconds, work.outcomes)

    titles = [f"{number} of {arguments.repeat}" for number in range(1, arguments.repeat + 1)]
    works = [Work(chosen, deadline, title if len(titles) > 1 else None) for title in titles]
    if not run_all(works, [Runner(arguments.agent, results, ended) for _ in range(jobs)]):
        print("interrupted")
        return 130
    left = [name for work in works for name in work.left()]
    doubtful = [one for one in chosen if one.name in results.failed()]
    again = [Work(doubtful, deadline) for _ in range(arguments.again)]
    run_all(again, [Runner(arguments.agent, results) for _ in range(jobs)])
    return judge(results, left, len(chosen) * arguments.repeat, arguments, time.monotonic() - began)


def run_all(works, runners):
    """Lets all of them work until nothing is left; False if a person interrupts."""
    threads = [threading.Thread(target=runner.work, args=[works], daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for runner in runners:
            runner.drop()
        return False
    return True


def judge(results, left, wanted, arguments, seconds):
    """Says how it ended; gives the exit code."""
    if any(len(times) > 1 for times in results.times.values()):
        print(history.table(results.times))
    words = ", ".join(f"{len(names)} {outcome}" for outcome, names in results.by_outcome.items())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{words}; {results.boots} boots; {seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor; "
        f"logs in {results.directory.relative_to(ROOT)}"
    )
    faults = results.by_outcome["rig fault"]
    if faults:
        print(f"NOT PROVED, because the rig was at fault, {TRIES} times each: {', '.join(faults)}")
    if left:
        print(f"NOT PROVED, because the time was over: {', '.join(left)}")
    done = sum(len(names) for names in results.by_outcome.values()) + len(left)
    unsteady = results.unsteady(arguments.again)
    if unsteady:
        print(f"UNSTEADY, because it failed once, and not when it was run again: {', '.join(unsteady)}")
    if set(results.failed()) - set(unsteady) or done < wanted:
        return 1
    return 2 if len(faults) + len(left) > arguments.tolerate else 0


if __name__ == "__main__":
    sys.exit(main())
