"""The pytest plugin in projects as users have them: found by its entry point, run in a process of its own."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from midstream.pytest_plugin import driver_spec

pytest_plugins = ["pytester"]

ONE = ("--midstream-scenario", "late-head")  # of one case, which every client passes
CUT = ("--midstream-scenario", "cut-mid-body", "-k", "fin and 50")
DRIVER = """
import urllib.request
import pytest

def read(url, start):
    request = urllib.request.Request(url, headers={{"Range": f"bytes={{start}}-"}} if start else {{}})
    data = b""
    try:
        with urllib.request.urlopen(request) as answer:
            while piece := answer.read1(65536):
                data += piece
            return data, True
    except OSError:
        return data, False

def download(job):
    data, done = b"", False
    size = int(job.url.rsplit("/", 1)[1].split("-")[0])
    while len(data) < size:
        data += read(job.url, len(data){wrong})[0]
        {stop}
    job.dest.write_bytes(data)

@pytest.fixture
def midstream_driver():
    return download
"""
RIGHT = DRIVER.format(wrong="", stop="")
BROKEN = DRIVER.format(wrong="", stop="break")


UPLOADER = """
import pathlib, urllib.request
import pytest

def upload(job):
    data = pathlib.Path(job.source).read_bytes(){wrong}
    for attempt in range(5):
        try:
            with urllib.request.urlopen(urllib.request.Request(job.url, data, method="PUT")):
                return
        except OSError:
            pass
    raise OSError("not stored")

@pytest.fixture
def midstream_uploader():
    return upload
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=120)


def test_a_right_driver(pytester: pytest.Pytester) -> None:
    """A function of the test file passes; a test per case, named by scenario, values and store."""
    pytester.makepyfile(RIGHT)
    result = run(pytester, *CUT, "-v")
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(
        ["test_a_right_driver.py::midstream?cut-mid-body?at=50%;end=fin?@origin? PASSED*"]
    )


