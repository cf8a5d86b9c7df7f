"""The plan of several ranges at once: every order in which small ranges can be taken and finished."""

from __future__ import annotations

import pytest

from reknit._plan import Plan, range_size


def every_run(
    plan: Plan, total: int, open_: dict[int, int], there: frozenset[int], seen: set[object]
) -> None:
    """From here on, each step that any worker may take; `open_` is where each range is, by its end."""
    state = (plan._next, tuple(sorted(open_.items())))
    if state in seen:
        return
    seen.add(state)
    missing = [byte for byte in range(total) if byte not in there]
    assert plan.frontier == (missing[0] if missing else total)
    assert plan.done == len(there)
    assert plan.complete == (not missing)
    steps = []
    taken = copy(plan)
    part = taken.take()
    if part is not None:
        assert part.length is not None
        assert part.length > 0
        assert not there & set(range(part.first, part.first + part.length)), "no byte is fetched twice"
        steps.append((taken, {**open_, part.first + part.length: part.first}, there))
    for end, at in open_.items():
        for count in range(1, end - at + 1):
            wrote = copy(plan)
            wrote.wrote(at, count)
            rest = {e: a for e, a in open_.items() if e != end} | (
                {end: at + count} if at + count < end else {}
            )
            steps.append((wrote, rest, there | set(range(at, at + count))))
    assert steps or plan.complete, "stuck"
    for step in steps:
        every_run(*step[:1], total, *step[1:], seen)


def copy(plan: Plan) -> Plan:
    twin = Plan(0, plan._total, plan._size, 1)
    twin._next, twin._window = plan._next, plan._window
    twin._open = [type(one)(one.at, one.end) for one in plan._open]
    return twin


@pytest.mark.parametrize("total", range(7))
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_every_order(total: int, size: int) -> None:
    """Whatever finishes first, no byte is fetched twice, none is left out, and it never gets stuck."""
    for held in range(total + 1):
        for workers in (1, 2):
            every_run(Plan(held, total, size, workers), total, {}, frozenset(range(held)), set())


def test_the_window() -> None:
    """No range begins further ahead of the first missing byte than two for each worker."""
    plan = Plan(0, 100, 5, 2)
    taken = []
    while part := plan.take():
        taken.append(part.first)
    assert taken == [0, 5, 10, 15]
    plan.wrote(5, 5)
    assert plan.take() is None
    plan.wrote(0, 4)
    assert plan.frontier == 4
    assert plan.take() is not None, "the window moves with the first missing byte"
    plan.wrote(4, 1)
    assert plan.frontier == 10
    assert [part.first for part in iter(plan.take, None)] == [25]


def test_range_size() -> None:
    """Two ranges for each worker at least, none larger than the most, none empty."""
    assert [range_size(total, 10, 2) for total in (0, 1, 4, 5, 40, 41, 10**9)] == [1, 1, 1, 2, 10, 10, 10]


@pytest.mark.parametrize(("offset", "count"), [(1, 1), (0, 6), (5, 1), (10, 1)])
def test_bytes_where_no_range_goes_on(offset: int, count: int) -> None:
    """A hole, an overlap and bytes beyond a range are errors of ours, and never counted."""
    plan = Plan(0, 20, 5, 1)
    plan.take()
    with pytest.raises(AssertionError):
        plan.wrote(offset, count)
    assert (plan.frontier, plan.done) == (0, 0)
