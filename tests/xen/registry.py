"""Where scenarios register themselves. See README.md for how to add one."""

import dataclasses
import importlib
import pathlib
import pkgutil
from typing import Callable

from machine import PLAIN


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    theme: str
    run: Callable
    vcpus: int
    # What runs in dom0: machine.PLAIN or machine.SYSTEMD.
    dom0: str
    # Not part of the plain run, because it takes long and measures rather than checks.
    measures: bool
    # Waits much, or takes long: begun before the others, which then fill what it leaves of the processors.
    long: bool
    # Why it is known to fail; None for a scenario that must pass.
    known: str | None

    @property
    def machine(self):
        """The kind of machine that it needs."""
        return (self.vcpus, self.dom0)


_found = []


def scenario(vcpus=1, dom0=PLAIN, measures=False, long=False, known=None):
    """Marks a function as a scenario. Its name is the scenario's; its docstring says what must hold."""

    def mark(function):
        theme = function.__module__.rsplit(".", 1)[-1]
        _found.append(Scenario(function.__name__, theme, function, vcpus, dom0, measures, long, known))
        return function

    return mark


def scenarios():
    """All of them, in the order of the files' names and within a file from top to bottom."""
    here = pathlib.Path(__file__).parent / "scenarios"
    for module in sorted(pkgutil.iter_modules([str(here)]), key=lambda module: module.name):
        importlib.import_module(f"scenarios.{module.name}")
    return list(_found)
