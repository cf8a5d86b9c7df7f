"""The main job from the command line, on the four stores that the harness starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STORES = ("origin", "moto", "swift", "swift-s3")
SAMPLE = ("cut-mid-body", "busy-on-resume", "damaged-body", "range-stripped-once", "slice-cut")


def run(tmp_path: Path, *words: str) -> tuple[int, list[dict[str, str]], str]:
    """`midstream run` in a process of its own: status, cases, what it said."""
    command = [sys.executable, "-m", "midstream", "run", *words, "--out", str(tmp_path), "-j", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    cases = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["cases"]
    return done.returncode, cases, done.stdout + done.stderr


@pytest.mark.parametrize("store", STORES)
def test_reknit_passes(tmp_path: Path, store: str) -> None:
    """The reference client completes or fails as it must, on each store."""
    status, cases, said = run(tmp_path, *SAMPLE, "--store", store)
    assert status == 0, said
    assert {c["verdict"] for c in cases} <= {"pass", "clean_failure", "not_applicable"}, said
    assert sum(c["verdict"] == "pass" for c in cases) >= 15


UPLOADS = ("upload-cut-mid-body", "upload-answer-lost", "upload-killed", "upload-pipe-ends-early")


@pytest.mark.parametrize("store", STORES)
def test_reknit_uploads(tmp_path: Path, store: str) -> None:
    """The reference client's uploads arrive or fail as they must, on each store."""
    status, cases, said = run(tmp_path, *UPLOADS, "--store", store)
    assert status == 0, said
    assert {c["verdict"] for c in cases} <= {"pass", "clean_failure", "not_reached"}, said
    assert sum(c["verdict"] == "pass" for c in cases) >= 9


RESUMABLE = (
    "resumable-cut",
    "resumable-answer-lost",
    "resumable-killed",
    "resumable-gone",
    "resumable-more-than-sent",
)


@pytest.mark.parametrize(("driver", "more"), [("reknit-ietf", RESUMABLE), ("reknit-put", ())])
def test_the_other_ways_to_upload_by_http(tmp_path: Path, driver: str, more: tuple[str, ...]) -> None:
    """What tus does in reknit's own driver, the IETF's protocol and a plain PUT do as well."""
    scenarios = tuple(name for name in UPLOADS if not more or name != "upload-answer-lost")
    status, cases, said = run(tmp_path, *scenarios, *more, "--store", "origin", "--driver", driver)
    assert status == 0, said
    assert {c["verdict"] for c in cases} <= {"pass", "clean_failure"}, said
    assert sum(c["verdict"] == "pass" for c in cases) >= (18 if more else 9)


THROUGH = ("upload-cut-mid-body", "upload-answer-lost", "upload-killed", "upload-complete-fails-inside")
THROUGH += (
    "upload-manifest-lost",
    "upload-busy-once",
    "upload-pipe-ends-at-once",
    "upload-part-fails-for-good",
)


@pytest.mark.parametrize("store", ["moto", "swift"])
def test_the_gateway_heals_uploads(tmp_path: Path, store: str) -> None:
    """A client that sends once and knows no retry: what the store drops is made good behind `reknit serve`,
    and what cannot be is an answer that is no success."""
    status, cases, said = run(tmp_path, *THROUGH, "--store", store, "--driver", "gateway")
    assert status == 0, said
    assert {c["verdict"] for c in cases} <= {"pass", "clean_failure"}, said
    assert sum(c["verdict"] == "pass" for c in cases) >= 10
    assert sum(c["verdict"] == "clean_failure" for c in cases) >= 1


def test_a_naive_upload_is_caught(tmp_path: Path) -> None:
    """A loop that sends an open file again is caught, and what lies in the store is named."""
    words = ("upload-cut-mid-body", "--store", "moto", "--driver", "naive")
    status, cases, said = run(tmp_path, *words)
    assert status == 1, said
    assert {c["verdict"] for c in cases} <= {"truncated", "shifted"}
    assert all(c["diagnosis"].startswith("published: ") for c in cases)


def test_naive_is_caught(tmp_path: Path) -> None:
    """A loop that appends whatever comes is caught, and what it did is named."""
    status, cases, said = run(tmp_path, *SAMPLE, "--store", "origin", "--driver", "naive")
    assert status == 1, said
    assert {"duplicated", "foreign", "corrupt"} <= {c["verdict"] for c in cases}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_is_judged_honestly(tmp_path: Path) -> None:
    """curl without retry gives up at a cut, says so, and leaves what it had; whole bodies pass."""
    curl = "cmd:curl -sS -f -o {dest} {url}"
    status, cases, said = run(tmp_path, "cut-mid-body", "--store", "origin", "--driver", curl)
    assert status == 1, said
    assert {c["verdict"] for c in cases} == {"needless_failure"}
    assert all("left under the final name" in c["diagnosis"] for c in cases if "at=1;" not in c["id"])
