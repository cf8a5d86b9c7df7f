"""Runs saboteurs through scenarios on the bundled origin, in process, and says what caught them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import midstream._runner as runner
from midstream._catalog import bundled
from midstream._grounds import Grounds
from midstream._registry import load, members
from midstream._runner import Case
from midstream._scenario import Loaded, Variant, applies, parse_values
from midstream._verdict import Finding, Seen
from midstream._workers import process_for
from midstream.drivers._spec import resolve

HERE = Path(__file__).parent
SEED = 1
DEADLINE = 8.0  # nothing that comes to an end takes longer
HANGS = 2  # one more scenario in which it hangs says nothing new about a saboteur
LARGE = 4 << 20


@dataclass(frozen=True)
class Row:
    """What one case says of one saboteur."""

    scenario: str
    variant: str
    verdict: str
    level: str  # must, should, harness or ""
    diagnosis: str
    checks: tuple[str, ...]
    replay: str

    @property
    def caught(self) -> bool:
        return self.level in ("must", "should")

    @property
    def place(self) -> str:
        return f"{self.scenario}[{self.variant}]" if self.variant else self.scenario


class _Findings(threading.local):
    """Which checks had something to say in the case that this thread runs."""

    def __init__(self) -> None:
        self.names: list[str] = []


_FINDINGS = _Findings()


def _run_all(seen: Seen) -> list[Finding]:
    found = [(name, finding) for name, check in members("checks") if (finding := check.check(seen))]
    _FINDINGS.names = [name for name, _ in found]
    return [finding for _, finding in found]


class Zoo:
    """The ground the saboteurs are let loose on. A context manager."""

    def __init__(self, store: str = "origin") -> None:
        self._grounds = Grounds({"embedded": load("injectors", "embedded")})
        self._store = load("stores", store)
        self._kept = runner.run_all

    def __enter__(self) -> Zoo:
        runner.run_all = _run_all  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        runner.run_all = self._kept
        self._grounds.close()

    def run(
        self, driver: str, cases: Sequence[tuple[Loaded, Variant]], deadline: float = DEADLINE
    ) -> list[Row]:
        """One row for each case, as long as the driver does not hang again and again."""
        found = resolve(driver)
        process = process_for(found, self._grounds.folder)
        rows: list[Row] = []
        try:
            for loaded, variant in cases:
                if sum(row.verdict == "hang" for row in rows) >= HANGS:
                    break
                limit = min(deadline, loaded.model.deadline)
                hasty = replace(loaded, model=loaded.model.model_copy(update={"deadline": limit}))
                _FINDINGS.names = []
                case = Case(hasty, variant, found, "", self._store, "embedded", SEED)
                result = self._grounds.run(case, process)
                judged = result.judgement
                rows.append(
                    Row(
                        loaded.id,
                        variant.name,
                        judged.verdict.value,
                        judged.level,
                        judged.diagnosis,
                        tuple(_FINDINGS.names),
                        case.replay,
                    )
                )
        finally:
            process.close()
        return rows


def scenarios() -> list[Loaded]:
    """All downloads that are meant for the origin."""
    return [s for s in bundled() if applies(s, "origin", "http") and s.model.direction == "download"]


# What the origin cannot make of an object, and the store that does, for what happens only there.
ELSEWHERE = {"versioned": "moto", "dlo": "swift"}


def laid_out(layout: str) -> list[Loaded]:
    """The downloads of objects that are made so."""
    return [s for s in bundled() if s.model.object.layout == layout]


def uploads(store: str) -> list[Loaded]:
    """All uploads that are meant for a store."""
    kind = load("stores", store).kind
    return [s for s in bundled() if applies(s, store, kind) and s.model.direction == "upload"]


def named_upload(store: str, place: str) -> list[tuple[Loaded, Variant]]:
    """The cases that `id` or `id[variant]` names: of several variants two."""
    name, _, rest = place.partition("[")
    loaded = {s.id: s for s in uploads(store)}[name]
    one = loaded.variant(parse_values(rest.removesuffix("]"))) if rest else None
    return [(loaded, variant) for variant in ([one] if one else spread(loaded, 2))]


def strict(loaded: Loaded) -> bool:
    """Whether a scenario accuses anybody of anything."""
    return loaded.model.kind in ("must", "should")


def heavy(loaded: Loaded) -> bool:
    """Long silences, long waits and large objects: not for every saboteur."""
    faults = " ".join(loaded.model.faults)
    waits = re.search(r"stall@|throttle@|delay@|Retry-After=[1-9]|refuse@\S*forever", faults)
    sizes = [variant.size for variant in spread(loaded, 3)]
    return bool(waits) or max(sizes) > LARGE or loaded.model.process.pause > 0


def spread(loaded: Loaded, most: int) -> list[Variant]:
    """At most so many variants, evenly from first to last."""
    variants = list(loaded.variants(SEED))
    if len(variants) <= most:
        return variants
    if most == 1:
        return [variants[len(variants) // 2]]
    return [variants[round(i * (len(variants) - 1) / (most - 1))] for i in range(most)]


def named(place: str) -> tuple[Loaded, Variant | None]:
    """A scenario by `id` or `id[variant]`; raises KeyError for one that does not exist."""
    name, _, rest = place.partition("[")
    loaded = {s.id: s for s in scenarios()}[name]
    return loaded, loaded.variant(parse_values(rest.removesuffix("]"))) if rest else None


def cases_for(
    places: Sequence[str], slow: Sequence[str], variants: int, *, others: bool = True
) -> Iterator[tuple[Loaded, Variant]]:
    """First the scenarios that are meant for a saboteur, then every other that is quick."""
    done = set()
    for place in places:
        loaded, one = named(place)
        for variant in [one] if one else spread(loaded, max(2, variants)):
            if (loaded.id, variant.name) not in done:
                done.add((loaded.id, variant.name))
                yield loaded, variant
    for loaded in scenarios() if others else ():
        if not heavy(loaded) or any(fnmatchcase(loaded.id, glob) for glob in slow):
            for variant in spread(loaded, variants):
                if (loaded.id, variant.name) not in done:
                    yield loaded, variant
