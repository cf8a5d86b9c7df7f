"""TLS by an authority of the engine's own: the driver is told to trust that one, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from midstream._authority import Authority
from midstream._campaign import Campaign, Matrix
from midstream._runner import Result
from midstream._scenario import load_text
from midstream._verdict import Verdict
from midstream.drivers._spec import resolve
from midstream.injectors import Plan, Session
from midstream.injectors.embedded import MEMBER as EMBEDDED
from midstream.injectors.embedded import RunningEmbedded
from midstream.stores.origin import MEMBER as ORIGIN

CUT = load_text(
    "cut",
    """
requirement = "A cut over TLS is continued."
kind = "must"
properties = ["P1"]
tls = true
faults = ["get_object cut@50%"]
""",
    "cut.toml",
)


@pytest.mark.parametrize("told", [True, False])
def test_the_engine_s_own_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """A session that names its bundle is trusted; one that keeps it to itself is not."""
    own = Authority.make(tmp_path)
    opening = RunningEmbedded.open

    def open_with_its_own(self: RunningEmbedded, plan: Plan) -> Session:
        session = opening(self, replace(plan, tls=own.context) if plan.tls else plan)
        session.bundle = own.bundle if told else None
        return session

    monkeypatch.setattr(RunningEmbedded, "open", open_with_its_own)
    results: list[Result] = []
    Campaign(Matrix([CUT], [(resolve("reknit"), "")], [ORIGIN], [EMBEDDED], 0), results.append).run()
    (result,) = results
    assert (result.judgement.verdict is Verdict.PASS) is told, result.judgement
    if not told:
        assert "certificate" in result.outcome.error
