"""Stores: real object stores and origins the harness starts on loopback, one file each.

A member (`MEMBER`) is a `Store`: it says whether it can run here and starts a `RunningStore`, a server in a
process group of its own on a free port of 127.0.0.1. Objects go in and are looked at out of band, straight to
the server; a driver only ever gets the addresses that `access` writes for the injector's port.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from midstream._content import Content
from midstream._registry import Availability

CONTAINER = "midstream"  # the one bucket or container that cases use


@dataclass(frozen=True)
class Traits:
    """How a store should present an object, where it can choose (only `origin` can choose all of it).

    `validator`: strong (ETag), weak (W/ ETag), modified (Last-Modified only) or none. `framing`: length,
    chunked or close (close-delimited). `ranges`: whether Range is honoured. `digest`: whether a digest of the
    whole object is offered. `head`: whether HEAD is answered.
    """

    validator: str = "strong"
    framing: str = "length"
    ranges: bool = True
    digest: bool = True
    head: bool = True


@dataclass(frozen=True)
class ObjectInfo:
    """What the store itself says of an object, out of band."""

    size: int
    etag: str | None


@dataclass(frozen=True)
class Access:
    """How a driver reaches one object through the injector.

    `url` is plain HTTP and needs no credentials (presigned or public where the store has accounts); `native`
    is the store's own form (`s3://bucket/key`); `env` holds endpoint and credentials under the names the
    store's usual clients read.
    """

    kind: str  # http, s3 or swift
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

    @abstractmethod
    def put(self, key: str, content: Content, traits: Traits) -> None:
        """Store an object, replacing any of that name. Raises UsageError for traits it cannot present."""

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """Size and ETag, or None when there is no such object."""

    @abstractmethod
    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object as the store holds it."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when it does not exist."""

    @abstractmethod
    def keys(self) -> list[str]:
        """Names of all objects, sorted."""

    @abstractmethod
    def access(self, key: str, base_url: str) -> Access:
        """Addresses of an object through the injector at `base_url` (`http://127.0.0.1:PORT`)."""

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
    kind: ClassVar[str]  # http, s3 or swift: the protocol its drivers speak

    @abstractmethod
    def available(self) -> Availability:
        """Whether `start` can work here; imports and looks up, starts nothing."""

    @abstractmethod
    def start(self, folder: Path) -> RunningStore:
        """Start a server that keeps its data below `folder`; raises SetupError with what to do."""

    def supports(self, traits: Traits) -> str | None:
        """None when objects can be presented so, else why not in a few words."""
        return None if traits == Traits() else f"{self.id} presents objects in its own way only"

    @abstractmethod
    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        """The store operation a request is: a name of `midstream._schedule.OPERATIONS`. Pure."""
