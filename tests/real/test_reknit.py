"""reknit gets its objects from real servers, whatever happens on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import need

SCENARIOS = ("without-faults", "cut-mid-body", "cut-three-times", "cut-inside-the-retry", "hangup-on-resume")
WIRE = ("wire-cut", "wire-cut-in-each-connection", "wire-three-cuts", "wire-cut-first-bytes", "wire-hangup")
WIRE += (
    "wire-refused-at-first",
    "wire-stall-heals",
    "wire-stall-for-ever",
    "wire-slow",
    "wire-delay-then-cut",
)
WIRE += ("wire-part-cut", "wire-killed")
RAW = {
    "gridfs": (*WIRE, "wire-refused-after-a-cut", "wire-replaced"),
    "ceph": (*WIRE, "wire-refused-after-a-cut-osd", "wire-image-replaced", "wire-large-cut"),
}
UPLOADS = (
    "wire-upload-cut",
    "wire-upload-cut-first-bytes",
    "wire-upload-three-cuts",
    "wire-upload-stall-for-ever",
    "wire-upload-killed",
    "wire-upload-source-cut-short",
)
RAW_UPLOADS = {
    "gridfs": (
        *UPLOADS,
        "wire-upload-answer-cut",
        "wire-upload-cut-each-time",
        "wire-upload-killed-over-another",
        "wire-upload-over-another",
    ),
    "ceph": (*UPLOADS, "wire-upload-image-answer-cut", "wire-upload-image-over-another"),
}
OWN = {"s3": ("multipart-cut-at-a-part",), "swift": ("static-cut-at-a-seam",), "http": ("replaced-then-cut",)}
STORES = (("minio", "s3"), ("versitygw", "s3"), ("nginx", "http"), ("swift-aio", "swift"))


@pytest.mark.parametrize(("store", "kind"), STORES)
def test_reknit(store: str, kind: str, tmp_path: Path) -> None:
    """Every case ends as everybody wants it, and nothing is left behind."""
    run(store, (*SCENARIOS, *OWN[kind]), tmp_path)


@pytest.mark.parametrize("store", RAW)
def test_reknit_without_http(store: str, tmp_path: Path) -> None:
    """Every scenario of connections that are not HTTP; each fault fires, so that it proves something."""
    for case in run(store, RAW[store], tmp_path):
        assert case["verdict"] in ("pass", "clean_failure"), case["id"]


@pytest.mark.parametrize("store", RAW_UPLOADS)
def test_reknit_uploads_without_http(store: str, tmp_path: Path) -> None:
    """The same of uploads."""
    for case in run(store, RAW_UPLOADS[store], tmp_path):
        assert case["verdict"] in ("pass", "clean_failure"), case["id"]


def run(store: str, scenarios: tuple[str, ...], tmp_path: Path) -> list[dict[str, Any]]:
    """The cases, none of which breaks a rule."""
    need(store)
    temp = tmp_path / "temp"
    temp.mkdir()
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "midstream", "run", *scenarios),
            *("--store", store, "--driver", "reknit", "-j", "2", "--plain", "--out", str(out)),
        ],
        env={**os.environ, "TMPDIR": str(temp)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    cases: list[dict[str, Any]] = json.loads((out / "results.json").read_text())["cases"]
    assert {case["scenario"] for case in cases} == set(scenarios)
    assert not list(temp.iterdir())
    return cases
