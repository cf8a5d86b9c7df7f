"""What is asked of a driver that hands its bytes on at once."""

from __future__ import annotations

import pytest

from midstream._catalog import bundled
from midstream._runner import expectation, of_a_stream
from midstream._scenario import Loaded, schedule_of

KNOWN = {scenario.id: scenario for scenario in bundled()}


def asked(loaded: Loaded) -> tuple[str, bool]:
    model = loaded.model
    found = of_a_stream(expectation(model), model, schedule_of(next(loaded.variants(0))))
    return found.outcome, found.restart


@pytest.mark.parametrize(
    ("scenario", "outcome", "restart"),
    [
        ("cut-mid-body", "complete", False),  # ranges and a strong tag: nothing excuses it
        ("weak-cut", "complete", True),  # the digest proves what was joined
        ("weak-unproved-cut", "either", True),
        ("none-unproved-cut", "either", True),
        ("weakened-on-the-way", "either", True),
        ("replaced-once-is-begun-anew", "either", True),
        ("killed-half-way-and-run-again", "complete", True),  # whole, though from its beginning
        ("truncated-behind-a-gateway", "either", True),
    ],
)
def test_only_a_fresh_start_is_excused(scenario: str, outcome: str, restart: bool) -> None:
    """An error is right where bytes would have to be taken back, and nowhere else."""
    assert asked(KNOWN[scenario]) == (outcome, restart)


def test_few_are_excused() -> None:
    """Of all scenarios that ask for the whole object, a stream has to deliver it in nearly every one."""
    whole = [s for s in KNOWN.values() if s.model.expect.outcome == "complete"]
    excused = {s.id for s in whole if asked(s)[0] != "complete"}
    assert len(excused) < len(whole) / 10, sorted(excused)
