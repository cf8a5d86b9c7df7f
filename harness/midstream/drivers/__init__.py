"""Drivers: clients under test, one file each.

A Python driver is a `PythonDriver` whose `download` or `upload` runs in a worker process that can be killed;
a command line is a `CommandDriver` that says which command to run. Both get a `Job` and have one way to
succeed: the whole object at `job.dest`, or in the store, and no error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from midstream import _operations
from midstream._registry import Availability


@dataclass(frozen=True)
class Job:
    """What a driver is to fetch, and where to; or what it is to send, from `source`.

    `url` is plain HTTP without credentials, `native` the store's own form (`s3://bucket/key`); `kind` is
    http, s3, swift, gridfs or rbd; `env` holds endpoint and credentials under the names usual clients read.
    `idle_timeout` is how many seconds of silence a driver with such a setting should bear. `headers` go with
    every request to a plain HTTP store (an access token) and to no other host. `room` is how many bytes a
    file may grow to (the worker sees to it). `first` and `length` say which bytes of the object are wanted
    (None: to its end).

    Of an upload, `source` is the path to send, a file or a pipe, `url` and `native` where to (`url` takes a
    plain PUT), `size` how many bytes the source is to have, `part_size` the least the store takes for a part,
    and `dest` lies in a folder of the driver's own. `again` says that the same will be asked for again should
    it fail: what a later attempt can go on with may stay then, and is otherwise to be removed.
    """

    dest: Path
    kind: str
    url: str
    native: str
    env: Mapping[str, str] = field(default_factory=dict)
    idle_timeout: float = 2.0
    headers: Mapping[str, str] = field(default_factory=dict)
    room: int | None = None
    first: int = 0
    length: int | None = None
    source: Path | None = None
    size: int | None = None
    part_size: int = 0
    again: bool = False

    def as_json(self) -> dict[str, Any]:
        paths = {"dest": str(self.dest), "source": str(self.source) if self.source else None}
        return {**vars(self), **paths, "env": dict(self.env), "headers": dict(self.headers)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Job:
        source = Path(raw["source"]) if raw.get("source") else None
        return cls(**{**raw, "dest": Path(raw["dest"]), "source": source})


HTTP_KINDS = frozenset(_operations.HTTP_KINDS)
KINDS = frozenset(_operations.KINDS)


class Driver(ABC):
    """What all drivers have in common."""

    id: str
    summary: str
    kinds: ClassVar[frozenset[str]] = HTTP_KINDS  # of `KINDS`, those whose stores it can be pointed at
    parts: bool = False  # whether it can fetch a part of an object
    sizes: bool = True  # whether it is told how many bytes a source is to have
    streams: bool = False  # whether it hands on what it reads at once, and so can neither take back nor keep
    directions: frozenset[str] = frozenset({"download"})  # and "upload"

    def available(self) -> Availability:
        return Availability(version=self.version())

    def version(self) -> str:
        """The version of the client under test, "" when it has none."""
        return ""


class PythonDriver(Driver):
    """A driver in Python. The instance is made anew in each worker process."""

    def load(self) -> None:
        """Import what the driver needs, once per worker process and before the first job's clock starts.

        An exception here is a set-up problem of the harness, never a finding about the driver.
        """

    def download(self, job: Job) -> None:
        """Fetch the object to `job.dest`; raise any exception for a failure."""
        raise NotImplementedError(f"{self.id} downloads nothing")

    def upload(self, job: Job) -> None:
        """Send `job.source` to the store; raise any exception for a failure."""
        raise NotImplementedError(f"{self.id} uploads nothing")


class CommandDriver(Driver):
    """A driver that is a command line."""

    @abstractmethod
    def command(self, job: Job) -> list[str]:
        """The argument vector; exit status 0 means success, any other a clean failure."""
