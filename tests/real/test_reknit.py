"""reknit gets its objects from real servers, whatever happens on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real.conftest import need

SCENARIOS = ("without-faults", "cut-mid-body", "cut-three-times", "cut-inside-the-retry", "hangup-on-resume")
OWN = {"s3": ("multipart-cut-at-a-part",), "swift": ("static-cut-at-a-seam",), "http": ("replaced-then-cut",)}
STORES = (("minio", "s3"), ("versitygw", "s3"), ("nginx", "http"), ("swift-aio", "swift"))


@pytest.mark.parametrize(("store", "kind"), STORES)
def test_reknit(store: str, kind: str, tmp_path: Path) -> None:
    """Every case ends as everybody wants it, and nothing is left behind."""
    need(store)
    temp = tmp_path / "temp"
    temp.mkdir()
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "midstream", "run", *SCENARIOS, *OWN[kind]),
            *("--store", store, "--driver", "reknit", "-j", "2", "--plain", "--out", str(out)),
        ],
        env={**os.environ, "TMPDIR": str(temp)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    cases = json.loads((out / "results.json").read_text())["cases"]
    assert {case["scenario"] for case in cases} == {*SCENARIOS, *OWN[kind]}
    assert not list(temp.iterdir())
