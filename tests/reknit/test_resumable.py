"""Resumable uploads against the origin's own state machine, in memory: every fault at every request and byte.

`Wire` stands where the connections are. It hands each request to the origin's application, piece by piece as
the origin's process would, and breaks what it is told to break.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from midstream._wire import Head
from midstream.stores._origin_answer import Answer
from midstream.stores._origin_application import Application
from midstream.stores._origin_objects import Objects
from midstream.stores._origin_uploads import State
from reknit import Exhausted, Integrity, Options, Refused
from reknit._errors import StoreFault
from reknit._source import open_source
from reknit._upload import Run
from reknit.stores._http_ietf import Ietf
from reknit.stores._http_resumable import Resumable
from reknit.stores._http_tus import Tus
from reknit.stores._lines import Got, Lines
from reknit.stores.http import connect

HOST = "http://127.0.0.1"
URL = f"{HOST}/object"
UPLOADERS = {"ietf": Ietf, "tus": Tus, "tus-summed": Tus}
# With checksums, what a request brings counts as a whole or not at all.
GROWING, ALL = ("ietf", "tus"), tuple(UPLOADERS)


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    `drop`: it never arrives. `lost`: it is carried out, and its answer lost. `cut`: so many bytes of its
    content arrive, and then nothing. `keep`: as `cut`, and of what the upload had then the origin keeps so
    many bytes. `status`: it never arrives, and is answered so. `fields` go over those of the answer.
    """

    drop: bool = False
    lost: bool = False
    cut: int | None = None
    keep: int | None = None
    status: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)


DROP, LOST = Fault(drop=True), Fault(lost=True)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Wire:
    """The network, and the server at its end."""

    faults: Mapping[int, Fault] = field(default_factory=dict)  # by the number of the request, from 0
    always: Callable[[str, int], Fault | None] = lambda method, size: None  # by method and content size
    kill_at: int = -1
    summed: bool = False  # the origin's checksum extension is there to be used
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    content: int = 0  # bytes of content that were handed to it
    application: Application = field(default_factory=lambda: Application(Objects(), "/_control/secret"))

    def ask(
        self,
        method: str,
        url: str,
        ours: Mapping[str, str],
        private: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        hops: int = 0,
    ) -> Got:
        number = len(self.log)
        self.log.append((method, url, {**ours, **(private or {})}))
        if number == self.kill_at:
            raise Killed
        fault = self.faults.get(number) or self.always(method, body.size if body else 0) or Fault()
        if fault.drop:
            raise StoreFault("reset", "reset: dropped")
        if fault.status:
            return Got(fault.status, dict(fault.fields), b"")
        answer = self._carry_out(method, url, ours, b"".join(body.blocks()) if body else b"", fault)
        if fault.lost or answer is None:
            raise StoreFault("reset", "reset: no answer")
        fields = {name.lower(): value for name, value in answer.fields}
        if not self.summed and "tus-extension" in fields:
            fields["tus-extension"] = "creation,termination"
        return Got(answer.status, {**fields, **fault.fields}, answer.text)

    def _carry_out(
        self, method: str, url: str, ours: Mapping[str, str], data: bytes, fault: Fault
    ) -> Answer | None:
        self.content += len(data)
        head = Head(f"{method} {urlsplit(url).path} HTTP/1.1", list(ours.items()))
        found = self.application.intake(head, len(data))
        if isinstance(found, Answer):
            return None if fault.cut is not None else found
        found.take(data if fault.cut is None else data[: fault.cut])
        if fault.keep is not None:
            for upload in self.application.uploads.all():
                upload.shorten(min(fault.keep, upload.offset))
        if fault.cut is not None:
            return None
        answer = found.finish()
        assert isinstance(answer, Answer)
        if method == "HEAD" and answer.item:
            answer.fields.append(("Content-Length", str(answer.length)))
        return answer

    def close(self) -> None:
        pass

    def count(self, *methods: str) -> int:
        return sum(method in methods for method, _, _ in self.log)

    @property
    def created(self) -> int:
        return len(self.application.uploads.all())

    def read(self, key: str = "object") -> bytes | None:
        item = self.application.objects.get(key)
        return item.read(0, item.size) if item else None

    @property
    def made(self) -> int:
        return len(self.application.objects.made("object"))


