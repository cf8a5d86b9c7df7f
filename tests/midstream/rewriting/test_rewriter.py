"""The rewriter alone: each fault on each framing and status, whole, byte by byte and split, to the byte."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from midstream._content import Content
from midstream._positions import Position
from midstream._rewriting import CHUNK, Rewriter, Wanted
from midstream._schedule import Rule
from midstream._verbs import Context, Rewrite
from midstream.testing.injectors import Layout, layout
from midstream.testing.wire import split

BASE = 5000
OBJECT = "/{}?size=1000"  # a 200 with all of an object
PART = "/{}?size=1000&base=5000&total=9000"  # a 206 with object bytes 5000 to 5999
FRAMINGS = ("length", "chunked", "close")


@dataclass(frozen=True)
class Made:
    """What became of a sample; the same however it was cut up."""

    wire: bytes
    taken: int
    claims: tuple[tuple[str, bool], ...]  # per rewrite asked: its rule, and whether the head changes
    base: int | None
    applied: bool
    complete: bool


def make(
    pieces: Iterable[bytes],
    specs: tuple[str, ...],
    method: str = "GET",
    *,
    healed: bool = False,
    carries_object: bool = True,
    total: int | None = None,
) -> Made:
    claims: list[tuple[str, bool]] = []

    def wanted(spec: str) -> list[Wanted]:
        rule = Rule.parse(f"* {spec}")

        def claim(head_changes: bool) -> bool:
            claims.append((spec, head_changes))
            return not healed

        return [Wanted(rewrite, rule.position, claim) for rewrite in rule.rewrites]

    rewriter = Rewriter(
        method, [w for spec in specs for w in wanted(spec)], carries_object=carries_object, total=total
    )
    out, taken = bytearray(), 0
    for piece in pieces:
        new, n = rewriter.feed(piece)
        assert n == len(piece) or rewriter.complete, "bytes are left only behind the end"
        out += new
        taken += n
        if rewriter.complete:
            assert rewriter.feed(b"more") == (b"", 0), "what is over takes nothing"
            break
    out += rewriter.close()
    assert rewriter.close() == b"", "it ends once"
    return Made(bytes(out), taken, tuple(claims), rewriter.base, rewriter.applied, rewriter.complete)


def rw(sample: bytes, *specs: str, method: str = "GET", **options: bool | int | None) -> Made:
    """Rewrite a sample whole, byte by byte and split by seeds; the wire must be the same."""
    whole = make([sample], specs, method, **options)  # type: ignore[arg-type]
    for how, pieces in (
        ("byte by byte", (sample[i : i + 1] for i in range(len(sample)))),
        ("split by seed 1", split(sample, 1)),
        ("split by seed 2", split(sample, 2)),
    ):
        made = make(pieces, specs, method, **options)  # type: ignore[arg-type]
        # A body that is ended early may leave less of the sample unread when it comes in small pieces.
        assert (made.wire, made.claims, made.base, made.applied, made.complete) == (
            whole.wire,
            whole.claims,
            whole.base,
            whole.applied,
            whole.complete,
        ), how
        assert made.taken <= whole.taken
    return whole


def edited(head: bytes, *gone: str, **fields: str) -> bytes:
    """The head with fields left out, and others set in place or at the end; `_` stands for a hyphen."""
    lines = head.removesuffix(b"\r\n\r\n").decode().split("\r\n")
    kept = [line for line in lines if line.split(":")[0] not in gone]
    for name, value in fields.items():
        line = f"{name.replace('_', '-')}: {value}"
        places = [i for i, old in enumerate(kept) if old.startswith(f"{name.replace('_', '-')}:")]
        kept = [*kept[: places[0]], line, *kept[places[0] + 1 :]] if places else [*kept, line]
    return "\r\n".join(kept).encode() + b"\r\n\r\n"


def chunks(payload: bytes) -> bytes:
    parts = (payload[i : i + CHUNK] for i in range(0, len(payload), CHUNK))
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def framed(head: bytes, payload: bytes) -> bytes:
    """The payload behind the head, framed as that says."""
    return head + (chunks(payload) if b"Transfer-Encoding: chunked" in head else payload)


Want = Callable[[Layout], bytes | None]  # the new wire; None: untouched


def payload(change: Callable[[bytes], bytes]) -> Want:
    return lambda sent: framed(sent.head, change(sent.payload))


def dropped(sent: Layout) -> bytes | None:
    if b"Content-Length" not in sent.head:
        return None  # there is no length that would hide it
    head = edited(sent.head, Content_Length="984")
    return head + sent.payload[:400] + sent.payload[416:]


def multipart(sent: Layout) -> bytes | None:
    if b" 206 " not in sent.head or b"Content-Length" not in sent.head:
        return None
    body = (
        b"--midstream-part\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Range: bytes 5000-5999/9000\r\n\r\n" + sent.payload + b"\r\n--midstream-part--\r\n"
    )
    head = edited(
        sent.head,
        "Content-Range",
        Content_Type="multipart/byteranges; boundary=midstream-part",
        Content_Length=str(len(body)),
    )
    return head + body


def ranged(text: str | None) -> Want:
    def want(sent: Layout) -> bytes | None:
        if b" 206 " not in sent.head:
            return None
        rest = sent.wire[len(sent.head) :]
        if text is None:
            return edited(sent.head, "Content-Range") + rest
        return edited(sent.head, Content_Range=text) + rest

    return want


def head(change: Callable[[bytes], bytes]) -> Want:
    return lambda sent: change(sent.head) + sent.wire[len(sent.head) :]


def upper(raw: bytes) -> bytes:
    status, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    named = (line.partition(b":") for line in lines)
    return b"\r\n".join([status, *(n.upper() + c + v for n, c, v in named)]) + b"\r\n\r\n"


FAULTS: dict[str, Want] = {
    "flip@{at}:3": payload(lambda p: p[:400] + bytes([p[400] ^ 8]) + p[401:]),
    "flip@body+999:7": payload(lambda p: p[:-1] + bytes([p[-1] ^ 128])),
    "swap@{at}:100": payload(lambda p: p[:400] + p[500:600] + p[400:500] + p[600:]),
    "swap@body+950:40": payload(lambda p: p[:950] + p[990:] + p[950:990]),  # 10 bytes are left for 40
    "duplicate@{at}:64": payload(lambda p: p[:464] + p[400:464] + p[528:]),
    "duplicate@body+950:40": payload(lambda p: p[:990] + p[950:960]),
    "drop@{at}:16": dropped,
    "truncate@{at}:chunked": lambda s: framed(
        edited(s.head, "Content-Length", Transfer_Encoding="chunked"), s.payload[:400]
    ),
    "truncate@{at}:length": lambda s: (
        edited(s.head, "Transfer-Encoding", Content_Length="400") + s.payload[:400]
    ),
    "truncate@body+0:chunked": lambda s: (
        edited(s.head, "Content-Length", Transfer_Encoding="chunked") + b"0\r\n\r\n"
    ),
    "multipart@head": multipart,
    "content-range@head:missing": ranged(None),
    "content-range@head:unknown": ranged("bytes 5000-5999/*"),
    "content-range@head:malformed": ranged("bytes=5000-5999"),
    "content-range@head:total": ranged("bytes 5000-5999/1000"),
    "content-range@head:grown": ranged("bytes 5000-5999/9001"),
    "content-range@head:first": ranged("bytes 5001-5999/9000"),
    "content-range@head:last": ranged("bytes 5000-5998/9000"),
    "content-range@head:unit": ranged("octets 5000-5999/9000"),
    'header@head:ETag=W/"y",Server,X-New=a%2Cb': head(
        lambda raw: edited(raw, "Server", ETag='W/"y"', X_New="a,b")
    ),
    "header@head::status=203": head(lambda raw: b"HTTP/1.1 203 Rewritten" + raw[raw.index(b"\r") :]),
    "restyle@head:upper": head(upper),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("target", [OBJECT, PART], ids=["200", "206"])
@pytest.mark.parametrize("spec", FAULTS)
def test_every_rewriting_fault(spec: str, target: str, framing: str) -> None:
    """On each framing the client gets exactly the bytes the fault means, or the store's own."""
    sent = layout(target.format(framing) + "&chunk=300" * (framing == "chunked"))
    base = BASE if target is PART else 0
    filled = spec.format(at=base + 400)
    made = rw(sent.wire, filled)
    want = FAULTS[spec](sent)
    assert made.wire == (sent.wire if want is None else want)
    assert made.applied == (want is not None)
    changed = want is not None and not want.startswith(sent.head)
    assert made.claims == (() if want is None else ((filled, changed),))
    assert made.base == (None if "multipart" in spec and want else base)


