"""`midstream run` and `replay`: exit statuses, files, lines."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.midstream.cli.conftest import CULPRITS, CUT, HEAD, Box

KEYS = [
    "id",
    "scenario",
    "variant",
    "driver",
    "driver_version",
    "store",
    "injector",
    "kind",
    "verdict",
    "level",
    "properties",
    "diagnosis",
    "object_bytes",
    "body_bytes",
    "requests",
    "seconds",
    "expected",
    "note",
    "evidence",
    "replay",
]


@pytest.mark.parametrize(
    ("driver", "status", "verdict"),
    [
        ("right", 0, "pass"),
        ("restarts", 0, "restarted"),
        ("needs_no_network", 2, "not_reached"),
        ("truncates", 1, "truncated"),
        ("never_right", 3, "harness_error"),
    ],
)
def test_exit_status(box: Box, driver: str, status: int, verdict: str) -> None:
    """0 as expected, 1 a MUST broken, 2 nothing proved, 3 trouble of ours; reports agree, nothing is left."""
    box.scenario()
    done = box.run(driver=driver)
    assert (done.status, done.err) == (status, "")
    results = json.loads((box.out / "results.json").read_text())
    (case,) = results["cases"]
    assert case["verdict"] == verdict
    assert results["summary"] == {verdict: 1}
    assert f"{verdict} 1" in done.out
    assert box.leftovers() == []


def test_a_driver_that_is_never_right(box: Box) -> None:
    """Nothing is said of the faults, but the control case is named, and by its name it is run and judged."""
    box.scenario()
    (line,) = re.findall(
        r"the driver fails without any fault: foreign: .*; see midstream (.*)",
        box.run(driver="never_right").out,
    )
    words = shlex.split(line)
    assert words[:2] == ["replay", "control"]
    shown = box(*words, "--out", str(box.out))
    (case,) = json.loads((box.out / "results.json").read_text())["cases"]
    assert (shown.status, case["verdict"], case["level"]) == (1, "foreign", "must")
    assert "driver said: ok" in shown.out
    assert box("replay", "control", "--out", str(box.out)).status == 0
    assert box("replay", "control-upload", "--out", str(box.out)).status == 0
    box.scenario("control", HEAD)
    own = box(
        "replay", "control", "--driver", words[3], "--scenario-dir", str(box.scenarios), "--out", str(box.out)
    )
    assert own.status == 3


def test_quick(box: Box) -> None:
    """The first case of each scenario that says so, on the origin; none is an error of usage."""
    box.scenario()
    words = [
        "run",
        "--quick",
        "--driver",
        "reknit",
        "--scenario-dir",
        str(box.scenarios),
        "--out",
        str(box.out),
    ]
    none = box(*words)
    assert (none.status, none.line) == (2, "midstream: --quick: no selected scenario has `quick = true`")
    box.scenario("b-quick", CUT.replace("[20000]", "[7, 20000]").replace("faults", "quick = true\nfaults"))
    assert box(*words).status == 0
    cases = json.loads((box.out / "results.json").read_text())["cases"]
    assert [case["id"] for case in cases] == ["b-quick[at=7]:reknit:origin:embedded"]


def test_nothing_applies(box: Box) -> None:
    """A run in which no case could take part is no success: said last, with the reason."""
    box.scenario(text=HEAD + 'object.part = "3-999"')
    command = "cmd:curl -o {dest} {url}"
    alone = box.run(driver=command)
    assert alone.status == 2
    told = f"nothing was proved about {command} on origin through embedded: no case applies "
    told += f"({command} fetches whole objects only)"
    assert alone.out.splitlines()[-2] == told
    assert json.loads((box.out / "results.json").read_text())["summary"] == {"not_applicable": 1}
    both = box.run("--driver", "reknit", driver=command)
    assert (both.status, told in both.out) == (0, True)


def test_files(box: Box) -> None:
    """The four forms of the report hold every case under its name."""
    box.scenario(text=CUT.replace("[20000]", '[1, "50%", "100%-1"]'))
    box.scenario("b-none", HEAD)
    box.run("--driver", "reknit", driver="truncates")
    results = json.loads((box.out / "results.json").read_text())
    assert list(results) == ["schema", "midstream", "seed", "cases", "summary"]
    assert results["schema"] == 1
    assert len(results["cases"]) == 8
    for case in results["cases"]:
        assert [k for k in case if k in KEYS] == KEYS
        evidence = json.loads((box.out / case["evidence"]).read_text())
        assert {k: evidence[k] for k in KEYS} == {k: case[k] for k in KEYS}
        assert [e["kind"] for e in evidence["events"]][:1] == ["connection"]
    suite = ET.parse(box.out / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "8"
    assert suite.get("failures") == "3"
    assert "3 truncated" in re.sub("<[^>]*>", "", (box.out / "index.html").read_text()).replace(
        "truncated 3", "3 truncated"
    )
    assert {p.name for p in box.out.iterdir()} == {"results.json", "junit.xml", "index.html", "cases"}


def test_equal_seeds_give_equal_results(box: Box) -> None:
    """Byte for byte, apart from the seconds; another seed gives others."""
    box.scenario(text=CUT.replace("[20000]", '"sample 12"'))
    texts = []
    for seed, jobs in (("5", "1"), ("5", "3"), ("6", "2")):
        box.run("--seed", seed, "-j", jobs, driver="truncates")
        text = (box.out / "results.json").read_text()
        texts.append(re.sub(r'"seconds": [0-9.]+', '"seconds": 0', text))
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_replay_lines(box: Box) -> None:
    """Each case's replay line runs that case again, to the same verdict in the same words."""
    box.scenario(text=CUT.replace("[20000]", '["50%"]'))
    text = 'faults = ["get_object#1 cut@{at}", "get_object#2 status@head:503,body={b}"]\n'
    box.scenario("b-two", HEAD + text + 'vary.at = [7]\nvary.b = ["x;y=[%3B]", "it\'s"]')
    box.run("--driver", "cmd:curl -sS --retry 0 -o {dest} {url}", "--seed", "9", driver="truncates")
    cases = json.loads((box.out / "results.json").read_text())["cases"]
    assert len(cases) == 6
    for case in cases:
        words = shlex.split(case["replay"])
        assert words[0] == "midstream"
        done = box(*words[1:], "--out", str(box.folder / "again"))
        (again,) = json.loads((box.folder / "again" / "results.json").read_text())["cases"]
        same = ("id", "verdict", "diagnosis", "level", "replay", "object_bytes")
        assert {k: again[k] for k in same} == {k: case[k] for k in same}
        assert done.status == (1 if case["level"] == "must" else 0)
        assert "FAULT" in done.out


