"""Whole uploads to a real store: every verdict from a driver that earns it, about the object in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from midstream._campaign import Campaign, Matrix
from midstream._errors import UsageError
from midstream._registry import load
from midstream._runner import Result
from midstream._scenario import Loaded, load_text
from midstream._verdict import Verdict
from midstream.drivers._spec import resolve
from midstream.injectors.embedded import MEMBER as EMBEDDED

UPLOADERS = Path(__file__).with_name("uploaders.py")
CUT = 'faults = ["send_object cut@sent+20000:rst"]'


HEAD = """
requirement = "A driver sends what it is asked to send."
direction = "upload"
properties = ["P41"]
"""
PUT = (
    "import sys, urllib.request as u; data = open(sys.argv[1], 'rb').read(); "
    "u.urlopen(u.Request(sys.argv[2], data, method='PUT'))"
)


def scenario(more: str = CUT, name: str = "an-upload") -> Loaded:
    return load_text(name, HEAD + more, f"{name}.toml")


def run(*drivers: str, more: str = CUT, store: str = "origin") -> list[Result]:
    results: list[Result] = []
    named = [(resolve(d if ":" in d else f"put:{UPLOADERS}:{d}"), "1") for d in drivers]
    matrix = Matrix([scenario(more)], named, [load("stores", store)], [EMBEDDED])
    Campaign(matrix, results.append, jobs=2).run()
    return results


EARNED = [
    ("right", Verdict.PASS, ""),
    ("resends_nothing", Verdict.TRUNCATED, "published: 0 of 65,536 bytes"),
    ("resends_the_rest", Verdict.SHIFTED, "published: bytes 0-64,535 missing at 0 of the file"),
    ("sends_twice_the_beginning", Verdict.DUPLICATED, "published: bytes 0-999 twice"),
    ("zeroes_a_part", Verdict.HOLE, "published: bytes 1,000-1,099 zero"),
    ("flips_a_byte", Verdict.CORRUPT, "published: byte 1,000 changed, length kept"),
    ("sends_a_page", Verdict.FOREIGN, "none of the 600 bytes"),
    ("says_ok_and_sends_nothing", Verdict.TRUNCATED, "reported success, but there is no object"),
    ("fails_after_a_cut", Verdict.NEEDLESS_FAILURE, "Error"),
    (
        "fails_though_stored",
        Verdict.NEEDLESS_FAILURE,
        "the object in the store is complete, yet: OSError: no idea",
    ),
    ("reserves_the_name", Verdict.TRUNCATED, "published: 0 of 65,536 bytes, replaced later"),
    ("leaves_a_file", Verdict.LEAK, "left behind after success: spool"),
    ("never_ends", Verdict.HANG, "no end after 2 s"),
    ("storms", Verdict.RETRY_STORM, "60 object requests, 40 allowed"),
    ("dies", Verdict.CRASH, "exit status 3"),
]


def test_every_uploader_earns_its_verdict() -> None:
    """Each is found out by its own verdict, the right one is not."""
    results = run(*(name for name, _, _ in EARNED), more=f"deadline = 2\n{CUT}")
    for (name, verdict, text), result in zip(EARNED, results, strict=True):
        judged = result.judgement
        assert (name, judged.verdict) == (name, verdict), judged.diagnosis
        assert text in judged.diagnosis, (name, judged.diagnosis)


@pytest.mark.parametrize("store", ["moto", "swift", "swift-s3"])
def test_each_store_takes_uploads(store: str) -> None:
    """A plain PUT to the address a driver is given arrives, is cut at the byte, and the object is judged."""
    good, bad = run("right", "resends_the_rest", store=store)
    assert good.judgement.verdict is Verdict.PASS, good.judgement
    assert bad.judgement.verdict is Verdict.SHIFTED, bad.judgement
    (fired,) = good.facts.fired
    assert fired.body == 20000
    assert [e.received for e in good.facts.sendings] == [20000, 65536]
    assert good.record()["body_bytes"] == 85536


def test_a_command_uploads() -> None:
    """A command with {source} is told where, and what is there is looked at."""
    (result,) = run(f'cmd:python3 -c "{PUT}" {{source}} {{url}}', more="")
    assert result.judgement.verdict is Verdict.PASS, result.judgement


def test_downloaders_are_not_asked_to_upload() -> None:
    """What a driver does not do is not in the matrix."""
    driver = resolve("cmd:curl -o {dest} {url}")
    store = load("stores", "origin")
    assert Matrix([scenario()], [(driver, "")], [store], [EMBEDDED]).counts().total() == 0
    naive = load("drivers", "naive")
    assert Matrix([scenario()], [(naive, "")], [store], [EMBEDDED]).counts().total() == 1


@pytest.mark.parametrize("spec", ["cmd:curl {url}", "cmd:cp {source} {dest}"])
def test_a_command_goes_one_way(spec: str) -> None:
    """It has {dest} or {source}, not neither and not both."""
    with pytest.raises(UsageError, match="source"):
        resolve(spec)


def test_a_store_that_takes_nothing() -> None:
    """An upload to a store that takes none is not applicable, without its being started."""
    (result,) = run("right", store="nginx")
    assert result.judgement.verdict is Verdict.NOT_APPLICABLE
    assert result.judgement.diagnosis == "nginx takes no uploads"


def test_the_old_object_stays() -> None:
    """What was there before a failed upload is nobody's damage; to lose it is."""
    more = 'process.existing = true\nexpect.outcome = "failure"\nfaults = ["put_object#* status@head:403"]'
    good, bad = run("right", "deletes_first", more=more)
    assert good.judgement.verdict is Verdict.CLEAN_FAILURE, good.judgement
    assert bad.judgement.verdict is Verdict.LEAK
    assert "is gone" in bad.judgement.diagnosis