def unchunk(wire: bytes) -> bytes:
    """The payload of a chunked body, which must end exactly."""
    data, at = b"", 0
    while True:
        line = wire.index(b"\r\n", at)
        size = int(wire[at:line], 16)
        if not size:
            assert wire[line:] == b"\r\n\r\n"
            return data
        data += wire[line + 2 : line + 2 + size]
        assert wire[line + 2 + size : line + 4 + size] == b"\r\n"
        at = line + 4 + size


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [0, 1, 1000, 70_000])
@pytest.mark.parametrize("form", ["whole", "cut"])
def test_gzip(form: str, size: int, framing: str) -> None:
    """The coded body unpacks to the object, whatever its size, or fails where its trailer is cut off."""
    target = f"/{framing}?size={size}&chunk=300"
    sent = layout(target if framing == "chunked" else target.removesuffix("&chunk=300"))
    raw = (
        edited(sent.head, X_Before="1", Repr_Digest="sha-256=:x:", Content_MD5="x")
        + sent.wire[len(sent.head) :]
    )
    made = rw(raw, f"gzip@head:{form}")
    new = edited(
        edited(sent.head, X_Before="1"),
        "Content-Length",
        "Content-MD5",
        "Repr-Digest",
        Content_Encoding="gzip",
        Transfer_Encoding="chunked",
    )
    if framing != "chunked":
        assert made.wire.startswith(new)
    got_head, _, body = made.wire.partition(b"\r\n\r\n")
    assert sorted(got_head.split(b"\r\n")) == sorted(new.removesuffix(b"\r\n\r\n").split(b"\r\n"))
    coded = unchunk(body)
    assert made.wire.endswith(chunks(coded))
    assert (made.base, made.complete) == (None, True)
    if form == "whole":
        assert gzip.decompress(coded) == sent.payload
    else:
        with pytest.raises(EOFError):
            gzip.decompress(coded)
        assert zlib.decompressobj(31).decompress(coded) == sent.payload, "all of the payload is there"