def test_replay_shows_the_wire(box: Box) -> None:
    """A replay tells request by request what happened, and in the end what the driver said."""
    box.scenario()
    done = box("replay", "a-cut[at=20000]", "--scenario-dir", str(box.scenarios), "--out", str(box.out))
    assert done.status == 0
    for text in (
        "schedule: get_object cut@20000",
        "request 1: GET",
        "FAULT get_object cut@20000:fin after 20000",
        "Range: bytes=20000-",
        "driver said: ok",
    ):
        assert text in done.out


def test_replay_shows_the_wire_in_words(box: Box) -> None:
    """What came of an upload, who left and that the driver ran again: in words, not as data."""
    done = box("replay", "upload-interrupted", "--out", str(box.out))
    assert done.status == 0
    for text in ("of 262144 body bytes", ": the driver left", "  run 2\n"):
        assert text in done.out
    assert "{'" not in done.out


def test_plain_output(box: Box) -> None:
    """Not on a terminal there are lines, no colours and no cursor; what is as expected is only counted."""
    box.scenario(text=CUT.replace("[20000]", "[1, 2, 3]"))
    done = box.run("--driver", "reknit", driver="truncates")
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out
    lines = done.out.splitlines()
    assert sum(line.startswith("truncated ") for line in lines) == 3
    assert sum(line.startswith("    midstream replay ") for line in lines) == 3
    assert any(line.startswith("reknit on origin through embedded: pass 3") for line in lines)


@pytest.mark.parametrize("plain", [True, False])
def test_terminal(box: Box, plain: bool) -> None:
    """On a terminal there is a bar and a table; with --plain there are lines there as well."""
    box.scenario()
    main, side = pty.openpty()
    words = [
        sys.executable,
        "-m",
        "midstream",
        "run",
        *box.usual("truncates"),
        *(["--plain"] if plain else []),
    ]
    env = box.environment({"TERM": "xterm"})
    process = subprocess.Popen(
        words, cwd=box.folder, env=env, stdout=side, stderr=side, stdin=subprocess.DEVNULL
    )
    os.close(side)
    output = b""
    try:
        while data := os.read(main, 65536):
            output += data
    except OSError:
        pass  # how a terminal tells that nobody writes any more
    os.close(main)
    assert process.wait(30) == 1
    assert (b"\x1b" in output) is not plain
    assert b"truncated" in output


