"""The boto3 driver: it stores what it is given."""

from __future__ import annotations

from midstream._campaign import Campaign, Matrix
from midstream._registry import load
from midstream._runner import Result
from midstream._scenario import load_text
from midstream._verdict import Verdict

SIZES = """
requirement = "Objects of any size arrive whole, in one request or in parts."
direction = "upload"
properties = ["P42"]
object.size = "{size}"
upload.source = "SOURCE"
vary.size = [0, 1, "11MiB"]
"""


def run(source: str) -> list[Result]:
    results: list[Result] = []
    loaded = load_text("sizes", SIZES.replace("SOURCE", source), "sizes.toml")
    driver, store = load("drivers", "boto3"), load("stores", "moto")
    Campaign(Matrix([loaded], [(driver, "")], [store], [load("injectors", "embedded")]), results.append).run()
    return results


def test_files_arrive() -> None:
    """Small ones in one request, large ones in parts."""
    results = run("file")
    assert [r.judgement.verdict for r in results] == [Verdict.PASS] * 3
    assert [len(r.facts.sendings) for r in results] == [1, 1, 2]


def test_pipes_arrive() -> None:
    """A stream that can be read only once, too."""
    assert {r.judgement.verdict for r in run("pipe")} == {Verdict.PASS}


def test_it_only_uploads_to_s3() -> None:
    """It says which way and to what it goes, and its version."""
    driver = load("drivers", "boto3")
    assert driver.directions == {"upload"}
    assert driver.kinds == {"s3"}
    assert driver.version()
