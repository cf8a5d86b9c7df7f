"""Checks: rules a driver's conduct is held to beyond the bytes themselves, one file each.

A check is a pure function of what was seen; it has a finding when the rule is broken and None otherwise.
Whether the bytes are right is not a check: the verdict function names their damage itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from midstream._errors import HarnessError
from midstream._registry import members
from midstream._verdict import Finding, Seen


class Check(ABC):
    """One rule."""

    id: ClassVar[str]
    summary: ClassVar[str]
    properties: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check(self, seen: Seen) -> Finding | None:
        """What is wrong, or None."""


def run_all(seen: Seen) -> list[Finding]:
    """The findings of every check, in order of their ids. Raises HarnessError for a check that fails."""
    found = []
    for name, check in members("checks"):
        try:
            finding = check.check(seen)
        except Exception as error:
            raise HarnessError(f"check {name}: {type(error).__name__}: {error}") from error
        if finding:
            found.append(finding)
    return found
