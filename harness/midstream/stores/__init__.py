"""Stores: real object stores and origins the harness starts on loopback, one file each.

A member (`MEMBER`) is a `Store`: it says whether it can run here and starts a `RunningStore`, a server in a
process group of its own on a free port of 127.0.0.1. Objects go in and are looked at out of band, straight to
the server; a driver only ever gets the addresses that `access` writes for the injector's port.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from midstream._content import Content
from midstream._errors import UsageError
from midstream._registry import Availability
from midstream.stores._changes import NOTHING_KNOWN, UnderWay

CONTAINER = "midstream"  # the one bucket or container that cases use
LAYOUTS = ("plain", "multipart", "versioned", "slo", "dlo")
OTHER = "-of-another"  # what an object is called whose name begins like that of the case
UPLOADS = ("put", "multipart", "segments", "resumable")


@dataclass(frozen=True)
class Traits:
    """How a store should present an object, where it can choose (only `origin` can choose all of it).

    `validator`: strong (ETag), weak (W/ ETag), modified (Last-Modified only) or none. `framing`: length,
    chunked or close (close-delimited). `ranges`: whether Range is honoured. `digest`: whether a digest of the
    whole object is offered. `head`: whether HEAD is answered. `layout`: how the object is made, one of
    `LAYOUTS`: plain, multipart (S3: of parts of 5 MiB), versioned (S3: in a bucket that keeps every version),
    slo or dlo (Swift: a static or dynamic large object of up to four segments).
    """

    validator: str = "strong"
    framing: str = "length"
    ranges: bool = True
    digest: bool = True
    head: bool = True
    layout: str = "plain"


@dataclass(frozen=True)
class ObjectInfo:
    """What the store itself says of an object, out of band."""

    size: int
    etag: str | None


@dataclass(frozen=True)
class Access:
    """How a driver reaches one object through the injector.

    `url` is plain HTTP and needs no credentials (presigned or public where the store has accounts), and the
    same as `native` where there is no HTTP; `native` is the store's own form (`s3://bucket/key`); `env` holds
    endpoint and credentials under the names the store's usual clients read.
    """

    kind: str  # http, s3, swift, gridfs or rbd
    url: str
    native: str
    env: Mapping[str, str] = field(default_factory=dict)


class RunningStore(ABC):
    """A store that has been started. Every method talks to the server directly, never through an injector.

    Methods that reach the server raise `StoreDied` when it does not answer.
    """

    id: str
    port: int  # on 127.0.0.1
    pid: int = 0  # of the server's process, which leads its group; 0 when it is not a process of ours
    version: str = ""
    listen_port: int = 0  # the one port of 127.0.0.1 where its clients look for it; 0: any will do

    path: str = ""  # of a socket where an injector reaches the server; "": at `upstream`

    @property
    def upstream(self) -> tuple[str, int]:
        """Where an injector reaches the server."""
        return ("127.0.0.1", self.port)

    @abstractmethod
    def put(self, key: str, content: Content, traits: Traits) -> None:
        """Store an object, replacing any of that name together with its segments.

        Raises UsageError for traits it cannot present and for a size it cannot lay out so.
        """

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """Size and ETag, or None when there is no such object."""

    @abstractmethod
    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object as the store holds it."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object and its segments; nothing happens when it does not exist.

        Where versions are kept, it is hidden behind a delete marker, as a client's DELETE would do it.
        """

    def purge(self, key: str) -> None:
        """Remove an object with every version that is kept of it, and what marks it as deleted."""
        self.delete(key)

    @abstractmethod
    def keys(self) -> list[str]:
        """Names of all objects, sorted; segments are none."""

    @abstractmethod
    def access(self, key: str, base_url: str) -> Access:
        """Addresses of an object through the injector at `base_url` (`http://127.0.0.1:PORT`)."""

    def upload_access(self, key: str, base_url: str) -> Access:
        """The same for a driver that sends the object: `url` takes a plain PUT."""
        return self.access(key, base_url)

    def orphans(self, key: str) -> list[str]:
        """What is in the store on account of uploads of `key` and belongs to no object, in words.

        Parts, segments and unfinished uploads that a driver left; what it has left to expire is none. Names
        that begin with the key count as the key's.
        """
        return []

    def leave(self, key: str, content: Content, part: int) -> None:
        """Leave an upload unfinished, as a client that died before the last part: all others are there.

        Raises UsageError where the store keeps no unfinished uploads.
        """
        raise UsageError(f"{self.id}: keeps no unfinished uploads")

    def clear(self, key: str) -> None:
        """Remove an object together with what uploads of it have left."""
        self.delete(key)

    def lose_segment(self, key: str) -> int:
        """Delete the last segment of an object; the byte it began at.

        Raises UsageError when it is not made of segments.
        """
        raise UsageError(f"{self.id}: {key!r} has no segments")

    def change_segment(self, key: str) -> int:
        """Overwrite the last segment of an object with the same bytes of its next generation; its start.

        Raises UsageError when it is not made of segments.
        """
        raise UsageError(f"{self.id}: {key!r} has no segments")

    def expire_credentials(self, access: Access | None = None) -> None:
        """Make tokens handed out until now invalid: those of one `access`, or all that drivers hold.

        Raises UsageError when the store hands out none.
        """
        raise UsageError(f"{self.id}: hands out no tokens that could expire")

    def run_backends(self, count: int | None) -> None:
        """Have this many of the servers behind the store run, None for all; returns when it is so.

        Those it reads from first end first, as in a crash, and come back with the disk they had. Raises
        UsageError when it has none, or fewer.
        """
        raise UsageError(f"{self.id}: has no servers behind it that could end")

    @abstractmethod
    def alive(self) -> bool:
        """Whether the server's process runs."""

    @abstractmethod
    def stop(self) -> None:
        """End the server and remove its data. May be called twice."""


