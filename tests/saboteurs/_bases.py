"""Correct and nearly correct clients that sins are committed on, and what every sin says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar

from _correct import BUSY, Broken, Client, Pin, Refused, Reply, Wire

Sin = TypeVar("Sin", bound="Saboteur")


class Saboteur(Client):
    """A client with one sin.

    `caught` names scenarios that catch it and the verdict it gets there, `trips` the checks that find it.
    `slow` names the slow scenarios that are worth running (globs), `deadline` ends what would hang.
    """

    caught: ClassVar[Mapping[str, str]] = MappingProxyType({})
    trips: ClassVar[tuple[str, ...]] = ()
    slow: ClassVar[tuple[str, ...]] = ()
    deadline: ClassVar[float] = 0.0


def caught_by(scenarios: Mapping[str, str]) -> Callable[[type[Sin]], type[Sin]]:
    """Which scenarios catch a sin, and as what."""

    def mark(sin: type[Sin]) -> type[Sin]:
        sin.caught = MappingProxyType(dict(scenarios))
        return sin

    return mark


class Trusting(Saboteur):
    """Looks at no digest and at no second size, like most clients: what it joined wrongly stays wrong."""

    def verify(self) -> bool:
        return True

    def proved(self) -> bool:
        self.pin.digests = {}
        return super().proved()


class ReadsOn(Saboteur):
    """Asks the server to close, and looks how it does that behind the last byte."""

    def behind(self, wire: Wire) -> None:
        """The last byte of a body with a length has come."""

    def enough(self, end: int | None) -> bool:
        return False

    def acceptable(self) -> dict[str, str]:
        return {**super().acceptable(), "Connection": "close"}

    def body(self, reply: Reply) -> Iterator[bytes]:
        if reply.length is None:
            yield from super().body(reply)
            return
        assert self.wire
        yield from self.exactly(self.wire, reply.length)
        self.behind(self.wire)
        self.close()
        reply.framed = True


class NoParts(Exception):
    """The object cannot be had in parts."""


class Split(Saboteur):
    """Fetches in four parts, each bound to the first answer by If-Match and placed at its own offset."""

    parts = 4

    def fetch(self) -> None:
        try:
            self.fetch_parts()
        except NoParts:
            self.close()
            self.restart()
            super().fetch()

    def fetch_parts(self) -> None:
        self.restart()
        self.pin = self.first_pin()
        total = self.pin.total
        step = -(-total // self.parts)
        self.file.truncate(total)
        for start, end in self.order([(at, min(at + step, total)) for at in range(0, total, step)]):
            self.part(start, end)
        self.held = total
        self.prove()

    def order(self, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return parts

    def first_pin(self) -> Pin:
        """What HEAD says, when it says enough."""
        try:
            reply = self.ask("HEAD", {})
        except (Broken, OSError):
            raise NoParts from None
        if reply.status != 200 or not reply.length or not self.strong(reply) or self.encoded(reply):
            raise NoParts
        return Pin(self.strong(reply), reply.length, reply.media, self.digests(reply))

    def part(self, start: int, end: int) -> None:
        """One range, continued where it broke."""
        failures = 0
        while start < end:
            try:
                for data in self.range(start, end):
                    self.write_at(start, data)
                    start, failures = start + len(data), 0
            except (Broken, OSError) as error:
                self.close()
                failures = self.part_failed(failures, error)

    def part_failed(self, failures: int, error: Exception) -> int:
        if failures + 1 >= self.attempts:
            raise Refused(f"a part does not arrive: {error}")
        self.pause(getattr(error, "after", 0.0))
        return failures + 1

    def range(self, start: int, end: int) -> Iterator[bytes]:
        reply = self.ask("GET", {"Range": f"bytes={start}-{end - 1}", **self.binding(self.pin)})
        if reply.status in BUSY:
            raise Broken(f"status {reply.status}", self.retry_after(reply))
        self.check_part(reply, start)
        yield from self.body(reply)

    def check_part(self, reply: Reply, start: int) -> None:
        try:
            if reply.status == 206 and self.on_206(reply, start):
                return
        except Broken:
            pass
        raise NoParts

    def binding(self, pin: Pin) -> dict[str, str]:
        return {"If-Match": pin.etag} if pin.etag else {}

    def write_at(self, start: int, data: bytes) -> None:
        self.file.seek(start)
        self.file.write(data)
        self.file.flush()

    def prove(self) -> None:
        """The digest of what lies in the file."""
        self.file.seek(0)
        while data := self.file.read(1 << 20):
            self.hash(data)
        if self.right() is False:
            raise NoParts


class TrustingSplit(Split):
    """Fetches in parts and proves nothing."""

    def prove(self) -> None:
        self.held = self.file.seek(0, 2)

    def verify(self) -> bool:
        return True