def test_a_broken_driver(pytester: pytest.Pytester) -> None:
    """A failure shows verdict, diagnosis, requirement and the line that replays it, and no traceback."""
    pytester.makepyfile(BROKEN)
    result = run(pytester, *CUT)
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        ["truncated: * of * bytes", "*continue*", "replay: midstream replay 'cut-mid-body?at=*--seed 0"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_broken_should(pytester: pytest.Pytester) -> None:
    """A driver that only broke a SHOULD passes, with a warning that has the replay line; -W makes it fail."""
    culprits = Path(__file__).parents[1] / "runner" / "culprits.py"
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def midstream_driver():
            return "py:{culprits}:restarts"
        """
    )
    result = run(pytester, *CUT)
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["warnings"]) == (1, 1)
    result.stdout.fnmatch_lines(
        [
            "*warnings summary*",
            "*BrokenShould: restarted: * bytes fetched again*",
            "*replay: midstream replay *",
        ]
    )
    strict = run(pytester, *CUT, "-W", "error::midstream.pytest_plugin.BrokenShould")
    assert strict.parseoutcomes()["failed"] == 1


def test_quick(pytester: pytest.Pytester) -> None:
    """A few cases of different scenarios, the first of each."""
    pytester.makepyfile(RIGHT)
    result = run(pytester, "--midstream-quick", "--collect-only", "-q")
    names = [line.partition("[")[2] for line in result.outlines if "midstream[" in line]
    scenarios = [name.partition("[")[0].partition("@")[0] for name in names]
    assert 8 <= len(scenarios) == len(set(scenarios)) <= 20
    assert "deleted-before-the-rest[at=50%]@origin]" in names  # the first of two


def test_the_replay_line_works(pytester: pytest.Pytester) -> None:
    """The line that a failure ends with shows the same verdict."""
    pytester.makepyfile(BROKEN)
    result = run(pytester, *CUT)
    line = next(text for text in result.outlines if text.startswith("replay: "))
    words = shlex.split(line.removeprefix("replay: "))
    again = pytester.run(sys.executable, "-m", *words, timeout=60)
    assert again.ret == 1
    assert any("truncated" in text for text in again.outlines)


def test_a_driver_by_name(pytester: pytest.Pytester) -> None:
    """The fixture may give a name as the command line has it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def midstream_driver():
            return "reknit"
        """
    )
    result = run(pytester, *ONE)
    assert set(result.parseoutcomes()) == {"passed"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lambda job: None", "it must give a function defined at the top of a module"),
        ("inner", "it must give a function defined at the top of a module"),
        ("None", "it must give a function defined at the top of a module"),
        ("'nobody'", "nobody"),
        ("'curl -o {dest} {url}'", "write 'cmd:curl -o {dest} {url}'"),
    ],
)
def test_what_is_no_driver(pytester: pytest.Pytester, given: str, words: str) -> None:
    """What no process could find by name is refused in a sentence that says what to give."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def midstream_driver():
            def inner(job):
                pass
            return {given}
        """
    )
    result = run(pytester, *ONE, "-x", "--tb=line")
    assert result.ret == 1
    assert any("midstream: " in line and words in line for line in result.outlines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--midstream-store", "nowhere"), "nowhere"),
        (("--midstream-scenario", "no-such-*"), "no scenario matches 'no-such-*'"),
        (("--midstream-injector", "none"), "none"),
        (("--midstream-seed", "x"), "--midstream-seed"),
    ],
)
def test_usage(pytester: pytest.Pytester, options: tuple[str, ...], words: str) -> None:
    """An option that names nothing is a usage error of pytest, once, in words, also under xdist."""
    pytester.makepyfile(RIGHT)
    result = run(pytester, *options, *(("-n", "2") if "scenario" in options[0] else ()))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in result.errlines if words in line]
    assert said
    assert not any("Traceback" in line for line in result.outlines + result.errlines)


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
@pytest.mark.parametrize("package", [False, True])
def test_import_modes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str, package: bool
) -> None:
    """A driver is found in its process however pytest has imported its file, with what it imports itself."""
    folder = pytester.mkdir("suite") / "deep"
    folder.mkdir()
    helper = "" if mode == "importlib" and not package else "from helper import read as imported\n"
    if package:
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        helper = "from .helper import read as imported\n"
    (folder / "helper.py").write_text("def read(): pass\n")
    (folder / "test_store.py").write_text(helper + RIGHT)
    monkeypatch.chdir(pytester.mkdir("elsewhere"))
    result = run(pytester, *ONE, f"--import-mode={mode}", f"--rootdir={pytester.path}", str(folder))
    assert set(result.parseoutcomes()) == {"passed"}


def test_a_driver_from_a_module(pytester: pytest.Pytester) -> None:
    """A function that the tests import, from beside them or from a package on pythonpath, is found too."""
    source = pytester.mkdir("src") / "mine"
    source.mkdir()
    (source / "__init__.py").touch()
    (source / "inner.py").write_text("WORD = 1\n")
    (source / "store.py").write_text("from mine.inner import WORD\nfrom . import inner\n" + RIGHT)
    pytester.makeini("[pytest]\npythonpath = src")
    pytester.makepyfile(
        """
        import pytest
        from mine import store

        @pytest.fixture
        def midstream_driver():
            return store.download
        """
    )
    result = run(pytester, *ONE)
    assert set(result.parseoutcomes()) == {"passed"}


def test_a_class(pytester: pytest.Pytester) -> None:
    """A class may hold the fixture: its cases are tests of the class, and two classes have two drivers."""
    pytester.makepyfile(
        RIGHT.replace("@pytest.fixture\ndef midstream_driver():\n    return download\n", "")
        + """
class TestOne:
    @pytest.fixture(scope="class")
    @classmethod
    def midstream_driver(cls):
        return download

class TestTwo:
    @pytest.fixture
    def midstream_driver(self):
        assert isinstance(self, TestTwo)
        return "reknit"

    def test_other(self):
        pass
"""
    )
    result = run(pytester, *ONE, "-v")
    assert set(result.parseoutcomes()) == {"passed"}
    for name in ("TestOne", "TestTwo"):
        result.stdout.fnmatch_lines([f"*::{name}::midstream?late-head@origin? PASSED*"])
    result.stdout.fnmatch_lines(["*::TestTwo::test_other PASSED*"])


def test_two_workers(pytester: pytest.Pytester) -> None:
    """Under xdist each worker has stores of its own; nothing is left of any of them."""
    pytester.makepyfile(RIGHT)
    result = run(
        pytester, "--midstream-scenario", "cut-mid-body", "--midstream-scenario", "cut-in-*", "-n", "2"
    )
    assert set(result.parseoutcomes()) == {"passed"}
    left = [p for p in Path("/proc").glob("[0-9]*/environ") if str(pytester.path).encode() in _read(p)]
    assert not left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_selection(pytester: pytest.Pytester) -> None:
    """The default is every scenario on the origin; options, -k and the marker narrow it."""
    pytester.makepyfile(RIGHT + "\ndef test_other(): pass\n")
    result = run(pytester, "--collect-only", "-q")
    names = [line for line in result.outlines if "::midstream[" in line]
    assert len(names) > 100
    assert all("@origin]" in name for name in names)
    some = run(
        pytester,
        "--collect-only",
        "-q",
        "--midstream-scenario",
        "cut-mid-body",
        "--midstream-store",
        "origin",
    )
    assert 1 <= len([line for line in some.outlines if "::midstream[" in line]) < 10
    other = run(pytester, "--collect-only", "-q", "-m", "not midstream", "--strict-markers")
    assert [line for line in other.outlines if "::" in line] == ["test_selection.py::test_other"]


def test_by_hand(pytester: pytest.Pytester) -> None:
    """A test written by hand has a running store and as many faulty addresses as it likes."""
    pytester.makepyfile(
        """
        import urllib.request
        import pytest
        from midstream._content import Content
        from midstream.stores import Traits

        def test_cut(midstream_store, midstream_inject):
            content = Content(5000)
            midstream_store.put("mine", content, Traits())
            session = midstream_inject("GET#1 cut@1000:fin", object_size=5000)
            url = midstream_store.access("mine", session.url).url
            with urllib.request.urlopen(url) as answer:
                assert answer.read1(9999) == content.read(0, 1000)
                assert answer.read1(9999) == b""
            whole = midstream_inject()
            with urllib.request.urlopen(midstream_store.access("mine", whole.url).url) as answer:
                assert answer.read() == content.whole()
            kinds = [e.kind for e in session.close().events]
            assert kinds.count("fault") == 1

        def test_bad_line(midstream_inject):
            with pytest.raises(Exception, match="not of the form"):
                midstream_inject("nonsense")
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2)