class Store(ABC):
    """A kind of store: what it is, whether it can run here, how to start it, how to read its requests."""

    id: ClassVar[str]
    summary: ClassVar[str]
    kind: ClassVar[str]  # http, s3, swift, gridfs or rbd: the protocol its drivers speak
    raw: ClassVar[bool] = False  # that protocol is not HTTP: only bytes of its connections can be told
    signed: ClassVar[bool] = False  # it verifies signatures, so a request cannot be edited on its way
    backends: ClassVar[int] = 0  # servers behind it, each with a replica of every object, that can be ended
    layouts: ClassVar[tuple[str, ...]] = ("plain",)  # of `LAYOUTS`, those it can make
    uploads: ClassVar[tuple[str, ...]] = ()  # of `UPLOADS`, the ways it takes an object from a driver
    part_size: ClassVar[int] = 0  # the least bytes of a part that is not the last, where it takes parts
    leftovers: ClassVar[bool] = False  # whether it can `leave` an unfinished upload
    # What a response delivers whose object is changed while it is under way, by layout, or by layout and
    # change (`dlo change-segment`) where one differs from the others.
    under_way: ClassVar[Mapping[str, UnderWay]] = NOTHING_KNOWN

    @abstractmethod
    def available(self) -> Availability:
        """Whether `start` can work here; imports and looks up, starts nothing."""

    @abstractmethod
    def start(self, folder: Path) -> RunningStore:
        """Start a server that keeps its data below `folder`; raises SetupError with what to do."""

    def supports(self, traits: Traits) -> str | None:
        """None when objects can be presented so, else why not in a few words."""
        return refusal(self.id, self.layouts, traits)

    def lacks_backends(self, counts: Iterable[str]) -> str | None:
        """Why these numbers of servers cannot be left running behind it; None when they can."""
        wanted = [0 if count == "all" else int(count) for count in counts]
        if wanted and not self.backends:
            return f"{self.id} has no servers behind it that could be ended one by one"
        if wanted and max(wanted) > self.backends:
            return f"{self.id} has {self.backends} servers behind it, not {max(wanted)}"
        return None

    def when_changed(self, layout: str, action: str) -> UnderWay | None:
        """What a response delivers whose object is changed so under way; None when that is not known."""
        return self.under_way.get(f"{layout} {action}") or self.under_way.get(layout)

    @abstractmethod
    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        """The store operation a request is: a name of `midstream._schedule.OPERATIONS`. Pure."""


def lays_out(name: str, layouts: tuple[str, ...], traits: Traits) -> str | None:
    """Why a store with these layouts cannot make such an object; None when it can."""
    if traits.layout in layouts:
        return None
    return f"{name} makes {' and '.join(layouts)} objects, not {traits.layout}"


def refusal(name: str, layouts: tuple[str, ...], traits: Traits) -> str | None:
    """Why a store with these layouts, and one way to present each, cannot make such an object."""
    if replace(traits, layout="plain") != Traits():
        return f"{name} presents objects in its own way only"
    return lays_out(name, layouts, traits)