def test_hostile_driver_text(box: Box) -> None:
    """A driver's words reach no terminal, page or suite as control characters, and no secret does at all."""
    box.scenario()
    hostile = box.folder / "hostile.py"
    hostile.write_text(
        f"import sys\nsys.path.insert(0, {str(CULPRITS.parent)!r})\nimport culprits\n"
        "def download(job):\n"
        "    if culprits.size_of(job) != 65536:\n        return culprits.right(job)\n"
        "    culprits.read(job.url)\n"
        "    raise OSError('\\x1b[2J\\x00\\udcff<script>alert(1)</script> ?X-Amz-Signature=cafe01 ]]>')\n"
    )
    done = box.run(driver=f"py:{hostile}:download")
    assert (done.status, done.err) == (1, "")
    assert "\x1b" not in done.out
    assert "\x00" not in done.out
    ET.parse(box.out / "junit.xml")
    assert "<script>" not in (box.out / "index.html").read_text()
    for path in box.out.rglob("*"):
        if path.is_file():
            assert b"cafe01" not in path.read_bytes()


def test_known_failures(box: Box) -> None:
    """Listed and failing is as expected; listed and passing is not; elsewhere the flag and file are named."""
    box.scenario()
    listed = box.folder / "known.toml"
    listed.write_text('[[known]]\nscenario = "a-*"\nreason = "not there yet"\n')
    done = box.run("--xfail", str(listed), driver="truncates")
    assert (done.status, done.err) == (0, "")
    (case,) = json.loads((box.out / "results.json").read_text())["cases"]
    assert (case["expected"], case["note"]) == (True, "known failure: not there yet")
    done = box.run("--xfail", str(listed))
    assert done.status == 1
    assert "listed as a known failure, but passes: not there yet" in done.out
    listed.write_text("[[known]]\n")
    done = box.run("--xfail", str(listed))
    assert done.status == 2
    assert done.line == f"midstream: --xfail {listed}: known[0].reason: is missing"


def test_fault_that_cannot_fire(box: Box) -> None:
    """A fault without a place to fire at is our error, and the case names it."""
    box.scenario("no-trailer", HEAD + 'faults = ["get_object cut@trailer"]')
    done = box.run()
    assert done.status == 3
    assert "get_object cut@trailer:fin: no such position in the response" in done.out


BAD: list[tuple[list[str], str]] = [
    (["--driver", "nope"], "no driver is called 'nope'"),
    (
        ["--driver", "cmd:no-such-program {dest}"],
        "driver cmd:no-such-program {dest}: the command 'no-such-pro",
    ),
    (["--driver", "cmd:curl {url}"], "the command has no {dest}"),
    (["--driver", "py:no_such_module:f"], "no module 'no_such_module' can be imported"),
    (["--store", "nope"], "no store is called 'nope'"),
    (["--injector", "nope"], "no injector is called 'nope'"),
    (["nothing-of-that-name"], "no scenario matches 'nothing-of-that-name'"),
    (["a-cot"], "did you mean a-cut"),
    (["--nope"], "No such option: --nope"),
    (["--seed", "x"], "Invalid value for '--seed'"),
    (["-j", "0"], "Invalid value for '-j' / '--jobs'"),
    (["--driver"], "--driver"),
    (["--scenario-dir", "not-there"], "--scenario-dir not-there: no such folder"),
    (["--scenario-dir", "temp"], "--scenario-dir temp: no .toml file below it"),
    (["--xfail", "not-there"], "--xfail not-there: No such file or directory"),
    (["--out", "file/below"], "--out file/below: Not a directory"),
    (["--out", "file"], "--out file: "),
    (["--store", "moto", "a-http"], "nothing to run: no selected scenario is meant for the selected stores"),
    (
        ["--driver", "reknit", "--driver", "boto3"],
        "--driver boto3: no selected scenario is meant for it on origin",
    ),
]