@pytest.fixture(autouse=True)
def _records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of uploads under way: in a folder of the test, and thousands of times without waiting for the disk."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def options(**more: Any) -> Options:
    return Options(sleep=lambda seconds: None, roll=lambda: 0.5, **more)


def put(protocol: str, content: bytes | Path, wire: Wire, url: str = URL, **more: Any) -> str | None:
    """Upload; by what it is verified."""
    chosen = options(**more)
    wire.summed = protocol == "tus-summed"
    uploader: Resumable = UPLOADERS[protocol](connect(url, chosen), chosen, cast("Lines", wire))
    source = open_source(io.BytesIO(content) if isinstance(content, bytes) else content)
    try:
        return Run(uploader, source, url, chosen).run()
    finally:
        source.close()


def right(wire: Wire, content: bytes, faults: object) -> None:
    """The object is there, made once, and no second upload was begun but for a lost creation."""
    assert wire.read() == content, faults
    lost = sum(
        (fault == LOST or fault.cut is not None) and wire.log[number][0] in ("PUT", "POST")
        for number, fault in wire.faults.items()
        if number < len(wire.log)
    )
    assert wire.created == 1 + lost, faults
    assert wire.made == 1 if content else 1 <= wire.made <= 1 + lost, faults  # tus: empty is complete at once


def kinds(size: int) -> Iterator[Fault]:
    yield from (DROP, LOST, Fault(status=500), Fault(status=503, fields={"retry-after": "1"}))
    yield from (Fault(cut=k) for k in range(size + 1))
    yield from (Fault(cut=k, keep=j) for k in range(size + 1) for j in range(k))


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_undisturbed(protocol: str, size: int) -> None:
    """Without a fault: begun, sent in one request, and verified by the digest that the object shows."""
    wire, content = Wire(), bytes(range(size))
    assert put(protocol, content, wire) == "sha256 (repr-digest)"
    right(wire, content, None)
    assert wire.content == size
    patches = wire.count("PATCH")
    assert patches == (1 if size or protocol == "ietf" else 0)


def test_a_digest_that_is_known_goes_along() -> None:
    """RFC 9530 §3: the server makes no object of what was damaged on the way."""
    content = b"0123456789"
    expect = f"sha256:{hashlib.sha256(content).hexdigest()}"
    wire = Wire()
    put("ietf", content, wire, expect=expect)
    right(wire, content, None)

    class Damaging(Wire):
        def _carry_out(self, method: str, url: str, ours: Any, data: bytes, fault: Fault) -> Answer | None:
            return super()._carry_out(method, url, ours, data.replace(b"5", b"6"), fault)

    wire = Damaging()
    with pytest.raises(Refused, match="400"):
        put("ietf", content, wire, expect=expect)
    assert wire.read() is None


@pytest.mark.parametrize("protocol", ALL)
def test_what_a_killed_process_left_of_a_stream_is_removed(protocol: str) -> None:
    """P43: nobody can go on with it, for nothing tells that a later stream is the same; the next upload to
    that place removes it."""
    left = Wire(kill_at=2)
    with pytest.raises(Killed):
        put(protocol, b"first", left)
    assert [upload.state for upload in left.application.uploads.all()] == [State.OPEN]
    wire = Wire(application=left.application)
    put(protocol, b"second", wire)
    assert wire.read() == b"second"
    assert wire.count("DELETE") == 1
    assert State.OPEN not in [upload.state for upload in wire.application.uploads.all()]
    again = Wire()
    put(protocol, b"third", again)
    assert again.count("DELETE") == 0


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("size", [0, 1, 5])
def test_each_fault_at_each_request(protocol: str, size: int) -> None:
    """One fault of any kind, at any request and any byte, costs a resume and nothing of the object."""
    content = bytes(range(1, size + 1))
    for fault, number in itertools.product(kinds(size), range(8)):
        wire = Wire({number: fault})
        put(protocol, content, wire)
        right(wire, content, wire.faults)


