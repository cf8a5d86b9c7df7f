"""Checks: rules a driver's conduct is held to beyond the bytes themselves, one file each.

A check is a pure function of what was seen; it has a finding when the rule is broken and None otherwise.
Whether the bytes are right is not a check: the verdict function names their damage itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

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
    """The findings of every check, in order of their ids."""
    found = (check.check(seen) for _, check in members("checks"))
    return [finding for finding in found if finding]
