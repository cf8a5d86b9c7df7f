"""The stack of docker-compose.yml, up on the host's network for all of these tests.

`make compose-test` starts the engine, builds the images and says how to call compose in MIDSTREAM_COMPOSE;
without that these tests are skipped.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STORES = ("minio", "swift", "origin", "nginx")
OTHERS = ("gridfs",)  # no HTTP: reached through the embedded injector alone
ENGINES = ("toxiproxy", "mitmproxy")
INSIDE_SWIFT = (6200, 6201, 6202, 6203)
HEALTHY_SECONDS = 120.0
PROJECT = "midstream-test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and not os.environ.get("MIDSTREAM_COMPOSE"):
            item.add_marker(pytest.mark.skip(reason="make compose-test"))


def free_port() -> int:
    """One that nobody has and that no server of another test is given."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Stack:
    """The services, and what the engine had before them."""

    docker: Any
    env: Mapping[str, str]
    ports: Mapping[str, int]
    out: Path
    before: Mapping[str, set[str]]

    def compose(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        command = [*os.environ["MIDSTREAM_COMPOSE"].split(), "--project-name", PROJECT, *words]
        return run(command, self.env, seconds)

    def there(self) -> dict[str, set[str]]:
        """All containers, volumes and networks of the engine, by name."""
        return there(self.docker)

    def containers(self) -> dict[str, Any]:
        """Those of the stack, by service."""
        label = f"com.docker.compose.project={PROJECT}"
        found = self.docker.containers.list(all=True, filters={"label": label})
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def down(self) -> None:
        done = self.compose("--profile", "all", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        assert done.returncode == 0, done.stderr

    def attach(self) -> dict[str, str]:
        """The environment of a midstream that uses the services."""
        named: dict[str, str] = self.settings()["services"]["midstream"]["environment"]
        return named

    def settings(self) -> dict[str, Any]:
        done = self.compose("--profile", "all", "config")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = yaml.safe_load(done.stdout)
        return found


def run(command: Sequence[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def midstream(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of this checkout, in an environment without other servers."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MIDSTREAM_")}
    return run([sys.executable, "-m", "midstream", *words], {**clean, **env}, 300)


def there(docker: Any) -> dict[str, set[str]]:
    return {
        "containers": {one.name for one in docker.containers.list(all=True)},
        "volumes": {one.name for one in docker.volumes.list()},
        "networks": {one.name for one in docker.networks.list()},
    }


@pytest.fixture(scope="session")
def docker() -> Iterator[Any]:
    from midstream._parts import docker_client

    client = docker_client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def stack(docker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    taken = [port for port in INSIDE_SWIFT if listens(port)]
    assert not taken, f"Swift's servers want these ports of 127.0.0.1, which are taken: {taken}"
    ports = {name: free_port() for name in (*STORES, *OTHERS, *ENGINES)}
    out = tmp_path_factory.mktemp("out")
    env = {f"MIDSTREAM_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    stack = Stack(docker, {**os.environ, **env, "MIDSTREAM_OUT": str(out)}, ports, out, there(docker))
    try:
        done = stack.compose("--profile", "stores", "--profile", "engines", "up", "--detach", "--no-build")
        assert done.returncode == 0, done.stderr
        await_healthy(stack)
        yield stack
    finally:
        stack.down()


def await_healthy(stack: Stack) -> None:
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        found = {name: one.attrs["State"] for name, one in stack.containers().items()}
        states = {name: state.get("Health", {}).get("Status", "none") for name, state in found.items()}
        if set(states.values()) == {"healthy"}:
            return
        ended = [name for name, state in found.items() if state["Status"] == "exited"]
        if ended or time.monotonic() > deadline:
            logs = stack.compose("logs", "--no-color", "--tail", "10", *ended).stdout
            pytest.fail(f"not healthy: {states}\n{logs}")
        time.sleep(0.2)  # docker tells nobody; what is waited for is looked at, not the time