@pytest.mark.parametrize("protocol", ALL)
def test_every_sequence_of_three(protocol: str) -> None:
    """Three faults, at whichever of the first ten requests, and the object is still the one that was sent."""
    content = b"abcdef"
    few = (LOST, Fault(status=503), Fault(cut=2), Fault(cut=3, keep=1))
    for numbers in itertools.combinations(range(10), 3):
        for faults in itertools.product(few, repeat=3):
            wire = Wire(dict(zip(numbers, faults, strict=True)))
            put(protocol, content, wire)
            right(wire, content, wire.faults)


@pytest.mark.parametrize("protocol", ALL)
def test_cut_at_every_byte_in_turn(protocol: str) -> None:
    """Cut after each single byte there is progress, so it never gives up; no byte is sent that is there."""
    content = bytes(range(1, 30))
    wire = Wire(always=lambda _, size: Fault(cut=min(1, size - 1)) if size > 1 else None)
    put(protocol, content, wire)
    assert wire.read() == content
    assert wire.created == 1
    offsets = [int(f["Upload-Offset"]) for method, _, f in wire.log if method == "PATCH"]
    if protocol in GROWING:
        assert offsets == list(range(29))
    else:
        assert offsets == sorted(offsets)


@pytest.mark.parametrize("protocol", ALL)
def test_a_query_that_fails_is_asked_again(protocol: str) -> None:
    """P47: while the offset cannot be had, nothing is begun and nothing is sent; then it gives up, and leaves
    what the store has for a later call."""
    content = b"0123456789"
    head = Fault(status=500)
    wire = Wire(always=lambda method, _: {"PATCH": Fault(cut=4), "HEAD": head}.get(method))
    with pytest.raises(Exhausted, match="500"):
        put(protocol, content, wire)
    assert (wire.created, wire.count("PATCH"), wire.count("HEAD")) == (1, 1, 7)
    for number in range(7):
        answers = iter([Fault(cut=4)])
        heads = iter([head] * min(number, 6))
        wire = Wire(
            always=lambda m, _, a=answers, h=heads: next({"PATCH": a, "HEAD": h}.get(m, iter(())), None)
        )
        put(protocol, content, wire)
        right(wire, content, number)


@pytest.mark.parametrize("protocol", GROWING)
@pytest.mark.parametrize("claim", [1, 10, 11])
def test_more_than_was_sent_is_fatal(protocol: str, claim: int) -> None:
    """A server that claims bytes nobody sent has something else: nothing is skipped to please it, and the
    upload is removed."""
    faults = {"PATCH": DROP, "HEAD": Fault(fields={"upload-offset": str(claim)})}
    wire = Wire(always=lambda method, size: faults.get(method))
    with pytest.raises(Integrity, match=f"claims {claim} bytes where 0 were sent"):
        put(protocol, b"0123456789", wire)
    assert wire.read() is None
    assert (wire.count("PATCH"), wire.count("DELETE")) == (1, 1)
    assert [upload.state for upload in wire.application.uploads.all()] == ["gone"]


def test_complete_too_early_is_fatal() -> None:
    """An upload that is called complete before all was sent is none of ours."""
    said = {"PATCH": DROP, "HEAD": Fault(fields={"upload-complete": "?1"})}
    with pytest.raises(Integrity, match="claims 10 bytes"):
        put("ietf", b"0123456789", Wire(always=lambda method, size: said.get(method)))


