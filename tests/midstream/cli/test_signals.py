"""However a run ends, nothing of it stays: no process, no port, no temporary file, no half report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from tests.midstream.cli.conftest import CUT, Box

BOUND = 20.0


def settled(box: Box) -> list[str]:
    """What is left, once it is nothing or the bound has passed."""
    until = time.monotonic() + BOUND
    while (left := box.leftovers()) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return list(psutil.Process(process.pid).children(recursive=True))


def wait_for_cases(box: Box, n: int, process: subprocess.Popen[str]) -> None:
    """Until so many cases have their evidence; bounded."""
    until = time.monotonic() + BOUND
    while len(list((box.out / "cases").glob("*.json"))) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


LONG = CUT.replace("[20000]", '"sample 20000"')


def test_one_run_in_a_folder(box: Box) -> None:
    """A second run is refused while one writes there, and free to once that has ended, however it did."""
    box.scenario(text=LONG)
    first = box.start("run", *box.usual("right"))
    wait_for_cases(box, 1, first)
    second = box.run()
    assert (second.status, second.out) == (2, "")
    assert (
        second.line == f"midstream: --out {box.out}: another run writes there; give each a folder of its own"
    )
    assert first.poll() is None
    first.kill()
    first.communicate()
    box.scenario(text=CUT)
    assert box.run().status == 0


def test_killed_over_an_earlier_report(box: Box) -> None:
    """Beside the cases of a run that was killed lies no report of the run before it."""
    box.scenario(text=CUT)
    assert box.run().status == 0
    reports = [box.out / name for name in ("index.html", "results.json", "junit.xml")]
    assert all(path.exists() for path in reports)
    box.scenario(text=LONG)
    process = box.start("run", *box.usual("right"))
    wait_for_cases(box, 5, process)
    process.kill()
    process.communicate()
    assert not any(path.exists() for path in reports)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_in_the_middle(box: Box, number: signal.Signals, status: int) -> None:
    """The reports are whole and valid with what there was; then the run is gone without a trace."""
    box.scenario(text=LONG)
    process = box.start("run", *box.usual("right"))
    wait_for_cases(box, 20, process)
    relatives = family(process)
    ports = [
        c.laddr.port
        for p in [psutil.Process(process.pid), *relatives]
        for c in p.net_connections()
        if c.status == "LISTEN"
    ]
    assert len(relatives) >= 3
    assert ports
    process.send_signal(number)
    out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, err) == (status, "")
    results = json.loads((box.out / "results.json").read_text())
    assert 20 <= len(results["cases"]) < 20000
    assert {c["verdict"] for c in results["cases"]} == {"pass"}
    assert sum(results["summary"].values()) == len(results["cases"])
    suite = ET.parse(box.out / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert len(suite) == len(results["cases"])
    assert "</html>" in (box.out / "index.html").read_text()
    assert f"interrupted after {len(results['cases'])} of 20000 cases" in out
    assert not any(p.is_running() for p in relatives)
    assert box.leftovers() == []
    assert not listening(ports)


def listening(ports: list[int]) -> set[int]:
    """Of these ports, those that somebody on this machine listens on."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == "0A":
            found.add(int(local.partition(":")[2], 16))
    return found & set(ports)


def wait_for_program(name: str, process: subprocess.Popen[str]) -> None:
    """Until something of the run is this program; bounded."""
    until = time.monotonic() + BOUND
    while not any(p.name() == name for p in alive(family(process))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_signal_while_a_driver_hangs(box: Box) -> None:
    """A driver that would not come back is ended at once, and is not said to have crashed."""
    box.scenario()
    process = box.start("run", *box.usual("cmd:sh -c 'exec sleep 500' {dest}"))
    wait_for_program("sleep", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert json.loads((box.out / "results.json").read_text())["cases"] == []
    assert settled(box) == []


def test_impatient(box: Box) -> None:
    """More signals during the clearing up do not disturb it."""
    box.scenario(text=LONG)
    process = box.start("run", *box.usual("right"))
    wait_for_cases(box, 3, process)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=BOUND)
    assert process.returncode in (130, 143)
    json.loads((box.out / "results.json").read_text())
    assert settled(box) == []


@pytest.mark.parametrize(
    "driver",
    ["right", "cmd:sh -c 'setsid sleep 500 & curl -s -o $0 $1; exec sleep 500' {dest} {url}"],
    ids=["python", "command"],
)
def test_kill_9(box: Box, driver: str) -> None:
    """Not even that leaves a server, a driver, what a driver started, or the temporary folder."""
    text = LONG if driver == "right" else "deadline = 600\n" + CUT
    box.scenario(text=text)
    process = box.start("run", *box.usual(driver))
    if driver == "right":
        wait_for_cases(box, 5, process)
    else:
        wait_for_program("sleep", process)
    relatives = family(process)
    assert len(relatives) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait(BOUND)
    _, left = psutil.wait_procs(relatives, timeout=BOUND)
    assert not left
    for part in box.out.glob("*.part"):
        part.unlink()  # of the reports, which nobody could finish
    for part in box.out.glob("cases/*.part"):
        part.unlink()
    assert settled(box) == []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            process.cmdline()
            found.append(process)
        except psutil.Error:
            pass
    return found


def test_stopped_store_process(box: Box) -> None:
    """A server that is killed in the middle costs its case a harness error, and the run goes on."""
    box.scenario(text=CUT.replace("[20000]", '"sample 400"'))
    process = box.start("run", *box.usual("right"))
    wait_for_cases(box, 10, process)
    (server,) = [p for p in alive(family(process)) if "midstream.stores._origin_server" in p.cmdline()]
    server.kill()
    process.communicate(timeout=60)
    summary = json.loads((box.out / "results.json").read_text())["summary"]
    assert set(summary) <= {"pass", "harness_error"}
    hurt = summary.get("harness_error", 0)  # none, when the kill fell between two cases
    assert hurt <= 4
    assert process.returncode == (3 if hurt else 0)
    assert sum(summary.values()) == 400
    assert box.leftovers() == []
