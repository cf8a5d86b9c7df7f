"""Known failures: which verdicts are expected of a driver that is not there yet, and why.

    [[known]]
    driver = "cmd:curl *"        # globs; each is optional but `reason`
    scenario = "cut-*"
    store = "*"
    verdict = "needless_failure" # optional: fail exactly so
    reason = "curl does not retry a body by itself"

The list is strict: a case that is listed and passes is as unexpected as one that fails unlisted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from midstream._errors import UsageError
from midstream._explain import explain
from midstream._runner import Case
from midstream._verdict import Verdict


class Known(BaseModel):
    """One entry."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: str = Field(min_length=1)
    driver: str = "*"
    scenario: str = "*"
    variant: str = "*"
    store: str = "*"
    injector: str = "*"
    verdict: str | None = None

    @field_validator("verdict")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in set(Verdict):
            raise ValueError(f"{value!r} is no verdict; known: {', '.join(Verdict)}")
        return value

    def covers(self, case: Case) -> bool:
        pairs = (
            (self.driver, case.driver.id),
            (self.scenario, case.scenario.id),
            (self.variant, case.variant.name),
            (self.store, case.store.id),
            (self.injector, case.injector),
        )
        return all(glob == text or fnmatchcase(text, glob) for glob, text in pairs)


class KnownFailures:
    """A list of entries; the first that covers a case counts."""

    def __init__(self, entries: Sequence[Known]) -> None:
        self.entries = entries

    @classmethod
    def read(cls, path: Path) -> KnownFailures:
        """Read a file; raises UsageError naming file and key."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--xfail {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"--xfail {path}: not TOML: {error}") from None
        if extra := set(raw) - {"known"}:
            raise UsageError(f"--xfail {path}: {min(extra)}: unknown key; allowed: known")
        listed = raw.get("known", [])
        if not isinstance(listed, list):
            raise UsageError(f"--xfail {path}: known: write each entry below a [[known]]")
        entries = []
        for index, entry in enumerate(listed):
            if not isinstance(entry, dict):
                raise UsageError(f"--xfail {path}: known[{index}]: must be a table, not {entry!r}")
            try:
                entries.append(Known.model_validate(entry))
            except ValidationError as error:
                raise UsageError(f"--xfail {path}: known[{index}].{explain(error, Known)}") from None
        return cls(entries)

    def match(self, case: Case) -> Known | None:
        """The first entry that covers a case."""
        return next((entry for entry in self.entries if entry.covers(case)), None)