@pytest.mark.parametrize("protocol", GROWING)
def test_fewer_than_were_acknowledged(protocol: str) -> None:
    """A server that lost bytes it had acknowledged gets them again, but not for ever."""
    content = b"0123456789"

    def losing(times: int) -> Wire:
        wire = Wire()
        left = iter(range(times))

        def fault(method: str, size: int) -> Fault | None:
            # The first request brings six bytes, of which every later look finds fewer.
            if method == "PATCH":
                return Fault(cut=6) if wire.count("PATCH") == 1 else DROP if wire.count("PATCH") < 5 else None
            if method == "HEAD" and wire.count("HEAD") > 1 and next(left, None) is not None:
                (upload,) = wire.application.uploads.all()
                upload.shorten(max(0, upload.offset - 2))
            return None

        wire.always = fault
        return wire

    wire = losing(2)
    put(protocol, content, wire)
    right(wire, content, None)
    with pytest.raises(Exhausted, match="went back to byte 0, from 2"):
        put(protocol, content, losing(3))


@pytest.mark.parametrize("protocol", GROWING)
def test_an_offset_that_is_not_the_one(protocol: str) -> None:
    """409 is answered by a look, and goes on where the server says (B144)."""
    content, wire = b"0123456789", Wire()
    other = iter([b"0123"])

    def fault(method: str, size: int) -> Fault | None:
        # Bytes of an earlier request, which we had given up, arrive before ours.
        if method == "PATCH" and (late := next(other, None)):
            (upload,) = wire.application.uploads.all()
            upload.append(upload.take_over(), late)
        return None

    wire.always = fault
    put(protocol, content, wire)
    right(wire, content, None)
    assert [m for m, _, _ in wire.log].count("HEAD") >= 2
    assert [f["Upload-Offset"] for m, _, f in wire.log if m == "PATCH"] == ["0", "4"]


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_is_gone(protocol: str, status: int) -> None:
    """Only a server that says that there is no such upload makes us begin another one, and not for ever."""
    content = b"0123456789"
    wire = Wire(always=lambda method, size: Fault(cut=3) if method == "PATCH" else None)
    gone = iter([Fault(status=status)])

    def fault(method: str, size: int) -> Fault | None:
        if method == "PATCH" and wire.count("PATCH") == 1:
            return Fault(cut=3)
        return next(gone, None) if method == "HEAD" else None

    wire.always = fault
    put(protocol, content, wire)
    assert (wire.read(), wire.created) == (content, 2)
    always = Wire(
        always=lambda method, size: {"PATCH": Fault(cut=3), "HEAD": Fault(status=status)}.get(method)
    )
    with pytest.raises(Exhausted, match="vanished"):
        put(protocol, content, always)
    assert always.created == 3


@pytest.mark.parametrize("protocol", ALL)
def test_a_final_answer_is_final(protocol: str) -> None:
    """What no further request can mend is told at once, and the upload is removed."""
    for method, status in (("PATCH", 400), ("PATCH", 415), ("HEAD", 400), ("OPTIONS", 400)):
        wire = Wire(
            always=lambda m, size, method=method, status=status: (
                Fault(status=status) if m == method else Fault(cut=1) if m == "PATCH" else None
            )
        )
        if protocol != "ietf" and method == "OPTIONS":
            continue  # it need not be answered there
        with pytest.raises(Refused, match=str(status)):
            put(protocol, b"0123", wire)
        assert wire.count(method) == 1
        assert wire.count("DELETE") == wire.created
        assert wire.read() is None


def test_not_made_of_all_its_bytes() -> None:
    """An error that comes with Upload-Complete is the end, also one that is usually temporary."""
    wire = Wire(always=lambda m, size: Fault(fields={}, status=500) if m == "PATCH" else None)
    wire.always = lambda m, size: (
        Fault(status=500, fields={"upload-complete": "?1"}) if m == "PATCH" else None
    )
    with pytest.raises(Refused, match="took all of it, and answered status 500"):
        put("ietf", b"0123", wire)
    assert wire.count("PATCH") == 1


