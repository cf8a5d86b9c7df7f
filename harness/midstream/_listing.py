"""What `midstream list` and `midstream doctor` show, as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from midstream import _calibration
from midstream._catalog import bundled, properties
from midstream._registry import Availability, members


def _availability(member: Any) -> Availability:
    """Members with requirements answer for themselves; the others are always there."""
    found: Availability = member.available() if hasattr(member, "available") else Availability()
    return found


def _exercised(out: Path) -> set[str]:
    """Scenarios that ran to a verdict about the driver in the newest results."""
    idle = {"not_applicable", "not_reached", "harness_error"}
    try:
        cases = json.loads((out / "results.json").read_text(encoding="utf-8"))["cases"]
        return {case["scenario"] for case in cases if case["verdict"] not in idle}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # no results there, or not ours


def rows(what: str, out: Path) -> list[dict[str, Any]]:
    """The rows of a listing; `out` is where the newest results are."""
    if what == "scenarios":
        return [
            {
                "id": s.id,
                "requirement": s.model.requirement,
                "kind": s.model.kind,
                "properties": s.model.properties,
                "faults": s.model.faults,
                "clauses": s.model.clauses,
            }
            for s in bundled()
        ]
    if what == "properties":
        exercised = _exercised(out)
        listed = []
        for p in properties():
            ids = [s.id for s in bundled() if p.id in s.model.properties]
            listed.append(
                {
                    "id": p.id,
                    "level": p.level,
                    "text": p.text,
                    "clause": p.clause,
                    "scenarios": ids,
                    "exercised": any(i in exercised for i in ids),
                }
            )
        return listed
    return [
        {
            "id": name,
            "summary": member.summary,
            "available": (a := _availability(member)).available,
            "reason": a.reason,
        }
        for name, member in members(what)
    ]


def line(what: str, row: dict[str, Any]) -> str:
    """One row for a reader."""
    if what == "scenarios":
        return f"{row['id']:<34} {row['kind']:<8} {' '.join(row['properties']):<14} {row['requirement']}"
    if what == "properties":
        mark = "x" if row["exercised"] else " "
        count = f"{len(row['scenarios']):>3} scenarios"
        return f"[{mark}] {row['id']:<4} {count}  {row['level'].upper()} {row['text']}"
    note = "" if row["available"] else f"  (not here: {row['reason']})"
    return f"{row['id']:<16} {row['summary']}{note}"


def _exactness(found: _calibration.Calibration | None, injector: str, version: str) -> str:
    one, reason = _calibration.measured(found, injector, version)
    return _calibration.line(one) if one else reason


def doctor(out: Path) -> list[dict[str, Any]]:
    """What can be used here, per member of every family that depends on something.

    Of an injector also what was measured last, by what lies in the folder of the reports.
    """
    calibration = _calibration.read(out)
    found = []
    for family in ("stores", "injectors", "drivers"):
        for name, member in members(family):
            a = _availability(member)
            exactness = _exactness(calibration, name, a.version) if family == "injectors" else None
            found.append(
                {
                    "id": name,
                    "family": family,
                    "available": a.available,
                    "version": a.version,
                    "how": a.how if a.available else a.reason,
                    "hint": a.hint,
                    "calibration": exactness,
                }
            )
    return found
