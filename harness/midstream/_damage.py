"""What is wrong with a file or an object that is not the one it should be, named and in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from midstream._content import FOREIGN, RECORD, ZERO, Run
from midstream._verdict import Expectation, Sink, Verdict, numbers


def _span(start: int, end: int) -> str:
    return f"byte {numbers(start)}" if end - start == 1 else f"bytes {numbers(start)}-{numbers(end - 1)}"


def exact(sink: Sink, size: int, generations: Sequence[int]) -> bool:
    """Whether the file is one whole generation."""
    if not sink.exists or sink.size != size:
        return False
    if size == 0:
        return True
    return len(sink.runs) == 1 and sink.runs[0] in [Run(0, size, g, 0) for g in generations]


def complete(sink: Sink, expect: Expectation, size: int) -> bool:
    """Whether the file is one of the objects that may be delivered."""
    return any(exact(sink, s, (g,)) for g, s in _wanted(expect, size))


def _wanted(expect: Expectation, size: int) -> list[tuple[int, int]]:
    return [(g, s) for g, s in expect.objects if g in expect.generations] or [
        (g, size) for g in expect.generations
    ]


def size_of(sink: Sink, expect: Expectation, size: int) -> int:
    """How long the object would be that the file begins with."""
    first = next((r.source for r in sink.runs if r.source > 0), 0)
    sizes = [s for g, s in expect.objects if g == first]
    return size if not sizes or size in sizes else sizes[0]


def name_damage(sink: Sink, size: int, generations: Sequence[int]) -> tuple[Verdict, str]:
    """Name what is wrong with a file that is not exact."""
    if not sink.exists:
        return Verdict.TRUNCATED, "reported success, but there is no file"
    own = [r for r in sink.runs if r.source > 0]
    zero = [r for r in sink.runs if r.source == ZERO]
    foreign = [r for r in sink.runs if r.source == FOREIGN]
    if second := next((r for r in own if r.source != own[0].source), None):
        return Verdict.SPLICED, (
            f"generation {own[0].source} up to {numbers(second.start)}, "
            f"generation {second.source} from {numbers(second.start)}"
        )
    in_place = all(r.start == r.origin for r in own)
    if zero and not foreign and in_place and sink.size <= size:
        where = ", ".join(_span(r.start, r.end) for r in zero[:3])
        return Verdict.HOLE, f"{where} zero, {'the rest in place' if own else 'nothing else there'}"
    if foreign or zero:
        return _not_ours(own, sorted([*foreign, *zero], key=lambda r: r.start), sink.size, size, in_place)
    if not own:
        return Verdict.TRUNCATED, f"0 of {numbers(size)} bytes"
    if len(own) == 1 and in_place and sink.size >= size and own[0].source not in generations:
        return Verdict.SPLICED, f"all of generation {own[0].source}, which was not to be had"
    return _misplaced(own, size)


def _not_ours(
    own: Sequence[Run], other: Sequence[Run], length: int, size: int, in_place: bool
) -> tuple[Verdict, str]:
    """Bytes in the file that the object does not have there."""
    if not own:
        return Verdict.FOREIGN, f"none of the {numbers(length)} bytes are the object's"
    first = other[0]
    # A few changed bytes with everything else where it belongs are damage, not somebody else's text.
    if in_place and length == size and sum(r.length for r in other) <= 64:
        return Verdict.CORRUPT, f"{_span(first.start, first.end)} changed, length kept"
    return Verdict.FOREIGN, f"{_span(first.start, first.end)} of the file are not the object's"


def _misplaced(own: Sequence[Run], size: int) -> tuple[Verdict, str]:
    """One generation only, every byte the object's, but not in one piece."""
    had: list[tuple[int, int]] = []
    for run in own:
        start, end = run.origin, run.origin + run.length
        twice = [(max(start, a), min(end, b)) for a, b in had if a < end and start < b]
        # Records begin alike, so a run may take a few bytes more than it should where another joins it. Only
        # what follows directly tells exactly.
        twice = [(a, b) for a, b in twice if b - a >= RECORD or b == had[-1][1]]
        if twice:
            a, b = min(twice)
            at = numbers(run.start + a - start)
            return Verdict.DUPLICATED, f"{_span(a, b)} twice, the second time at {at} of the file"
        had.append((start, end))
    if had != sorted(had):
        return Verdict.CORRUPT, "the bytes are the object's, but out of order"
    missing: list[str] = []
    reached = 0
    for run in own:
        if run.origin > reached:
            missing.append(f"{_span(reached, run.origin)} missing at {numbers(run.start)} of the file")
        reached = run.origin + run.length
    if not missing:
        if reached < size:
            return Verdict.TRUNCATED, f"{numbers(reached)} of {numbers(size)} bytes"
        return (
            Verdict.FOREIGN,
            f"{numbers(reached)} bytes, {numbers(reached - size)} more than the object has",
        )
    if reached < size:
        missing.append(f"{_span(reached, size)} missing at the end")
    return Verdict.SHIFTED, "; ".join(missing[:3])