@pytest.mark.parametrize("protocol", ALL)
def test_the_object_is_looked_at(protocol: str) -> None:
    """An object that is not what was sent is not reported as stored: its digest, its size, its absence."""
    for fields in (
        {"repr-digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"},
        {"content-length": "3"},
    ):
        wire = Wire()
        wire.always = lambda m, size, f=fields, w=wire: (
            Fault(fields=f) if m == "HEAD" and w.log[-1][1] == URL else None
        )
        with pytest.raises(Integrity):
            put(protocol, b"0123", wire)
    wire = Wire()
    wire.always = lambda m, size: Fault(status=404) if m == "HEAD" and wire.log[-1][1] == URL else None
    with pytest.raises(Integrity, match="shows none"):
        put(protocol, b"0123", wire)


def test_limits_of_the_ietf() -> None:
    """Requests are no larger than Upload-Limit allows; an object that is, is refused before it is sent."""
    wire = Wire()
    wire.application.uploads.limit("object", {"max-size": 20, "max-append-size": 4})
    put("ietf", b"0123456789", wire)
    right(wire, b"0123456789", None)
    sent = [(f["Upload-Offset"], f["Upload-Complete"]) for m, _, f in wire.log if m == "PATCH"]
    assert sent == [("0", "?0"), ("4", "?0"), ("8", "?1")]
    wire = Wire()
    wire.application.uploads.limit("object", {"max-size": 9})
    with pytest.raises(Refused, match="413"):
        put("ietf", b"0123456789", wire)
    assert (wire.created, wire.content) == (0, 0)
    wire = Wire(always=lambda m, size: Fault(fields={"upload-limit": "max-size=9"}) if m == "PUT" else None)
    with pytest.raises(Refused, match="no more than 9 bytes"):
        put("ietf", b"0123456789", wire)
    assert [upload.state for upload in wire.application.uploads.all()] == ["gone"]


def test_a_limit_that_is_learned_late() -> None:
    """A 413 that names what one request may carry is heeded."""
    limited = Fault(status=413, fields={"upload-limit": "max-append-size=3"})
    wire = Wire(always=lambda m, size: limited if m == "PATCH" and size > 3 else None)
    put("ietf", b"0123456789", wire)
    right(wire, b"0123456789", None)
    assert wire.content == 10


def test_a_server_without_the_draft() -> None:
    """The creation of an upload would be an empty PUT there, over the object that is there now."""
    wire = Wire(always=lambda m, size: Fault(fields={"accept-patch": ""}) if m == "OPTIONS" else None)
    put("tus", b"old", wire)
    with pytest.raises(Refused, match="no resumable uploads"):
        put("ietf", b"0123", wire)
    assert wire.read() == b"old"
    assert wire.count("PUT") == 0


def test_checksums_of_tus() -> None:
    """Every piece carries its SHA-1; one that arrives damaged is refused, and sent again from there."""
    content, wire = bytes(range(100)), Wire()
    put("tus-summed", content, wire)
    sums = [f["Upload-Checksum"] for m, _, f in wire.log if m == "PATCH"]
    assert sums == ["sha1 " + base64.b64encode(hashlib.sha1(content).digest()).decode()]
    wire = Wire()
    spoilt = iter([Fault(status=460)] * 2)
    wire.always = lambda m, size: next(spoilt, None) if m == "PATCH" else None
    put("tus-summed", content, wire)
    right(wire, content, None)
    plain = Wire(always=lambda m, size: Fault(status=404) if m == "OPTIONS" else None)
    put("tus-summed", content, plain)
    right(plain, content, None)
    assert not any("Upload-Checksum" in f for _, _, f in plain.log)


def test_a_collection_of_tus() -> None:
    """Where uploads are made at a URL with a slash, the object is what the upload has become."""
    wire = Wire()
    assert put("tus", b"0123", wire, f"{HOST}/files/", store={"filename": "näme"}) is None
    assert wire.read("files/näme") == b"0123"
    assert [m for m, _, _ in wire.log] == ["OPTIONS", "POST", "PATCH", "HEAD"]
    wire = Wire()
    put("tus", b"0123", wire, f"{HOST}/files/")
    (upload,) = wire.application.uploads.all()
    assert wire.read(f"files/{upload.id}") == b"0123"