@pytest.mark.parametrize(("words", "text"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input(box: Box, words: list[str], text: str) -> None:
    """One line that names what is wrong, status 2, and nothing left behind."""
    box.scenario()
    box.scenario("a-http", CUT + 'stores = ["http"]')
    (box.folder / "file").touch()
    usual = ["--scenario-dir", "scenarios", "--out", "out"]
    if "--store" not in words:
        usual += ["--store", "origin"]
    done = box("run", *usual, *words)
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith("midstream: ")
    assert text in done.line
    assert not box.out.exists()
    assert box.leftovers() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nope = 1", "broken.toml: nope: unknown key; allowed: requirement"),
        ('faults = ["GET cut@x"]', "broken.toml: faults: fault 'GET cut@x': 'x' is no position"),
        ('kind = "may"', "broken.toml: kind: must be 'must', 'should' or 'observe', not 'may'"),
        ("=", "broken.toml: not TOML: "),
        (
            'stores = ["http", "htp"]',
            "broken.toml: stores: 'htp' is no kind of store and no store (known: ceph, ",
        ),
    ],
)
def test_bad_scenario(box: Box, text: str, said: str) -> None:
    """A scenario file that does not read is named by its path, with the key."""
    box.scenario("broken", HEAD + text)
    done = box.run()
    assert done.status == 2
    assert done.line.startswith(f"midstream: {box.scenarios / said}")
    assert not box.out.exists()


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("moto", ["--store", "moto"], "store moto: not installed: moto"),
        ("swift", ["--store", "swift"], "store swift: not installed: swift"),
    ],
)
def test_missing_dependency(box: Box, module: str, words: list[str], said: str) -> None:
    """What is not installed is named, with the command that installs it."""
    (box.folder / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        f"u.find_spec = lambda n, p=None: None if n.split('.')[0] == {module!r} else find(n, p)\n"
    )
    box.scenario()
    env = {"PYTHONPATH": str(box.folder)}
    done = box("run", *words, "--scenario-dir", "scenarios", "--out", "out", env=env)
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith(f"midstream: {said}")
    assert "pip install 'midstream[" in done.line
    listed = json.loads(box("list", "stores", "--json", env=env).out)
    assert [s["available"] for s in listed if s["id"] == module] == [False]


def test_full_disk(box: Box) -> None:
    """A report that cannot be written ends the run with flag and reason; no part of it stays."""
    box.scenario(text=CUT.replace("[20000]", '"sample 40"'))
    # Ignored, the signal becomes an error of the write, as a full disk is one.
    code = (
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from midstream.cli import run_cli; run_cli()"
    )
    words = [sys.executable, "-c", code, "run", *box.usual("needs_no_network")]
    done = subprocess.run(
        words,
        cwd=box.folder,
        env=box.environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("midstream: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"--out {box.out}: File too large" in done.stderr
    assert box.leftovers() == []
    assert not (box.out / "results.json").exists()


def test_output_without_a_reader(box: Box) -> None:
    """When nobody reads our lines any more the run goes on and its reports are whole."""
    box.scenario(text=CUT.replace("[20000]", "[1, 2, 3]"))
    process = box.start("run", *box.usual("truncates"))
    assert process.stdout
    process.stdout.close()
    assert process.wait(60) == 1
    assert len(json.loads((box.out / "results.json").read_text())["cases"]) == 3
    assert process.stderr
    assert process.stderr.read() == ""
    assert box.leftovers() == []


def test_bug_of_ours_blames_nobody(box: Box) -> None:
    """An exception that nobody foresaw ends with status 3, never with a driver's 1."""
    (box.folder / "sitecustomize.py").write_text(
        "import midstream._session as s\ns.execute = lambda *a, **k: {}['oops']\n"
    )
    box.scenario()
    done = box.run(env={"PYTHONPATH": str(box.folder)})
    assert done.status == 3
    assert done.err.splitlines()[-1] == "midstream: internal error: KeyError: 'oops'"


def test_scenario_dir_in_a_replay_line(box: Box) -> None:
    """The line works from where the run was started, folder and all."""
    box.scenario()
    done = box(
        "run", "--scenario-dir", "scenarios", "--store", "origin", "--driver", f"py:{CULPRITS}:truncates"
    )
    assert done.status == 1
    (line,) = [line.strip() for line in done.out.splitlines() if line.strip().startswith("midstream replay")]
    assert "--scenario-dir scenarios" in line
    assert box(*shlex.split(line)[1:]).status == 1
    assert Path(box.folder / "midstream-out" / "replay" / "results.json").exists()
