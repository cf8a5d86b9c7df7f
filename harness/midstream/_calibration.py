"""What `midstream calibrate` found out, as data and as tables: for the docs, the reports and `doctor`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from midstream._errors import HarnessError, UsageError

ENDINGS = ("fin", "rst", "half", "stall")
BEGIN, END = "<!-- calibration -->", "<!-- end of calibration -->"
FOLDER = "calibration"  # below the folder of the reports
HEAD = (
    *("injector", "version", *(f"exact: {e}" for e in ENDINGS)),
    *("added to an answer", "added to a first byte with a rule", "throughput"),
)


@dataclass
class Row:
    """One ending of one injector. `off` are the differences seen, delivered minus requested."""

    ending: str
    trials: int = 0
    exact: int = 0
    off: dict[int, int] = field(default_factory=dict)
    wrong_end: int = 0
    trouble: int = 0
    reason: str = ""  # why it is not carried

    @property
    def carried(self) -> bool:
        return not self.reason


@dataclass
class Measured:
    """One injector; times in seconds, rate in bytes per second."""

    injector: str
    version: str
    rows: list[Row] = field(default_factory=list)
    latency: float = 0.0  # added to an answer
    armed: float = 0.0  # added to the first byte of an answer that a rule is for
    rate: float = 0.0

    @property
    def exact(self) -> bool:
        return all(r.exact == r.trials for r in self.rows if r.carried)


@dataclass
class Calibration:
    """All of it, with where and when."""

    machine: str
    date: str
    trials: int
    direct_rate: float
    direct_latency: float
    injectors: list[Measured] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}


def _cell(row: Row) -> str:
    if not row.carried:
        return "not carried"
    text = f"{row.exact} of {row.trials}"
    if row.off:
        worst = max(row.off, key=abs)
        text += f", worst {worst:+d} bytes"
    if row.wrong_end:
        text += f", {row.wrong_end} wrong endings"
    if row.trouble:
        text += f", {row.trouble} seen as inexact"
    return text


def _cells(one: Measured) -> list[str]:
    """A row below `HEAD`."""
    return [
        *(one.injector, one.version or "bundled", *map(_cell, one.rows)),
        *(f"{one.latency * 1000:.2f} ms", f"{max(0.0, one.armed) * 1000:.1f} ms"),
        f"{one.rate / 1e6:,.0f} MB/s",
    ]


def where(found: Calibration) -> str:
    """When and on what it was measured."""
    return f"Measured on {found.date}: {found.machine}."


def measured(found: Calibration | None, injector: str, version: str) -> tuple[Measured | None, str]:
    """What is known of an injector in this version, or why nothing is."""
    known = next((one for one in found.injectors if one.injector == injector), None) if found else None
    if known is None:
        return None, "not calibrated here; midstream calibrate"
    if known.version != version:
        old = known.version or "another version"
        return None, f"calibrated as {old}, which is not the one here; midstream calibrate"
    return known, ""


def line(one: Measured) -> str:
    """All that matters of an injector, in one line."""
    exact = ", ".join(f"{row.ending} {_cell(row)}" for row in one.rows)
    rest = _cells(one)[2 + len(one.rows) :]
    return f"exact: {exact}; {rest[0]} added to an answer, {rest[2]}"


def rows(found: Calibration | None, versions: Mapping[str, str]) -> list[list[str]]:
    """`HEAD`, then a row for each of these injectors; what is not known of one is said in words."""
    table = [list(HEAD)]
    for injector, version in versions.items():
        one, reason = measured(found, injector, version)
        table.append(_cells(one) if one else [injector, version or "bundled", reason])
    return table


def markdown(found: Calibration) -> str:
    """The table for the docs."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    for one in found.injectors:
        name, *cells = _cells(one)
        lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
    lines += [
        "",
        f"{found.trials} trials of each ending, a quarter of them with a slow reader; the byte drawn anew "
        f"for each. Without an injector: {found.direct_latency * 1000:.2f} ms an answer, "
        f"{found.direct_rate / 1e6:,.0f} MB/s.",
        where(found),
    ]
    reasons = {r.reason: None for one in found.injectors for r in one.rows if r.reason}
    lines += [f"Not carried: {reason}." for reason in reasons]
    return "\n".join(lines) + "\n"


def _rows(found: list[dict[str, Any]]) -> list[Row]:
    return [Row(**{**row, "off": {int(by): times for by, times in row["off"].items()}}) for row in found]


def read(out: Path) -> Calibration | None:
    """What was measured last, by what lies below the folder of the reports; None when there is nothing."""
    try:
        record = json.loads((out / FOLDER / "calibration.json").read_text(encoding="utf-8"))
        record.pop("schema")
        injectors = [Measured(**{**one, "rows": _rows(one["rows"])}) for one in record.pop("injectors")]
        return Calibration(**record, injectors=injectors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing there, or not ours


def put_into(path: Path, table: str) -> None:
    """Replace what stands between the markers of a file; raises UsageError when it has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--docs {path}: {error.strerror}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"--docs {path}: no {BEGIN} and {END} in it")
    path.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")


def write(found: Calibration, out: Path) -> None:
    """calibration.json and calibration.md in a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "calibration.json").write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
        (out / "calibration.md").write_text(markdown(found), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from None


def check(found: Calibration) -> None:
    """Raises HarnessError when an ending that is carried did not come out exact every time."""
    bad = [
        f"{one.injector} {row.ending}: {_cell(row)}"
        for one in found.injectors
        for row in one.rows
        if row.carried and row.exact != row.trials
    ]
    if bad:
        raise HarnessError(f"not exact here: {'; '.join(bad)}")