def test_a_pipe() -> None:
    """A pipe comes once; one that ends early is told by the size that was promised."""
    (whole,) = run("right", more='upload.source = "pipe"')
    assert whole.judgement.verdict is Verdict.PASS, whole.judgement
    short = 'upload.source = "pipe"\nupload.ends = "50%"\nexpect.outcome = "failure"'
    good, bad = run("right", "takes_what_the_source_has", more=short)
    assert good.judgement.verdict is Verdict.CLEAN_FAILURE
    assert bad.judgement.verdict is Verdict.TRUNCATED
    assert bad.judgement.diagnosis == "published: 32,768 of 65,536 bytes"


def test_a_pipe_that_ends_early_needs_a_size() -> None:
    """A command that is not told the size cannot know that a pipe ended early, and is not asked to."""
    short = 'upload.source = "pipe"\nupload.ends = "50%"\nexpect.outcome = "failure"'
    (result,) = run(f'cmd:python3 -c "{PUT}" {{source}} {{url}}', more=short)
    assert result.judgement.verdict is Verdict.NOT_APPLICABLE
    assert "is not told the size" in result.judgement.diagnosis


def test_two_rivals() -> None:
    """Two processes send two objects; either may be there in the end."""
    more = "process.together = true\nupload.rival = true\nexpect.generations = [1, 2]\nexpect.restart = true"
    (result,) = run("right", more=more)
    assert result.judgement.verdict is Verdict.PASS, result.judgement


@pytest.mark.parametrize("change", ["replace", "shorter"])
def test_a_source_that_changes_between_runs(change: str) -> None:
    """After a kill the source is another, and its size is told: that is what has to be there."""
    more = (
        f'process.runs = 2\nupload.between = "{change}"\nexpect.generations = [2]\nexpect.restart = true\n'
        'faults = ["send_object#1 kill@sent+100"]'
    )
    (result,) = run("right", more=more)
    assert result.judgement.verdict is Verdict.PASS, result.judgement


def test_equal_seeds_give_equal_results() -> None:
    """Two runs of the same uploads differ in nothing that is a result."""

    def record(result: Result) -> dict[str, object]:
        return {k: v for k, v in result.record().items() if k != "seconds"}

    first, second = ([record(r) for r in run("right", "resends_the_rest")] for _ in range(2))
    assert first == second