def test_nobody_is_slowed_down(pytester: pytest.Pytester) -> None:
    """A project without the fixture pays for one small module: nothing of the harness is imported."""
    pytester.makepyfile("def test_it(): pass")
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = ("pydantic", "requests", "typer", "rich", "jinja2", "boto3", "asyncio", "ssl")
            print("HEAVY", [name for name in heavy if name in sys.modules])
            print("OURS", sorted(name for name in sys.modules if name.startswith("midstream")))
        """
    )
    # Other plugins import what they like.
    others = ("-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:xdist", "-p", "no:timeout")
    result = run(pytester, "--collect-only", *others, "-s")
    result.stdout.fnmatch_lines(["HEAVY ?]", "OURS ?'midstream', 'midstream.pytest_plugin'?"])


def test_the_spec_of_a_function() -> None:
    """An installed function goes by module, one of a file by path, a name as it is."""
    from midstream.drivers.naive import MEMBER

    assert driver_spec("cmd:curl {dest}") == "cmd:curl {dest}"
    assert driver_spec(test_selection) == f"py:{Path(__file__).resolve()}:test_selection"
    assert driver_spec(json.dumps) == "py:json:dumps"
    assert driver_spec(pytest.main) == "py:_pytest.config:main"
    for bad in (MEMBER, lambda job: None, 5, object()):
        with pytest.raises(pytest.UsageError, match="midstream_driver gave"):
            driver_spec(bad)


def test_a_forgotten_fixture(pytester: pytest.Pytester) -> None:
    """Options of ours without a driver fixture are answered by a warning, not by silence."""
    pytester.makepyfile("def test_it(): pass")
    result = run(pytester, "--midstream-store", "origin")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*no scenario runs, since no test module defines the fixture*"])


def test_an_uploader(pytester: pytest.Pytester) -> None:
    """The fixture of an uploader gets the scenarios of uploads, and only these."""
    pytester.makepyfile(UPLOADER.format(wrong=""))
    cases = ("--midstream-scenario", "*cut-mid-body", "-k", "fin and 40")
    result = run(pytester, *cases, "-v")
    assert result.parseoutcomes() == {"passed": 1, "deselected": 7}
    result.stdout.fnmatch_lines(["*::midstream?upload-cut-mid-body?at=40%;end=fin?@origin? PASSED*"])


def test_a_broken_uploader(pytester: pytest.Pytester) -> None:
    """One that publishes something else fails, and is told what the store holds."""
    pytester.makepyfile(UPLOADER.format(wrong="[:100003]"))  # what the control case has, no more
    result = run(pytester, "--midstream-scenario", "upload-cut-mid-body", "-k", "fin and 40")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        ["*truncated: published: 100,003 of 262,144 bytes*", "*replay: midstream replay*"]
    )
