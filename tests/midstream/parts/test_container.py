"""Parts by docker, with a client in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from midstream._container import Container
from midstream._errors import SetupError
from midstream._parts import Found

FOUND = Found("minio", "docker", "minio/minio:some")


class One:
    def __init__(self, client: Client, labels: dict[str, str]) -> None:
        self.labels, self.status, self._client = labels, "running", client

    def reload(self) -> None:
        if self not in self._client.there:
            raise LookupError("no such container")

    def remove(self, force: bool, v: bool) -> None:
        assert force
        assert v
        self.reload()
        self._client.there.remove(self)


class Client:
    def __init__(self, there: tuple[int, ...] = (), fails: bool = False) -> None:
        self.there = [One(self, {"midstream": str(pid)}) for pid in there]
        self.fails, self.closed, self.given = fails, False, {}
        self.containers = self

    def list(self, all: bool, filters: dict[str, str]) -> list[One]:  # noqa: A002
        assert all
        assert filters == {"label": "midstream"}
        return list(self.there)

    def run(self, image: str, command: list[str], **given: Any) -> One:
        if self.fails:
            raise OSError("no such image")
        self.given = {"image": image, "command": command, **given}
        self.there.append(One(self, given["labels"]))
        return self.there[-1]

    def close(self) -> None:
        self.closed = True


def test_life() -> None:
    """Labelled, on the host's network, with its folder at the same place, and removed at the end."""
    client = Client()
    container = Container(FOUND, ["server"], {"A": "b"}, [Path("/data")], client)
    assert client.given["labels"] == {"midstream": str(os.getpid())}
    assert client.given["network_mode"] == "host"
    assert client.given["volumes"] == {"/data": {"bind": "/data", "mode": "rw"}}
    assert container.alive()
    container.stop()
    container.stop()
    assert not container.alive()
    assert not client.there
    assert client.closed


def test_ended() -> None:
    """One that has ended, or that somebody has removed, is not alive; stopping it is no error."""
    client = Client()
    container = Container(FOUND, [], {}, client=client)
    client.there[0].status = "exited"
    assert not container.alive()
    client.there.clear()
    assert not container.alive()
    with pytest.raises(SetupError, match="could not be removed"):
        container.stop()


def test_left_by_a_crash() -> None:
    """Containers of a process that is no more are removed; those of others are not."""
    client = Client((2**22 + 1, os.getpid(), 1))
    Container(FOUND, [], {}, client=client)
    assert [c.labels["midstream"] for c in client.there] == [str(os.getpid()), "1", str(os.getpid())]


def test_cannot_run() -> None:
    """A container that does not start is a matter of set-up, in the words of docker."""
    client = Client(fails=True)
    with pytest.raises(SetupError, match="minio: docker cannot run minio/minio:some: no such image"):
        Container(FOUND, [], {}, client=client)
    assert client.closed
