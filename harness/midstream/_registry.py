"""Families and how their members are found: one file, one member.

A family is a package (`midstream.faults`); each module in it that does not start with an underscore is one
member, named by its file (`close_on_accept.py` is `close-on-accept`) and holding it as `MEMBER`. Packages of
others add members through an entry point group of the same name (`midstream.faults`). Nothing has to be
listed anywhere else.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from midstream._errors import UsageError

FAMILIES = ("faults", "injectors", "stores", "drivers", "checks", "reports")


@dataclass(frozen=True)
class Availability:
    """Whether a member can be used here; `reason` says why not, `hint` what to do about it."""

    available: bool = True
    reason: str = ""
    hint: str = ""
    version: str = ""
    how: str = "bundled"


@cache
def _entries(family: str) -> tuple[EntryPoint, ...]:
    """Members that other packages add. Looked up once: every look reads the metadata of all packages."""
    return tuple(_every_entry().select(group=f"midstream.{family}"))


@cache
def _every_entry() -> Any:
    return entry_points()  # of a type that differs between 3.11 and 3.12


@cache
def names(family: str) -> tuple[str, ...]:
    """The ids of a family's members, sorted; no member is imported."""
    package = importlib.import_module(f"midstream.{family}")
    own = {m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"}
    return tuple(sorted(own | {e.name for e in _entries(family)}))


@cache
def load(family: str, name: str) -> Any:
    """One member by its id.

    Raises UsageError with the nearest names when there is none.
    """
    known = names(family)
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"no {family[:-1]} is called {name!r}{meant} (known: {', '.join(known)})")
    module = name.replace("-", "_")
    for entry in _entries(family):
        if entry.name == name:
            return entry.load()
    return importlib.import_module(f"midstream.{family}.{module}").MEMBER


def added(family: str) -> list[Any]:
    """The members that other packages add."""
    return [load(family, entry.name) for entry in _entries(family)]


def members(family: str) -> Iterator[tuple[str, Any]]:
    """Every member with its id, in order of the ids."""
    for name in names(family):
        yield name, load(family, name)