@pytest.mark.parametrize("protocol", ALL)
def test_credentials_stay_on_their_host(protocol: str) -> None:
    """An upload whose URL is on another host is sent there without the caller's headers."""
    elsewhere = "http://127.0.0.2/_uploads/"
    wire = Wire()

    def fault(method: str, size: int) -> Fault | None:
        if method in ("PUT", "POST"):
            return Fault(fields={"location": elsewhere + "x"})
        return DROP if wire.log[-1][1].startswith(elsewhere) else None

    wire.always = fault
    with pytest.raises(Exhausted):
        put(protocol, b"0123", wire, headers={"Authorization": "secret"})
    there = [fields for _, url, fields in wire.log if url.startswith(elsewhere)]
    here = [fields for _, url, fields in wire.log if not url.startswith(elsewhere)]
    assert there
    assert not any("Authorization" in fields for fields in there)
    assert all(fields["Authorization"] == "secret" for fields in here)


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("place", ["", "ftp://127.0.0.1/x"])
def test_an_upload_without_a_url(protocol: str, place: str) -> None:
    """A creation that names nothing to go on with is refused."""
    made = Fault(fields={"location": place})
    wire = Wire(always=lambda m, size: made if m in ("PUT", "POST") else None)
    with pytest.raises(Refused, match="names no upload"):
        put(protocol, b"0123", wire)


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("size", [0, 6])
def test_killed_at_each_request(protocol: str, size: int, tmp_path: Path) -> None:
    """A process that dies at any request is gone on for by the next: one upload, and no byte sent twice that
    the server had."""
    content = bytes(range(size))
    source = tmp_path / "source"
    source.write_bytes(content)
    for first, second in itertools.product(range(9), range(9)):
        journal = tmp_path / f"{first}-{second}"
        wire = Wire(always=lambda m, s: Fault(cut=2) if m == "PATCH" and s > 2 else None)
        for kill in (first, second, -1):
            wire.kill_at = len(wire.log) + kill if kill >= 0 else -1
            try:
                put(protocol, source, wire, journal=journal)
            except Killed:
                continue
            break
        assert wire.read() == content
        # The answer to a creation may have been lost with the process; a finished upload is not resumed.
        assert wire.created <= 3
        offsets = [int(f["Upload-Offset"]) for m, _, f in wire.log if m == "PATCH"]
        assert offsets or not size
        assert list(journal.iterdir()) == []


@pytest.mark.parametrize("protocol", ALL)
def test_resumed_by_another_process(protocol: str, tmp_path: Path) -> None:
    """What one process left, the next continues from the server's offset; another source begins anew."""
    source, journal = tmp_path / "source", tmp_path / "journal"
    source.write_bytes(b"0123456789")
    wire = Wire(always=lambda m, size: {"PATCH": Fault(cut=4), "HEAD": DROP}.get(m))
    with pytest.raises(Exhausted):
        put(protocol, source, wire, journal=journal, keep=True)
    (upload,) = wire.application.uploads.all()
    had = upload.offset
    wire.always, wire.content = (lambda m, size: None), 0
    put(protocol, source, wire, journal=journal, keep=True)
    assert wire.read() == b"0123456789"
    assert (wire.created, wire.content) == (1, 10 - had)

    wire = Wire(always=lambda m, size: {"PATCH": Fault(cut=4), "HEAD": DROP}.get(m))
    with pytest.raises(Exhausted):
        put(protocol, source, wire, journal=journal, keep=True)
    source.write_bytes(b"9876543210")
    wire.always = lambda m, size: None
    put(protocol, source, wire, journal=journal, keep=True)
    assert wire.read() == b"9876543210"
    assert [one.state for one in wire.application.uploads.all()] == ["gone", "complete"]