NOT_OBJECTS = {
    "404": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found", "GET"),
    "404 chunked": (
        b"HTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "GET",
    ),
    "416": (b"HTTP/1.1 416 N\r\nContent-Range: bytes */9000\r\nContent-Length: 0\r\n\r\n", "GET"),
    "HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\nETag: x\r\n\r\n", "HEAD"),
    "304": (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", "GET"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
    "206 of no range": (b"HTTP/1.1 206 P\r\nContent-Length: 3\r\n\r\nabc", "GET"),
}
OF_OBJECTS = (
    "flip@0",
    "flip@body+0",
    "swap@body+0:1",
    "duplicate@body+0:1",
    "drop@0",
    "truncate@body+0:length",
)
OF_OBJECTS += ("truncate@0:chunked", "gzip@head", "multipart@head", "content-range@head:missing")


@pytest.mark.parametrize("sample", NOT_OBJECTS)
@pytest.mark.parametrize("spec", OF_OBJECTS)
def test_no_object_bytes(spec: str, sample: str) -> None:
    """What carries no object bytes is not rewritten by a fault of these: not asked for, not touched."""
    raw, method = NOT_OBJECTS[sample]
    made = rw(raw + b"HTTP/1.1 200 the next", spec, method=method, carries_object=method == "GET")
    assert (made.wire, made.taken, made.claims, made.applied) == (raw, len(raw), (), False)


