"""Every schedule of a few faults against a model server, in memory: exact bytes of one version, or a named
error.

The versions differ in every byte, so a splice of two, a hole, a shift or a foreign byte cannot pass.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from dataclasses import dataclass, replace

import pytest

from reknit import Changed, Exhausted, Integrity, Options, Refused
from reknit._ranges import WHOLE, Slice
from reknit._representation import Dialect
from reknit.testing import Reply, ScriptedStore, StoreFault, fetch, read_stream

OPTIONS = Options(attempts=6, roll=lambda: 0.5)


def version(number: int, size: int) -> bytes:
    """Version `number`: no byte at any position is shared by two versions, nor by two positions of one."""
    return bytes((number * 64 + i) % 256 for i in range(size))


@dataclass(frozen=True)
class Profile:
    """How the model server behaves when nothing goes wrong."""

    validator: str = "strong"  # strong, weak, date, none
    ranges: bool = True
    condition: str = "If-Range"
    obeys: bool = True  # evaluates the condition
    framing: str = "length"  # length, chunked, close
    head: bool = True
    digest: bool = False


class Model:
    """Serves one object; each GET uses up one fault of the schedule, and an empty schedule is an honest
    server.
    """

    def __init__(
        self, profile: Profile, size: int, faults: tuple[str, ...], bytewise: bool, part: Slice = WHOLE
    ) -> None:
        self.profile, self.size, self.faults, self.bytewise = profile, size, list(faults), bytewise
        self.part, self.last, self.ranged = part, None, False
        self.number, self.seen, self.sent = 0, [(0, size)], 0
        self.pinned_ok = True
        self.store = ScriptedStore(
            self.answer,
            dialect=Dialect(profile.condition),
            renewals=[fault != "401-no" for fault in faults if fault.startswith("401")],
        )

    @property
    def data(self) -> bytes:
        return version(self.number, self.size)

    @property
    def end(self) -> int:
        """Where the answer to the request at hand ends."""
        return self.size if self.last is None else min(self.size, self.last + 1)

    def change(self, size: int) -> None:
        self.number, self.size = self.number + 1, size
        self.seen.append((self.number, size))

    def head(self) -> dict[str, str]:
        headers = {"content-type": "application/octet-stream"}
        tag = f'"v{self.number}"'
        if self.profile.validator == "strong":
            headers["etag"] = tag
        elif self.profile.validator == "weak":
            headers["etag"] = "W/" + tag
        elif self.profile.validator == "date":
            headers["last-modified"] = f"Mon, 01 Jan 2024 00:00:0{self.number} GMT"
        if self.profile.digest:
            sha = base64.b64encode(hashlib.sha256(self.data).digest()).decode()
            headers["repr-digest"] = f"sha-256=:{sha}:"
        return headers

    def chunks(self, data: bytes) -> list[bytes]:
        self.sent += len(data)
        return [data[i : i + 1] for i in range(len(data))] if self.bytewise else [data] * bool(data)

    def honest(self, first: int, etag: str | None, *, ranged: bool = True) -> Reply:
        """What a correct server answers."""
        headers = self.head()
        if self.ranged and ranged and self.profile.ranges:
            if etag not in (None, headers.get("etag")) and self.profile.obeys:
                return Reply(412) if self.profile.condition == "If-Match" else self.honest(0, None)
            if first >= self.size:
                return Reply(416, {"content-range": f"bytes */{self.size}"})
            headers["content-range"] = f"bytes {first}-{self.end - 1}/{self.size}"
            headers["content-length"] = str(self.end - first)
            return Reply(206, headers, self.chunks(self.data[first : self.end]))
        if self.profile.framing == "length":
            headers["content-length"] = str(self.size)
        elif self.profile.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        return Reply(200, headers, self.chunks(self.data))

    def answer(self, method: str, first: int, last: int | None, etag: str | None) -> Reply | StoreFault:
        self.last, self.ranged = last, first > 0 or last is not None
        if method == "HEAD":
            return (
                Reply(200, {**self.head(), "content-length": str(self.size)})
                if self.profile.head
                else Reply(405)
            )
        if self.profile.validator == "strong" and first > self.part.first and etag is None:
            self.pinned_ok = False
        fault = self.faults.pop(0) if self.faults else "ok"
        name, _, at = fault.partition("@")
        return getattr(self, "do_" + name.replace("-", "_"))(first, etag, int(at or 0))

    # -- faults: each takes what was asked, and a position -------------------------------------------------

    def do_ok(self, first, etag, at):
        return self.honest(first, etag)

    def do_connect(self, first, etag, at):
        return StoreFault("connect", "refused")

    def _cut(self, first, etag, at, kind):
        reply = self.honest(first, etag)
        body = b"".join(reply.body)
        self.sent -= len(body)
        reply.body = self.chunks(body[:at])
        cut_short = at < len(body) or kind != "short"
        if cut_short and not (
            kind == "short" and "content-length" not in reply.headers and self.closes(reply)
        ):
            reply.fault = StoreFault(kind, kind)
        return reply

    @staticmethod
    def closes(reply: Reply) -> bool:
        return "transfer-encoding" not in reply.headers and "content-length" not in reply.headers

    def do_fin(self, first, etag, at):
        return self._cut(first, etag, at, "short")

    def do_rst(self, first, etag, at):
        return self._cut(first, etag, at, "reset")

    def do_stall(self, first, etag, at):
        return self._cut(first, etag, at, "timeout")

    def do_rst_after(self, first, etag, at):
        return self._cut(first, etag, 10**6, "reset")

    def do_full(self, first, etag, at):
        return self.honest(first, etag, ranged=False)

    def do_full_cut(self, first, etag, at):
        reply = self.honest(first, etag, ranged=False)
        reply.body, reply.fault = reply.body[: max(1, at)], StoreFault("reset", "cut in the prefix")
        return reply

    def do_replaced(self, first, etag, at):
        self.change(self.size)
        return self.honest(first, etag)

    def do_shrunk(self, first, etag, at):
        self.change(max(0, self.size - 1))
        return self.honest(first, etag)

    def do_grown(self, first, etag, at):
        self.change(self.size + 2)
        return self.honest(first, etag)

    def _partial(self, first, start, **changes):
        """A 206 that starts at `start`; changes: headers to set, None to remove."""
        data = self.data[start : self.end]
        headers = {
            **self.head(),
            "content-range": f"bytes {start}-{self.end - 1}/{self.size}",
            "content-length": str(len(data)),
        }
        for name, value in changes.items():
            headers[name.replace("_", "-")] = value
        return Reply(206, {k: v for k, v in headers.items() if v is not None}, self.chunks(data))

    def do_from_zero(self, first, etag, at):
        return self._partial(first, 0)

    def do_earlier(self, first, etag, at):
        return self._partial(first, max(0, first - 1))

    def do_later(self, first, etag, at):
        return self._partial(first, min(self.size - 1, first + 1) if self.size else 0)

    def do_half(self, first, etag, at):
        if not self.ranged or first >= self.size or not self.profile.ranges:
            return self.honest(first, etag)
        end = first + max(1, (self.end - first) // 2)
        data = self.data[first:end]
        headers = {
            **self.head(),
            "content-range": f"bytes {first}-{end - 1}/{self.size}",
            "content-length": str(end - first),
        }
        return Reply(206, headers, self.chunks(data))

    def do_no_range_header(self, first, etag, at):
        return self._partial(first, first, content_range=None)

    def do_half_no_range_header(self, first, etag, at):
        reply = self._partial(first, first, content_range=None)
        reply.body = reply.body[: (len(reply.body) + 1) // 2]
        return reply

    def do_star_total(self, first, etag, at):
        return self._partial(first, first, content_range=f"bytes {first}-{max(first, self.end - 1)}/*")

    def do_wrong_total(self, first, etag, at):
        return self._partial(
            first, first, content_range=f"bytes {first}-{max(first, self.end - 1)}/{self.size + 5}"
        )

    def do_junk_range(self, first, etag, at):
        return self._partial(first, first, content_range="bytes=1-2")

    def do_other_unit(self, first, etag, at):
        return self._partial(first, first, content_range=f"lines {first}-{self.end - 1}/{self.size}")

    def do_multipart(self, first, etag, at):
        return self._partial(
            first, first, content_range=None, content_type="multipart/byteranges; boundary=x"
        )

    def do_length_lies(self, first, etag, at):
        return self._partial(first, first, content_length=str(self.size + 1))

    def do_surplus(self, first, etag, at):
        reply = self._partial(first, first, content_length=None, transfer_encoding="chunked")
        reply.body.append(b"\xff\xff\xff")
        return reply

    def do_other_tag(self, first, etag, at):
        return self._partial(first, first, etag='"other"')

    def do_no_tag(self, first, etag, at):
        return self._partial(first, first, etag=None, last_modified=None)

    def do_spliced(self, first, etag, at):
        """Replaced, and the server ignores the condition: a 206 of the new version."""
        self.change(self.size)
        return self._partial(first, min(first, max(0, self.size - 1)))

    def do_range_in_200(self, first, etag, at):
        reply = self._partial(first, first)
        reply.status = 200
        return reply

    def do_416_true(self, first, etag, at):
        return Reply(416, {"content-range": f"bytes */{self.size}"})

    def do_416_bare(self, first, etag, at):
        return Reply(416)

    def do_416_at(self, first, etag, at):
        return Reply(416, {"content-range": f"bytes */{first}"})

    def do_416_wrong(self, first, etag, at):
        return Reply(416, {"content-range": f"bytes */{self.size + 7}"})

    def do_412(self, first, etag, at):
        return Reply(412)

    def do_503(self, first, etag, at):
        return Reply(503, {"retry-after": "1"}, [b"<h1>busy</h1>"])

    def do_408(self, first, etag, at):
        return Reply(408, {}, [b"slow"])

    def do_429(self, first, etag, at):
        return Reply(429)

    def do_401_yes(self, first, etag, at):
        return Reply(401)

    def do_401_no(self, first, etag, at):
        return Reply(401)

    def do_404(self, first, etag, at):
        return Reply(404, {}, [b"gone"])

    def do_409(self, first, etag, at):
        return Reply(409)

    def do_302(self, first, etag, at):
        return Reply(302, {"location": "ftp://elsewhere/"})

    def do_html(self, first, etag, at):
        body = b"<html>" * 3
        return Reply(200, {"content-type": "text/html", "content-length": str(len(body))}, [body])

    def do_gzip(self, first, etag, at):
        return Reply(
            200, {**self.head(), "content-encoding": "gzip", "content-length": "4"}, [b"\x1f\x8b\x08\x00"]
        )

    def do_gzip_part(self, first, etag, at):
        return self._partial(first, first, content_encoding="gzip")


CUTS = ("fin", "rst", "stall")
# fmt: off
HARMLESS = [
    "connect", "rst-after", "full", "half", "no-range-header", "half-no-range-header", "star-total",
    "wrong-total", "junk-range", "other-unit", "multipart", "length-lies", "from-zero", "earlier",
    "later", "range-in-200", "416-true", "416-bare", "416-at", "416-wrong", "503", "408", "429",
    "401-yes", "no-tag", "surplus", "gzip-part", "full-cut@1",
]
# fmt: on
CHANGES = ["replaced", "shrunk", "grown", "spliced", "412", "other-tag"]
FINAL = {"401-no", "404", "409", "302"}
# A stream cannot start over, and nobody has named a total to hold these against.
STREAMS_FEAR = {*CHANGES, "416-wrong", "416-at", "416-true", "wrong-total"}
# Before anything is known of the object, no client can tell these from the object or from a final answer.
BLIND = {"html", "gzip", "gzip-part", "412", "416-true", "416-bare", "416-at", "416-wrong", "range-in-200"}


def vocabulary(size: int, *, cuts_at: list[int] | None = None) -> list[str]:
    """Every fault there is, cuts at every byte."""
    positions = range(size + 1) if cuts_at is None else cuts_at
    cuts = [f"{cut}@{k}" for cut in CUTS for k in positions]
    return [*cuts, *HARMLESS, *CHANGES, *sorted(FINAL), "html", "gzip"]


PROFILES = {
    "strong": Profile(),
    "if-match": Profile(condition="If-Match"),
    "disobedient": Profile(obeys=False),
    "no-ranges": Profile(ranges=False),
    "chunked": Profile(framing="chunked"),
    "chunked-no-head": Profile(framing="chunked", head=False),
    "close": Profile(framing="close"),
    "close-no-head": Profile(framing="close", head=False),
    "weak": Profile(validator="weak"),
    "weak-digest": Profile(validator="weak", digest=True),
    "date": Profile(validator="date"),
    "none": Profile(validator="none"),
    "none-digest": Profile(validator="none", digest=True),
    "strong-digest": Profile(digest=True, condition="If-Match"),
    "chunked-none": Profile(framing="chunked", validator="none"),
    "close-none-digest": Profile(framing="close", validator="none", digest=True, head=False),
}


def must_complete(profile: Profile, size: int, faults: tuple[str, ...]) -> bool:
    """Whether a correct client that can rewind has no excuse."""
    if profile.framing == "close" and not profile.head and not profile.digest:
        return False
    names = [fault.partition("@")[0] for fault in faults]
    if FINAL & set(names) or sum(name in CHANGES or name.startswith("416") for name in names) > 2:
        return False
    if names.count("401-yes") > 1:
        return False  # new credentials that are refused at once are as good as none
    # An answer that comes when nothing is held is a first answer, whichever its number.
    return names[0] not in CHANGES and not BLIND & set(names)


def check(profile: Profile, size: int, faults: tuple[str, ...], bytewise: bool = False) -> None:
    model = Model(profile, size, faults, bytewise)
    result = fetch(model.store, OPTIONS)
    told = f"{profile} size={size} faults={faults} bytewise={bytewise}: {result.error!r}\n" + "\n".join(
        model.store.asked
    )
    whole = [version(number, length) for number, length in model.seen]
    if result.error is None:
        accepted = [*whole, b"<html>" * 3] if faults[:1] == ("html",) or first_is_blind(faults) else whole
        assert result.data in accepted, told
        assert result.report.bytes == len(result.data), told
    else:
        assert isinstance(result.error, (Exhausted, Changed, Integrity, Refused)), told
        assert not must_complete(profile, size, faults), told
    if profile.framing != "close" or profile.head or profile.digest:
        assert len(model.store.asked) <= 3 * len(faults) + 2, told
    assert model.pinned_ok, f"a range without its condition\n{told}"
    names = {fault.partition("@")[0] for fault in faults}
    if (
        profile.validator == "strong"
        and profile.ranges
        and names <= set(CUTS)
        and profile.framing == "length"
    ):
        assert model.sent == size, f"bytes fetched twice\n{told}"
        assert result.report.bytes_refetched == 0, told


def check_slice(profile: Profile, size: int, part: Slice, faults: tuple[str, ...]) -> None:
    """The bytes of the slice of one version, or a named error; beyond the end of one version, Refused."""
    for run in (fetch, read_stream):
        model = Model(profile, size, faults, bytewise=False, part=part)
        result = run(model.store, OPTIONS, part=part)
        told = (
            f"{run.__name__} {profile} size={size} {part} faults={faults}: {result.error!r} {result.data!r}\n"
        )
        told += "\n".join(model.store.asked)
        seen = [version(number, length) for number, length in model.seen]
        seen += [b"<html>" * 3] * ("html" in faults)
        wanted = [one[part.first :][: part.length] for one in seen if part.first < max(len(one), 1)]
        names = {fault.partition("@")[0] for fault in faults}
        beyond = any(part.first >= length > -part.first for _, length in model.seen)
        if part.length == 0:
            assert (result.data, result.error, model.store.asked) == (b"", None, []), told
        elif result.error is None:
            assert result.data in wanted, told
            assert result.report.bytes == len(result.data), told
            assert not result.report.verified or (result.data == model.data and profile.digest), told
        else:
            assert isinstance(result.error, (Exhausted, Changed, Integrity, Refused)), told
            hopeless = run is read_stream and (profile.validator != "strong" or names & STREAMS_FEAR)
            # A lie about the total is believed while nobody has named another; and a digest of the whole is
            # of no use before it is known that the slice is the whole.
            excused = "wrong-total" in names or not must_complete(
                replace(profile, digest=False), size, faults
            )
            assert beyond or hopeless or excused, told
            if profile.validator == "strong" or not (profile.digest and part.first == 0):
                assert any(one.startswith(result.data) for one in wanted) or not result.data, told
        if beyond and part.length != 0 and names <= {"ok"}:
            assert isinstance(result.error, (Refused, Exhausted)), told
        assert model.pinned_ok, told
        assert all(line == "GET" or inside(line, part) for line in model.store.asked if line[:3] == "GET"), (
            told
        )
        whole_cut = names <= set(CUTS) and profile.validator == "strong" and profile.framing == "length"
        if whole_cut and profile.ranges and not beyond:
            assert model.sent == len(result.data), f"bytes fetched twice\n{told}"


def inside(line: str, part: Slice) -> bool:
    """Whether a request of the transcript asks for nothing outside the slice."""
    first, _, last = line.split()[1].partition("-")
    return int(first) >= part.first and last == ("" if part.last is None else str(part.last))


@pytest.mark.parametrize("name", PROFILES)
def test_every_slice_under_one_fault(name: str) -> None:
    """P16: all slices of all small objects, each fault on the first answer; and on the resume after a cut."""
    for size in range(7):
        lengths = [None, *range(size + 2)]
        for part in itertools.starmap(Slice, itertools.product(range(size + 2), lengths)):
            check_slice(PROFILES[name], size, part, ("ok",))
            for fault in vocabulary(size, cuts_at=[1] if size > 3 else None):
                check_slice(PROFILES[name], size, part, (fault,))
                if size == 3:
                    check_slice(PROFILES[name], size, part, ("rst@1", fault))


def first_is_blind(faults: tuple[str, ...]) -> bool:
    """Whether an error page may be the first 200 anybody sees."""
    return "html" in faults


def check_stream(profile: Profile, size: int, faults: tuple[str, ...]) -> None:
    model = Model(profile, size, faults, bytewise=False)
    result = read_stream(model.store, OPTIONS, size=2)
    told = f"stream {profile} size={size} faults={faults}: {result.error!r} {result.data!r}\n" + "\n".join(
        model.store.asked
    )
    whole = [version(number, length) for number, length in model.seen]
    if "html" in faults:
        whole.append(b"<html>" * 3)
    if result.error is None:
        assert result.data in whole, told
    elif profile.validator == "strong" or not profile.digest:
        # Without a strong tag but with a digest, bytes are joined on trust and the digest speaks at the end.
        assert any(one.startswith(result.data) for one in whole), told
    hopeless = set(CHANGES) | {"416-wrong", "416-at", "416-true"}
    if profile.framing != "length":
        hopeless |= {
            "wrong-total",
            "shrunk",
        }  # nobody else has named the total yet, and a stream cannot start over
    changes = {fault.partition("@")[0] for fault in faults} & hopeless
    if profile.validator == "strong" and must_complete(profile, size, faults) and not changes:
        assert result.error is None, told


@pytest.mark.parametrize("name", PROFILES)
def test_one_fault_at_every_byte(name: str) -> None:
    """One fault of each kind, on the first answer and on the resume, at every byte, in whole and
    single-byte reads.
    """
    for size in range(7):
        for fault in vocabulary(size):
            for faults in ((fault,), (f"rst@{size // 2}", fault), (f"fin@{max(0, size - 1)}", fault)):
                for bytewise in (False, True):
                    check(PROFILES[name], size, faults, bytewise)
                check_stream(PROFILES[name], size, faults)


@pytest.mark.parametrize("size", [8, 9, 12])
def test_larger_objects_cut_at_every_byte_twice(size: int) -> None:
    """Two cuts at every pair of bytes re-fetch nothing, however the network slices the body."""
    for first, second in itertools.product(range(size + 1), repeat=2):
        for kind in CUTS:
            check(PROFILES["strong"], size, (f"{kind}@{first}", f"rst@{second}"), bytewise=bool(first % 2))


@pytest.mark.parametrize("name", PROFILES)
def test_two_faults_in_every_order(name: str) -> None:
    """Every pair of faults after a cut that leaves something, or everything but the end, in the sink."""
    words = vocabulary(3, cuts_at=[0, 1])
    for pair in itertools.product(words, repeat=2):
        for first in ("rst@1", "rst-after"):
            check(PROFILES[name], 3, (first, *pair))
            check_stream(PROFILES[name], 3, (first, *pair))


@pytest.mark.parametrize("seed", range(4))
def test_many_faults_by_seed(seed: int) -> None:
    """Up to five faults of any kind against any profile, drawn by a seed."""
    rng = random.Random(seed)
    for _ in range(4000):
        size = rng.randrange(6)
        faults = tuple(rng.choices(vocabulary(size), k=rng.randrange(1, 6)))
        profile = rng.choice(list(PROFILES.values()))
        check(profile, size, faults, bytewise=rng.random() < 0.5)
        check_stream(profile, size, faults)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("fault", [word for word in vocabulary(2) if not word.startswith("grown")])
def test_a_fault_that_never_ends_ends(name: str, fault: str) -> None:
    """The same fault on every answer: a bounded number of requests, and still nothing but one version's
    bytes.
    """
    profile = PROFILES[name]
    for faults in ((fault,) * 60, ("rst@1", *(fault,) * 60), ("rst@1", *(fault, "503") * 30)):
        model = Model(replace(profile), 3, faults, bytewise=False)
        result = fetch(model.store, OPTIONS)
        whole = [version(number, length) for number, length in model.seen]
        if result.error is None:
            assert result.data in [*whole, b"<html>" * 3], (faults[:2], model.store.asked)
        assert len(model.store.asked) <= 40, (faults[:2], model.store.asked)


def test_every_slicing_of_a_small_body() -> None:
    """All ways to slice six bytes give the same object and the same requests."""
    body = version(0, 6)
    for mask in range(32):
        cuts = [0, *(i + 1 for i in range(5) if mask >> i & 1), 6]
        slices = [body[a:b] for a, b in itertools.pairwise(cuts)]
        reply = Reply(200, {"content-length": "6", "etag": '"a"'}, slices)
        store = ScriptedStore([reply])
        assert fetch(store).data == body
        assert store.asked == ["GET"]
