"""The scenarios of the wire tell right clients from wrong ones, whatever the client."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.real.conftest import need

from midstream._campaign import Campaign, Matrix
from midstream._catalog import bundled
from midstream._registry import load
from midstream._runner import Result
from midstream._scenario import Loaded, load_text
from midstream.drivers._spec import resolve

DRIVERS = Path(__file__).with_name("wire_drivers.py")
# pymongo takes some 25 MiB in one message, and hands on none of it before the message is whole.
LARGE = {
    name: load_text(
        name,
        f"""
requirement = "A large file arrives as one of its versions, whatever was cut or replaced."
kind = "must"
properties = ["P9", "P10"]
stores = ["gridfs"]
object.size = "40MiB"
faults = {faults}
expect.generations = [1, 2]
expect.restart = true
deadline = 120
""",
        "here",
    )
    for name, faults in (
        ("large-cut", ["TCP cut@wire+30000000:rst"]),
        ("large-replaced", ["TCP replace@wire+30000000:same", "TCP cut@wire+35000000:rst"]),
    )
}


def scenario(name: str) -> Loaded:
    return next(loaded for loaded in bundled() if loaded.id == name)


def verdicts(spec: str, store: str, *scenarios: Loaded) -> set[str]:
    results: list[Result] = []
    members = [load("stores", store)], [load("injectors", "embedded")]
    Campaign(Matrix(scenarios, [(resolve(spec), "")], *members), results.append, jobs=1).run()
    assert results
    return {result.judgement.verdict.value for result in results}


@pytest.mark.parametrize(
    ("name", "what", "found"),
    [
        ("from_the_start", "wire-three-cuts", "pass"),
        ("from_the_start", "large-cut", "pass"),
        ("from_the_start", "large-replaced", "pass"),
        ("takes_an_error_for_the_end", "wire-three-cuts", "truncated"),
        ("appends", "large-cut", "duplicated"),
        ("resumes_by_name", "large-cut", "pass"),
        ("resumes_by_name", "large-replaced", "spliced"),
    ],
)
def test_gridfs(name: str, what: str, found: str) -> None:
    """A wrong client is named for what it does, a right one passes."""
    need("gridfs")
    loaded = LARGE[what] if what in LARGE else scenario(what)
    assert verdicts(f"py:{DRIVERS}:{name}", "gridfs", loaded) == {found}


@pytest.mark.parametrize(
    ("name", "what", "found"),
    [
        ("sends_with_the_usual_client", "wire-upload-three-cuts", "pass"),
        ("forgets_its_chunks", "wire-upload-three-cuts", "leak"),
        ("names_before_it_sends", "wire-upload-killed-over-another", "hole"),
        ("publishes_what_there_is", "wire-upload-over-another", "hole"),
    ],
)
def test_gridfs_uploads(name: str, what: str, found: str) -> None:
    """The same of those that upload."""
    need("gridfs")
    assert verdicts(f"put:{DRIVERS}:{name}", "gridfs", scenario(what)) == {found}


def test_ceph() -> None:
    """Ceph's own command gets the image over cuts: its library makes lost connections again."""
    need("ceph")
    export = 'rbd export --no-progress "$(echo {native} | sed s,^rbd://,,)" {dest}'
    command = f"cmd:{shutil.which('sh')} -c '{export}'"
    cuts = (scenario("wire-three-cuts"), scenario("wire-large-cut"), scenario("wire-hangup"))
    assert verdicts(command, "ceph", *cuts) == {"pass"}