@pytest.mark.parametrize("sample", NOT_OBJECTS)
def test_heads_of_anything(sample: str) -> None:
    """A fault of the head alone changes the head of any final response, and not a byte behind it."""
    raw, method = NOT_OBJECTS[sample]
    end = raw.index(b"\r\n\r\n") + 4
    made = rw(raw + b"more", "header@head:X-New=1", method=method)
    assert made.wire == edited(raw[:end], X_New="1") + raw[end:]


@pytest.mark.parametrize("spec", [*OF_OBJECTS, "header@head:X=1", "restyle@head:lower"])
def test_interim_responses(spec: str) -> None:
    """An interim response passes as it is; the bytes behind it are not taken."""
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    made = rw(raw + b"HTTP/1.1 200 OK\r\n", spec)
    assert (made.wire, made.taken, made.claims, made.complete) == (raw, len(raw), (), True)


def test_a_listing() -> None:
    """The payload of a 200 that is no object has no object offset."""
    sent = layout("/length?size=50").wire
    assert rw(sent, "flip@10", "truncate@body+10:length", carries_object=False).wire == sent


ODD = b"\r\nhttp/1.1  200 OK\nserver:x\nX-Fold: a\r\n  b\nContent-Length:5\n\nhello"


@pytest.mark.parametrize("spec", ["drop@0:2", "gzip@head", "header@head:X=1", "flip@2"])
def test_healed(spec: str) -> None:
    """A rewrite whose rule has healed leaves every byte as it came, odd ones too."""
    sent = layout("/length?size=50").wire
    made = rw(sent, spec, healed=True)
    assert (made.wire, made.applied, len(made.claims)) == (sent, False, 1)
    assert rw(ODD, spec, healed=True).wire == ODD


@pytest.mark.parametrize("spec", ["content-range@head:missing", 'header@head:ETag="x"', "header@head:Age"])
def test_nothing_to_change(spec: str) -> None:
    """A head that is already so is not claimed."""
    sent = layout("/length?size=50").wire
    made = rw(sent, spec)
    assert (made.wire, made.claims) == (sent, ())


def test_the_head_of_a_changed_payload() -> None:
    """A head that no rewrite changes goes out as it came, folding and bare line feeds included."""
    raw = b"HTTP/1.1 200 OK\nX-Fold: a\r\n  b\nContent-Length:5\n\nhello"
    assert rw(raw, "flip@1").wire == raw.replace(b"hello", b"hdllo")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    "spec", ["flip@1000", "flip@body+1000", "drop@1000:5", "truncate@1000:length", "swap@2000"]
)
def test_behind_the_payload(spec: str, framing: str) -> None:
    """A position behind the last payload byte is in no byte of this response, where that is known."""
    sent = layout(f"/{framing}?size=1000").wire
    assert rw(sent, spec, total=1000).claims == ()


@pytest.mark.parametrize("spec", ["flip@4999", "flip@6000", "drop@0", "truncate@10%:length", "swap@90%"])
def test_elsewhere_in_the_object(spec: str) -> None:
    """A part that does not hold the byte is left to itself."""
    sent = layout(PART.format("length")).wire
    assert rw(sent, spec).claims == ()
    assert rw(sent, spec).wire == sent


