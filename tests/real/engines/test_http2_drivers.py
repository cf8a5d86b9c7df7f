"""The bundled HTTP/2 scenarios judge drivers that speak it: curl that goes on, and curl that does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.real.engines.conftest import engine

# Goes on from what it has; a failed transfer leaves nothing behind.
RESUMING = """#!/bin/sh
left=5
until curl --http2 -sS -f -C - -o "$2.part" "$1"; do
  left=$((left - 1))
  [ $left -gt 0 ] || { rm -f "$2.part"; exit 1; }
done
mv "$2.part" "$2"
"""


def run(tmp_path: Path, driver: str) -> tuple[int, list[dict[str, str]]]:
    engine("mitmproxy")
    command = [sys.executable, "-m", "midstream", "run", "stream-reset", "stream-reset-after-the-end"]
    command += ["--driver", driver, "--store", "origin", "--injector", "mitmproxy", "--plain"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=200
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads((tmp_path / "out" / "results.json").read_text())["cases"]


@pytest.fixture
def resuming(tmp_path: Path, curl: str) -> str:
    script = tmp_path / "resuming"
    script.write_text(RESUMING)
    script.chmod(0o755)
    return f"cmd:{script} {{url}} {{dest}}"


def test_one_that_goes_on(tmp_path: Path, resuming: str) -> None:
    """Every reset of a stream is survived, whatever its code, and the one behind the last byte is none."""
    status, cases = run(tmp_path, resuming)
    assert status == 0
    assert Counter(c["verdict"] for c in cases) == {"pass": 7}
    events = [
        e
        for path in (tmp_path / "out" / "cases").glob("*.json")
        for e in json.loads(path.read_text())["events"]
        if e["kind"] == "fault"
    ]
    assert len(events) == 7
    assert all("reset-stream" in e["spec"] for e in events)


def test_one_that_gives_up(tmp_path: Path, curl: str) -> None:
    """It fails where a correct one goes on, and says which stream error it met."""
    status, cases = run(tmp_path, "cmd:curl --http2 -sS -f -o {dest} {url}")
    assert status == 1
    assert {(c["scenario"], c["verdict"]) for c in cases} == {
        ("stream-reset", "needless_failure"),
        ("stream-reset-after-the-end", "pass"),
    }
    assert any("HTTP/2 stream 1 was not closed cleanly: CANCEL" in c["diagnosis"] for c in cases)


@pytest.mark.parametrize("driver", ["cmd:curl --http1.1 -sS -f -o {dest} {url}", "reknit"])
def test_one_that_speaks_http1(tmp_path: Path, curl: str, driver: str) -> None:
    """There is no stream to reset: nothing is said about the driver, and nothing was proved (2)."""
    status, cases = run(tmp_path, driver)
    assert status == 2
    assert {c["verdict"] for c in cases} == {"not_reached"}
