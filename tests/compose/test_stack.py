"""The stack from its start to its end: each store through each engine, from inside and from outside."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tests.compose.conftest import ENGINES, INSIDE_SWIFT, OTHERS, STORES, Stack, listens, midstream

LOOPBACK_6 = "00000000000000000000000001000000"  # ::1, which MinIO listens at too
SCENARIO = "cut-mid-body"
WORDS = [
    "run",
    SCENARIO,
    *(word for store in STORES for word in ("--store", store)),
    *(word for engine in ENGINES for word in ("--injector", engine)),
]


def judge(done: subprocess.CompletedProcess[str], out: Path) -> None:
    """Every store passed through every engine, and nothing was amiss."""
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((out / "results.json").read_text(encoding="utf-8"))["cases"]
    seen = Counter((case["store"], case["injector"], case["verdict"]) for case in cases)
    assert {key[2] for key in seen} <= {"pass", "not_applicable"}, seen
    for store in STORES:
        for engine in ENGINES:
            assert seen[store, engine, "pass"] >= 6, seen


def test_only_what_was_asked_for(stack: Stack) -> None:
    """Two profiles start the five stores and the two engines; without one nothing is selected."""
    assert set(stack.containers()) == {*STORES, *OTHERS, *ENGINES}
    assert set(stack.settings()["services"]) == {*STORES, *OTHERS, *ENGINES, "midstream"}
    assert "services" not in stack.compose("config", "--services").stdout.split()


def test_on_this_machine_only(stack: Stack) -> None:
    """Each service listens where it was told to, and at no other address of the machine."""
    ports = {f"{port:04X}" for port in (*stack.ports.values(), *INSIDE_SWIFT)}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and address.rpartition(":")[2] in ports:
                listening.add(address)
    assert {address.rpartition(":")[2] for address in listening} == ports
    assert {address.rpartition(":")[0] for address in listening} <= {"0100007F", LOOPBACK_6}


def test_from_inside(stack: Stack) -> None:
    """`docker compose run midstream` runs scenarios on the services."""
    words = [*WORDS, "--out", "/out/inside", "--quiet"]
    done = stack.compose("--profile", "all", "run", "--rm", "-T", "midstream", *words)
    judge(done, stack.out / "inside")


def test_from_outside(stack: Stack) -> None:
    """The midstream of this checkout runs the same ones, attached to the services."""
    out = stack.out / "outside"
    judge(midstream(stack.attach(), *WORDS, "--out", str(out), "--quiet"), out)


def test_gridfs(stack: Stack) -> None:
    """What speaks no HTTP is cut by the injector of midstream's own, from inside and from outside."""
    words = ["run", "wire-three-cuts", "wire-upload-cut", "--store", "gridfs", "--quiet", "--out"]
    inside = stack.compose("--profile", "all", "run", "--rm", "-T", "midstream", *words, "/out/gridfs")
    outside = midstream(stack.attach(), *words, str(stack.out / "gridfs-outside"))
    for done, name in ((inside, "gridfs"), (outside, "gridfs-outside")):
        assert done.returncode == 0, done.stdout + done.stderr
        cases = json.loads((stack.out / name / "results.json").read_text(encoding="utf-8"))["cases"]
        assert {case["verdict"] for case in cases} == {"pass"}, cases
        assert {case["scenario"] for case in cases} == set(words[1:3])


def test_found_by_attaching(stack: Stack) -> None:
    """The doctor says of each service that it is attached to, and where."""
    told = json.loads(midstream(stack.attach(), "doctor", "--json").stdout)
    how = {row["id"]: row["how"] for row in told if row["family"] in ("stores", "injectors")}
    for name in (*STORES, *OTHERS, *ENGINES):
        assert how[name].startswith(f"attach http://127.0.0.1:{stack.ports[name]}")


def test_nothing_is_left_in_the_services(stack: Stack) -> None:
    """After both runs no proxy, session, bucket, container or file of theirs is there."""
    found = {}
    for service, command in {
        "minio": "ls /data",
        "nginx": "find /srv/files -type f",
        "toxiproxy": "/toxiproxy-cli --host http://127.0.0.1:{toxiproxy} list",
    }.items():
        command = command.format(**stack.ports)
        found[service] = stack.containers()[service].exec_run(command).output.decode()
    assert "midstream-" not in "".join(found.values()), found
    # Beside the engine's own port, nothing of mitmproxy's listens.
    pids = {row[1] for row in stack.containers()["mitmproxy"].top()["Processes"]}
    sockets = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    ours = [line.split()[3] for line in sockets.splitlines() if any(f"pid={pid}," in line for pid in pids)]
    assert ours == [f"127.0.0.1:{stack.ports['mitmproxy']}"]


def test_down(stack: Stack) -> None:
    """Taken down, it leaves no container, volume, network, process or port."""
    pids = [row[1] for one in stack.containers().values() for row in one.top()["Processes"]]
    assert len(pids) >= 10
    stack.down()
    assert stack.there() == stack.before
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [port for port in (*stack.ports.values(), *INSIDE_SWIFT) if listens(port)]


@pytest.mark.parametrize("service", [*STORES, *OTHERS, *ENGINES])
def test_alone(stack: Stack, service: str) -> None:
    """One service by its name starts that one only."""
    done = stack.compose("up", "--detach", "--no-build", service)
    try:
        assert done.returncode == 0, done.stderr
        assert set(stack.containers()) == {service}
    finally:
        stack.down()