@pytest.mark.parametrize(("percent", "at"), [("50%", 4500), ("60%", 5400), ("60%-1", 5399), ("66.66%", 5999)])
def test_percentages(percent: str, at: int) -> None:
    """A percentage is of the object, not of the part."""
    sent = layout(PART.format("length"))
    made = rw(sent.wire, f"flip@{percent}")
    want = bytearray(sent.wire)
    if at >= BASE:
        want[sent.byte(at - BASE)] ^= 1
    assert made.wire == want


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 40_000])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_chunks_are_of_one_size(size: int, framing: str) -> None:
    """A body that is chunked here has the same chunks however the store's bytes came in."""
    sent = layout(f"/{framing}?size=50000")
    made = rw(sent.wire, f"truncate@{size}:chunked")
    assert made.wire.endswith(b"\r\n\r\n" + chunks(sent.payload[:size]))


def test_trailers_stay() -> None:
    """Trailer fields behind a rewritten payload are kept, those behind a body that is ended are not."""
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert rw(raw + body, "flip@0").wire == raw + b"5\r\n`bcde\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    assert rw(raw + body, "truncate@3:chunked").wire == raw + b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\nhello",
        b"\x16\x03\x01",
    ],
    ids=["cut head", "endless head", "no http"],
)
def test_what_is_no_response(raw: bytes) -> None:
    """A head that never ends, or is too long to be one, passes whole."""
    for pieces in ([raw], list(split(raw, 3)), [raw[i : i + 1000] for i in range(0, len(raw), 1000)]):
        made = make(pieces, ("header@head:X=1", "flip@0"))
        assert (made.wire, made.claims) == (raw, ())


