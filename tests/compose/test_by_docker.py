"""Parts that the harness starts by docker itself, with the engine and the images of the stack."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compose.conftest import there

from midstream import _parts
from midstream._container import LABEL, Container
from midstream._content import Content
from midstream._errors import SetupError, StoreDied
from midstream._parts import PARTS, Found, find
from midstream._registry import load
from midstream.injectors import RunningInjector
from midstream.stores import Traits
from midstream.stores._hosted import launch
from midstream.testing.injectors import layout, objects, stage
from midstream.testing.stores import fetch
from midstream.testing.wire import Received, ScriptedOrigin

TARGET = "/length?size=1000"


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, docker: Any) -> Iterator[None]:
    """No binary is found and nothing is attached to; no test leaves anything in the engine."""
    for name in [name for name in os.environ if name.endswith("_URL") and name.startswith("MIDSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_parts.ThisMachine, "which", lambda *_: None)
    before = there(docker)
    yield
    assert there(docker) == before


def ours(docker: Any) -> list[Any]:
    found: list[Any] = docker.containers.list(all=True, filters={"label": f"{LABEL}={os.getpid()}"})
    return found


@pytest.mark.parametrize("name", ["minio", "nginx"])
def test_store(name: str, docker: Any, tmp_path: Path) -> None:
    """It runs in a container of its own, keeps an object, is seen to die, and is gone afterwards."""
    member = load("stores", name)
    assert member.available().how == f"docker {PARTS[name].image}"
    store = member.start(tmp_path)
    try:
        (container,) = ours(docker)
        content = Content(100_003, seed=1)
        store.put("a b", content, Traits())
        assert fetch(store.access("a b", f"http://127.0.0.1:{store.port}").url).body == content.whole()
        assert store.keys() == ["a b"]
        assert store.alive()
        container.kill()
        container.wait()
        assert not store.alive()
        with pytest.raises(StoreDied):
            store.stat("a b")
    finally:
        store.stop()
    assert not ours(docker)
    assert not list(tmp_path.glob(f"{name}-*"))


@pytest.fixture
def origin() -> Iterator[ScriptedOrigin]:
    origin = ScriptedOrigin(objects)
    yield origin
    origin.stop()


@pytest.mark.parametrize("name", ["toxiproxy", "mitmproxy"])
def test_engine(name: str, docker: Any, origin: ScriptedOrigin) -> None:
    """It cuts at the byte from a container of its own; one that has died is started again; none is left."""
    member = load("injectors", name)
    assert member.available().how == f"docker {PARTS[name].image}"
    running: RunningInjector = member.start()
    whole = layout(TARGET)
    try:
        for _ in range(2):
            with stage(running, origin, "GET#1 cut@500:rst") as on:
                assert on.ask(TARGET).rest() == Received(whole.wire[: whole.byte(500)], "reset")
                assert not on.facts().trouble
            (container,) = ours(docker)
            container.kill()
            container.wait()
    finally:
        running.stop()
    assert not ours(docker)


CRASH = """
import os, signal, sys
from midstream._container import Container
from midstream._parts import find
Container(find("toxiproxy"), ["-host", "127.0.0.1", "-port", sys.argv[1]], {})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_left_by_a_crash(docker: Any) -> None:
    """What a process that was killed has left is removed by whoever starts a container next."""
    found = find("toxiproxy").require()
    # The child has another environment: it is told what it finds.
    code = CRASH.replace('find("toxiproxy")', repr(found)).replace("import find", "import Found")
    subprocess.run([sys.executable, "-c", code, "29998"], check=False)
    (left,) = docker.containers.list(all=True, filters={"label": LABEL})
    container = Container(found, ["-host", "127.0.0.1", "-port", "29999"], {})
    try:
        assert [one.id for one in ours(docker)] == [
            one.id for one in docker.containers.list(all=True, filters={"label": LABEL})
        ]
        assert left.id not in [one.id for one in ours(docker)]
    finally:
        container.stop()


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """What it wrote is in the message, and no container is left."""
    found = Found("nginx", "docker", PARTS["nginx"].image)
    said = r"nginx: the container of nginx:\S+ did not get ready: .*no-such-file"
    with pytest.raises(SetupError, match=said):
        launch(found, tmp_path / "own", ["-c", "/no-such-file"], {}, "/")


def test_an_image_that_is_not_there() -> None:
    """It is named, in docker's words."""
    with pytest.raises(SetupError, match="minio: docker cannot run midstream-no-such-image:1: "):
        Container(Found("minio", "docker", "midstream-no-such-image:1"), [], {})
