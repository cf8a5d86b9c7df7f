"""Servers behind Swift's proxy end and come back in mid-transfer, through every engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real.conftest import need
from tests.real.engines.conftest import ENGINES, engine

from midstream._catalog import scenario_folder

NAMES = sorted(path.stem for path in (scenario_folder() / "replicas").glob("*.toml"))


@pytest.mark.parametrize("injector", ["embedded", *ENGINES])
def test_reknit_survives(injector: str, tmp_path: Path) -> None:
    """Every case fires and ends as it should; what is read after it has all replicas; nothing is left."""
    need("swift-aio")
    if injector in ENGINES:
        engine(injector)
    temp = tmp_path / "temp"
    temp.mkdir()
    command = [sys.executable, "-m", "midstream", "run", *NAMES, "cut-mid-body", "--store", "swift-aio"]
    command += ["--store", "swift", "--driver", "reknit", "--injector", injector, "-j", "2", "--plain"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        env={**os.environ, "TMPDIR": str(temp)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert not list(temp.iterdir())
    cases = json.loads((tmp_path / "out" / "results.json").read_text())["cases"]
    ours = [c for c in cases if c["scenario"] in NAMES]
    assert {c["scenario"] for c in ours} == set(NAMES)
    for case in ours:
        if case["store"] == "swift":
            assert case["verdict"] == "not_applicable"
            assert case["diagnosis"] == "swift has no servers behind it that could be ended one by one"
        else:
            wanted = "clean_failure" if case["scenario"] == "every-server-ends-for-good" else "pass"
            assert case["verdict"] == wanted, case
    one = [
        c["requests"]
        for c in ours
        if c["scenario"] == "server-ends-in-mid-body" and c["store"] == "swift-aio"
    ]
    assert one == [1] * 6  # the driver has noticed nothing