@pytest.mark.parametrize("junk", [b"zz\r\nhello", b"5\r\nhelloXX"])
def test_broken_chunks(junk: bytes) -> None:
    """Chunk framing that cannot be followed loses no byte, in whatever pieces it comes."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    made = rw(raw + junk, "flip@0")
    after = junk.removeprefix(b"5\r\nhello") if b"XX" in junk else junk
    data = b"`bc" + (b"hello" if b"XX" in junk else b"") + after
    assert made.wire == raw[: raw.index(b"3\r\n")] + chunks(data)


def test_a_store_that_ends_early() -> None:
    """A body that is cut by the store is not ended cleanly in its place."""
    sent = layout("/length?size=1000")
    made = rw(sent.wire[:-100], "gzip@head")
    assert not made.complete
    assert not made.wire.endswith(b"0\r\n\r\n")
    assert rw(sent.wire[:-100], "flip@10").wire[len(sent.head) + 11 :] == sent.payload[11:-100]


# --- two rewrites in one response


def test_two_flips() -> None:
    """Each changes its own byte, in either order and also when it is the same one."""
    sent = layout(OBJECT.format("length"))
    p = sent.payload
    for specs in (("flip@10", "flip@20:1"), ("flip@20:1", "flip@10")):
        want = p[:10] + bytes([p[10] ^ 1]) + p[11:20] + bytes([p[20] ^ 2]) + p[21:]
        assert rw(sent.wire, *specs).wire == sent.head + want
    assert rw(sent.wire, "flip@10", "flip@10").wire == sent.wire


def test_positions_after_a_drop() -> None:
    """An object offset means that byte of the object also where bytes before it have gone; gone is gone."""
    sent = layout(OBJECT.format("length"))
    p = sent.payload
    flipped = bytes([p[200] ^ 1])
    made = rw(sent.wire, "drop@100:16", "flip@200", "flip@105")
    assert made.wire == edited(sent.head, Content_Length="984") + p[:100] + p[116:200] + flipped + p[201:]
    assert [spec for spec, _ in made.claims] == ["drop@100:16", "flip@200"]
    made = rw(sent.wire, "drop@100:16", "flip@body+200")
    assert made.wire.endswith(p[116:216] + bytes([p[216] ^ 1]) + p[217:])


def test_two_drops() -> None:
    """Content-Length fits what both have left."""
    sent = layout(OBJECT.format("length"))
    p = sent.payload
    made = rw(sent.wire, "drop@100:16", "drop@990:16")
    assert made.wire == edited(sent.head, Content_Length="974") + p[:100] + p[116:990]


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("source", ["length", "close"])
def test_behind_a_truncation(framing: str, source: str) -> None:
    """What a truncation has cut off is not there to be changed."""
    sent = layout(OBJECT.format(source))
    alone = rw(sent.wire, f"truncate@500:{framing}")
    both = rw(sent.wire, f"truncate@500:{framing}", "flip@500", "flip@body+500", "drop@700")
    assert both == alone
    other = rw(sent.wire, f"truncate@500:{framing}", "flip@499")
    assert other.wire != alone.wire
    assert len(other.wire) == len(alone.wire)


def test_the_whole_dropped() -> None:
    """A drop of everything leaves an empty body that says so."""
    sent = layout(OBJECT.format("length"))
    assert rw(sent.wire, "drop@0:5000").wire == edited(sent.head, Content_Length="0")


def test_truncated_coding() -> None:
    """A truncation after a coding cuts the coded bytes; object offsets cannot be told there."""
    sent = layout("/length?size=50000")
    coded = unchunk(rw(sent.wire, "gzip@head").wire.partition(b"\r\n\r\n")[2])
    made = rw(sent.wire, "gzip@head", "flip@10", "truncate@body+20000:chunked")
    assert made.wire.endswith(b"\r\n\r\n" + chunks(coded[:20_000]))
    assert [spec for spec, _ in made.claims] == ["gzip@head", "truncate@body+20000:chunked"]
    before = rw(sent.wire, "truncate@20000:chunked", "gzip@head")
    assert gzip.decompress(unchunk(before.wire.partition(b"\r\n\r\n")[2])) == sent.payload[:20_000]


def test_a_multipart_of_no_range() -> None:
    """A range field taken away before leaves nothing to wrap."""
    sent = layout(PART.format("length"))
    made = rw(sent.wire, "content-range@head:missing", "multipart@head")
    assert made.wire == edited(sent.head, "Content-Range") + sent.payload


def test_a_lie_about_the_length() -> None:
    """A Content-Length that lies, lower or higher, changes no byte of the payload."""
    sent = layout(OBJECT.format("length"))
    for length in ("5", "0", "5000"):
        made = rw(sent.wire + b"next", f"header@head:Content-Length={length}")
        assert made.wire == edited(sent.head, Content_Length=length) + sent.payload
        assert made.taken == len(sent.wire)


def test_a_range_of_unknown_size() -> None:
    """With no size in Content-Range, none is invented."""
    raw = b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-7/*\r\nContent-Length: 3\r\n\r\nabc"
    for form, text in (("first", "bytes 6-7/*"), ("last", "bytes 5-6/*"), ("unit", "octets 5-7/*")):
        assert f"Content-Range: {text}\r\n".encode() in rw(raw, f"content-range@head:{form}").wire
    assert rw(raw, "content-range@head:grown").claims == ()


def test_an_empty_object() -> None:
    """An object of no bytes has none that could be changed."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for spec in ("flip@0", "drop@0", "truncate@0:chunked", "flip@body+0", "swap@0:1"):
        assert rw(raw, spec, total=0).claims == (), spec
        assert rw(raw, spec).claims == (), spec


def test_a_rewrite_of_another_kind_of_position() -> None:
    """A head rewrite has no offset; a custom payload rewrite at a place is handed none."""
    seen: list[int | None] = []

    def note(context: Context) -> None:
        seen.append(context.at)

    wanted = [
        Wanted(Rewrite(note), Position.parse(p), lambda _: True)
        for p in ("head", "end", "10", "body+3", "wire+3")
    ]
    sent = layout("/length?size=20").wire
    assert Rewriter("GET", wanted, carries_object=True, total=None).feed(sent)[0] == sent
    assert seen == [None, None, 10, 3, None]


def test_content_is_what_the_samples_hold() -> None:
    """The samples are object bytes from their base on, so that a shift would be seen."""
    assert layout(PART.format("length")).payload == Content(1 << 30, 11).read(BASE, 1000)
