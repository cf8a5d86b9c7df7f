"""One rule per test, as a transcript of what is asked and answered."""

from __future__ import annotations

import base64
import hashlib

import pytest

from reknit import Changed, Exhausted, Integrity, Options, Refused
from reknit._events import Answer, Data, Dropped, Fail, Read, Request, Wait
from reknit._machine import Machine
from reknit._ranges import Slice
from reknit._representation import Dialect
from reknit._retry import Limits
from reknit.testing import Reply, ScriptedStore, StoreFault, fetch, read_stream

RST = StoreFault("reset", "reset")
TAG = {"etag": '"a"'}


def whole(data: bytes = b"abcdef", **more: str) -> Reply:
    headers = {"content-length": str(len(data)), **TAG, **{k.replace("_", "-"): v for k, v in more.items()}}
    return Reply(200, headers, [data])


def cut(at: int, data: bytes = b"abcdef", **more: str) -> Reply:
    reply = whole(data, **more)
    reply.body, reply.fault = [data[:at]] * bool(at), RST
    return reply


def rest(first: int, data: bytes = b"abcdef", **more: str) -> Reply:
    headers = {"content-range": f"bytes {first}-{len(data) - 1}/{len(data)}", **TAG}
    return Reply(206, {**headers, **{k.replace("_", "-"): v for k, v in more.items()}}, [data[first:]])


def sha256(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_a_cut_is_continued_under_the_first_tag() -> None:
    """P9, P10: the resume starts at what is in the sink and is bound to the first answer."""
    store = ScriptedStore([cut(4), rest(4)])
    result = fetch(store)
    assert result.data == b"abcdef"
    assert store.asked == ["GET", 'GET 4- if "a"']
    assert result.report.bytes_refetched == 0


def test_the_last_byte_is_the_end_whatever_follows() -> None:
    """P8: a reset after all announced bytes is no failure."""
    store = ScriptedStore([cut(6)])
    assert fetch(store).error is None
    assert store.asked == ["GET"]


def test_a_weak_tag_never_binds() -> None:
    """P11, P13: with a weak tag the download starts over and sends no condition."""
    store = ScriptedStore([cut(4, etag='W/"a"'), whole(etag='W/"a"')])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", "GET"]


def test_a_digest_may_stand_in_for_a_tag() -> None:
    """P13: without a strong tag the rest is joined if a whole-object digest will be verified."""
    digest = sha256(b"abcdef")
    store = ScriptedStore([cut(4, etag="", repr_digest=digest), rest(4, etag="")])
    result = fetch(store)
    assert result.data == b"abcdef"
    assert store.asked == ["GET", "GET 4-"]
    assert result.report.verified == "sha256 (repr-digest)"


def test_a_weak_tag_can_still_prove_a_change() -> None:
    """P22: where a digest stands in for the tag, a 206 of another weak tag is not even begun."""
    digest = sha256(b"abcdef")
    other = rest(4, b"UVWXYZ", etag='W/"b"')
    store = ScriptedStore(
        [
            cut(4, etag='W/"a"', repr_digest=digest),
            other,
            whole(b"UVWXYZ", etag='W/"b"', repr_digest=sha256(b"UVWXYZ")),
        ]
    )
    result = fetch(store)
    assert (result.data, result.report.restarts) == (b"UVWXYZ", 1)


def test_a_200_to_a_range_under_our_tag_is_skipped() -> None:
    """P17: the prefix is dropped exactly, the rest appended."""
    store = ScriptedStore([cut(4), whole()])
    result = fetch(store)
    assert (result.data, result.report.bytes_refetched, result.report.restarts) == (b"abcdef", 4, 0)


def test_a_drop_while_skipping_keeps_what_is_held() -> None:
    """T12: a cut inside the prefix of a 200 costs nothing that was there."""
    store = ScriptedStore([cut(4), cut(2), rest(4)])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", 'GET 4- if "a"', 'GET 4- if "a"']


def test_a_200_under_another_tag_is_a_new_object() -> None:
    """P17, P22: the partial is emptied and the answer at hand is read from its first byte."""
    store = ScriptedStore([cut(4), whole(b"UVWXYZ", etag='"b"')])
    result = fetch(store)
    assert (result.data, result.report.restarts) == (b"UVWXYZ", 1)
    assert store.asked == ["GET", 'GET 4- if "a"']


def test_a_412_is_never_asked_again() -> None:
    """P24: the next request carries no condition."""
    store = ScriptedStore([cut(4), Reply(412), whole(b"UVWXYZ", etag='"b"')])
    assert fetch(store).data == b"UVWXYZ"
    assert store.asked == ["GET", 'GET 4- if "a"', "GET"]


def test_restarts_are_bounded() -> None:
    """An object that changes on every request ends as Changed."""
    store = ScriptedStore(
        [cut(4), Reply(412), cut(4, etag='"b"'), Reply(412), cut(4, etag='"c"'), Reply(412)]
    )
    assert isinstance(fetch(store).error, Changed)


def test_a_stream_cannot_start_over() -> None:
    """P34: what was handed out stands, so a changed object raises Changed, and goes on raising it."""
    store = ScriptedStore([cut(4), Reply(412)])
    result = read_stream(store)
    assert isinstance(result.error, Changed)
    assert result.data == b"abcd"


def test_a_206_without_the_tag_falls_back_to_a_plain_get() -> None:
    """P22: an unbound range is not joined; two in a row, and the whole is fetched and the prefix skipped."""
    store = ScriptedStore([cut(4), rest(4, etag=""), rest(4, etag=""), whole()])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", 'GET 4- if "a"', 'GET 4- if "a"', "GET"]


def test_ranges_are_tried_again_after_a_good_run() -> None:
    """P33: two odd answers do not cost a long download its ranges for ever."""
    data = bytes(range(256)) * (3 << 12)
    half = len(data) // 2
    odd = [rest(4, data, etag=""), rest(4, data, etag="")]
    store = ScriptedStore([cut(4, data), *odd, cut(half, data), rest(half, data)])
    assert fetch(store).data == data
    assert store.asked[-2:] == ["GET", f'GET {half}- if "a"']


@pytest.mark.parametrize("total", ["bytes */6", None])
def test_a_416_to_a_missing_part_fetches_the_whole(total: str | None) -> None:
    """P23: the partial is dropped and one clean full GET follows, with or without a length in the 416."""
    refusal = Reply(416, {"content-range": total} if total else {})
    store = ScriptedStore([cut(4), refusal, whole()])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", 'GET 4- if "a"', "GET"]


def test_a_416_that_names_our_length_is_confirmed() -> None:
    """P23: all bytes came but the last chunk did not; the size is taken from HEAD, under the same tag."""
    first = Reply(200, {"transfer-encoding": "chunked", **TAG}, [b"abcdef"], RST)
    head = Reply(200, {"content-length": "6", **TAG})
    store = ScriptedStore([first, Reply(416, {"content-range": "bytes */6"}), head])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", 'GET 6- if "a"', "HEAD"]


def test_a_416_that_names_our_length_for_another_object_is_not_believed() -> None:
    """P23: the new object happens to have as many bytes as we hold."""
    first = Reply(200, {"transfer-encoding": "chunked", **TAG}, [b"abcd"], RST)
    head = Reply(200, {"content-length": "4", "etag": '"b"'})
    store = ScriptedStore(
        [first, Reply(416, {"content-range": "bytes */4"}), head, whole(b"WXYZ", etag='"b"')]
    )
    assert fetch(store).data == b"WXYZ"


def test_a_truncated_upstream_with_a_clean_last_chunk_is_caught() -> None:
    """P5, H16: HEAD knows the same version to be longer than the chunked body was."""
    first = Reply(200, {"transfer-encoding": "chunked", **TAG}, [b"abc"])
    store = ScriptedStore([first, Reply(200, {"content-length": "6", **TAG}), rest(3)])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", "HEAD", 'GET 3- if "a"']


def test_a_closed_connection_proves_no_length() -> None:
    """P5: without a length, a HEAD or a digest there is nothing to compare, and nothing is published."""
    store = ScriptedStore([Reply(200, {}, [b"abc"]), Reply(405)])
    assert isinstance(fetch(store).error, Integrity)


def test_a_closed_connection_is_measured_by_head() -> None:
    """P5: the same body passes when HEAD names its length."""
    store = ScriptedStore([Reply(200, {}, [b"abc"]), Reply(200, {"content-length": "3"})])
    assert fetch(store).data == b"abc"


def test_an_error_page_is_not_the_object() -> None:
    """P25, H10: a 200 page from a gateway neither replaces nor extends what is held."""
    page = Reply(200, {"content-type": "text/html", "content-length": "4"}, [b"oops"])
    store = ScriptedStore([cut(4, content_type="application/zip"), page, rest(4)])
    assert fetch(store).data == b"abcdef"


def test_an_error_page_of_the_right_length_is_not_the_object() -> None:
    """P25: the type gives it away."""
    page = Reply(200, {"content-type": "text/html", "content-length": "6"}, [b"oops!!"])
    store = ScriptedStore([cut(4, content_type="application/zip"), page, rest(4)])
    assert fetch(store).data == b"abcdef"


def test_a_200_that_lost_its_tag_and_length_is_not_the_object() -> None:
    """P17: neither our version, nor provably another."""
    store = ScriptedStore([cut(4), whole(b"error", etag=""), rest(4)])
    assert fetch(store).data == b"abcdef"


def test_a_200_shorter_than_what_is_held_contradicts_itself() -> None:
    """P22: the same strong tag cannot name fewer bytes."""
    first = Reply(200, {"transfer-encoding": "chunked", **TAG}, [b"abcd"], RST)
    store = ScriptedStore([first, whole(b"xy"), rest(4)])
    assert fetch(store).data == b"abcdef"


@pytest.mark.parametrize(
    "lie", [{"content_length": "9"}, {"content_length": "1"}, {"content_encoding": "gzip"}]
)
def test_a_206_that_contradicts_itself_is_not_joined(lie: dict[str, str]) -> None:
    """P19, P14: a length that is not the range's, or a coding in which ranges count other bytes."""
    bad = rest(4, **lie)
    bad.body = [b"XY"]
    store = ScriptedStore([cut(4), bad, rest(4)])
    assert fetch(store).data == b"abcdef"
    assert store.asked[1:] == ['GET 4- if "a"'] * 2


def test_an_error_body_is_not_data() -> None:
    """P25: the body of a 503 never reaches the sink."""
    store = ScriptedStore([cut(4), Reply(503, {}, [b"<h1>"]), rest(4)])
    assert fetch(store).data == b"abcdef"


def test_a_200_with_content_range_is_not_placed() -> None:
    """P26: it is neither the whole nor, without 206, a part."""
    odd = whole()
    odd.headers = {**odd.headers, "content-range": "bytes 0-5/6"}
    store = ScriptedStore([odd, whole()])
    assert fetch(store).data == b"abcdef"
    assert len(store.asked) == 2


def test_coded_bytes_are_refused() -> None:
    """P14: identity was asked for; the bytes of another coding are not the object's."""
    result = fetch(ScriptedStore([whole(content_encoding="gzip")]))
    assert isinstance(result.error, Refused)
    assert "gzip" in str(result.error)


def test_a_stored_coding_belongs_to_the_object() -> None:
    """In S3 and Swift the coding is metadata: the stored bytes are delivered, and ranges count them."""
    store = ScriptedStore(
        [cut(4, content_encoding="gzip"), rest(4, content_encoding="gzip")],
        dialect=Dialect("If-Match", stored_coding=True),
    )
    assert fetch(store).data == b"abcdef"


def test_a_digest_mismatch_gets_one_clean_start() -> None:
    """P6: spoilt bytes on the way are fetched again from zero; the second time it is Integrity."""
    good, bad = sha256(b"abcdef"), b"abXdef"
    store = ScriptedStore([whole(bad, repr_digest=good), whole(repr_digest=good)])
    assert fetch(store).data == b"abcdef"
    store = ScriptedStore([whole(bad, repr_digest=good), whole(bad, repr_digest=good)])
    assert isinstance(fetch(store).error, Integrity)
    assert store.asked == ["GET", "GET"]


def test_a_stream_ends_only_when_verified() -> None:
    """P7: with a wrong digest the reader gets an error where the end would be."""
    result = read_stream(ScriptedStore([whole(b"abXdef", repr_digest=sha256(b"abcdef"))]))
    assert isinstance(result.error, Integrity)


def test_the_callers_digest_is_always_verified() -> None:
    """`expect` holds even with verify=False, and names itself in the report."""
    expect = "sha256:" + hashlib.sha256(b"abcdef").hexdigest()
    assert fetch(ScriptedStore([whole()]), Options(expect=expect, verify=False)).report.verified
    wrong = "sha256:" + "0" * 64
    store = ScriptedStore([whole(), whole()])
    assert isinstance(fetch(store, Options(expect=wrong)).error, Integrity)


def test_progress_refills_the_attempts() -> None:
    """P29: eleven cuts with a byte between them pass with two attempts; two without do not."""
    data = bytes(range(12))
    replies = [cut(1, data), *(rest(i, data) for i in range(1, 12))]
    for i, reply in enumerate(replies[1:], 1):
        reply.body, reply.fault = [data[i : i + 1]], RST
    assert fetch(ScriptedStore(replies), Options(attempts=1)).data == data
    failing = fetch(ScriptedStore([cut(1), RST, RST]), Options(attempts=1))
    assert isinstance(failing.error, Exhausted)
    assert "byte 1" in str(failing.error)
    assert "reset" in str(failing.error)


def test_the_same_bytes_once_more_are_no_progress() -> None:
    """P29: without a validator each drop starts over; always cut at the same byte, it ends."""
    store = ScriptedStore(lambda *_: cut(4, etag=""))
    assert isinstance(fetch(store, Options(attempts=3)).error, Exhausted)
    assert len(store.asked) == 4


def test_a_clean_end_too_early_is_a_drop() -> None:
    """P1, P30: a FIN is resumed at once like a reset, and named when it goes on."""
    head = {"content-length": "6", **TAG}
    result = fetch(ScriptedStore([Reply(200, head, [b"abcd"]), rest(4)]))
    assert (result.data, result.waits) == (b"abcdef", [])
    assert "short" in str(fetch(ScriptedStore([Reply(200, head, [b"abcd"])]), Options(attempts=0)).error)


def test_waits_grow_with_jitter_and_start_after_the_first_drop() -> None:
    """P30: the first drop on a good line is resumed at once; then full jitter under a doubling, capped
    window.
    """
    store = ScriptedStore([cut(4), RST, RST, RST, RST, rest(4)])
    result = fetch(store, Options(backoff_base=1, backoff_cap=5, roll=lambda: 0.5))
    assert result.waits == [1.0, 2.0, 2.5, 2.5]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("9999", 60.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0), ("soon", 0.5), ("-3", 0.5)],
)
def test_retry_after_is_honoured_up_to_a_cap(value: str, seconds: float) -> None:
    """P30: as seconds and as a date, never below the backoff and never beyond the cap."""
    machine = Machine(Dialect("If-Range"), Limits(base=1, retry_after_cap=60), lambda: 0.5)
    machine.start()
    actions = machine.receive(Answer(503, {"retry-after": value}, now=60.0))
    assert [action for action in actions if isinstance(action, Wait)] == [Wait(seconds)]


@pytest.mark.parametrize("status", [401, 403, 410])
def test_credentials_are_renewed_once_at_the_same_offset(status: int) -> None:
    """P27: the resume goes on under the same tag; refused again without progress, it is over."""
    store = ScriptedStore([cut(4), Reply(status), rest(4)], renewals=[True])
    assert fetch(store).data == b"abcdef"
    assert store.asked == ["GET", 'GET 4- if "a"', "RENEW", 'GET 4- if "a"']
    store = ScriptedStore([cut(4), Reply(status), Reply(status)], renewals=[True, True])
    error = fetch(store).error
    assert isinstance(error, Refused)
    assert error.status == status


@pytest.mark.parametrize("status", [400, 404, 405, 409, 302, 304, 501, 204])
def test_final_answers_are_not_asked_again(status: int) -> None:
    """P32: one request, and the error names the status and where it was."""
    store = ScriptedStore([cut(4), Reply(status)])
    error = fetch(store).error
    assert isinstance(error, Refused)
    assert str(status) in str(error)
    assert "byte 4" in str(error)
    assert len(store.asked) == 2


def test_an_honest_short_range_is_followed_by_the_rest() -> None:
    """P20: the next range begins where the short one ended, and costs no attempt."""
    short = Reply(206, {"content-range": "bytes 2-3/6", **TAG}, [b"cd"])
    store = ScriptedStore([cut(2), short, rest(4)])
    assert fetch(store, Options(attempts=1)).data == b"abcdef"
    assert store.asked[2] == 'GET 4- if "a"'


def test_surplus_bytes_are_never_read() -> None:
    """P19: a body that runs on beyond its range ends where the range does."""
    long = rest(4)
    long.body = [b"efGARBAGE"]
    assert fetch(ScriptedStore([cut(4), long])).data == b"abcdef"


def test_an_empty_object_needs_one_request() -> None:
    """Zero bytes are complete at the head."""
    store = ScriptedStore([whole(b"")])
    assert fetch(store).data == b""
    assert fetch(ScriptedStore([whole(b"")])).error is None


def part(first: int, last: int, data: bytes = b"abcdef", **more: str) -> Reply:
    headers = {"content-range": f"bytes {first}-{last}/{len(data)}", **TAG}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return Reply(206, headers, [data[first : last + 1]])


def test_a_slice_is_continued_at_absolute_offsets() -> None:
    """P16: base + delivered, under the tag of the first 206, and never beyond the slice."""
    first = part(1, 4)
    first.body, first.fault = [b"b"], RST
    store = ScriptedStore([first, part(2, 3), part(4, 4)])
    result = fetch(store, part=Slice(1, 4))
    assert result.data == b"bcde"
    assert store.asked == ["GET 1-4", 'GET 2-4 if "a"', 'GET 4-4 if "a"']
    assert (result.report.bytes, result.report.bytes_refetched, result.report.verified) == (4, 0, None)


def test_a_slice_of_a_server_without_ranges() -> None:
    """P16, P17: the 200 is skipped to the first byte, read for the length, and left; also on the resume."""
    first = cut(3)
    store = ScriptedStore([first, whole()])
    result = fetch(store, part=Slice(2, 3))
    assert result.data == b"cde"
    assert store.asked == ["GET 2-4", 'GET 3-4 if "a"']
    assert result.report.bytes_refetched == 2 + 3


def test_a_slice_is_clamped() -> None:
    """What the object has of it, in one request; and to the end of the object without a length."""
    for wanted in (Slice(4, 9), Slice(4)):
        store = ScriptedStore([rest(4)])
        assert fetch(store, part=wanted).data == b"ef"
        assert len(store.asked) == 1


@pytest.mark.parametrize(
    "script",
    [
        [Reply(416, {"content-range": "bytes */6"})],
        [whole()],
        [whole(content_length=""), Reply(200, {"content-length": "6", **TAG})],
        [whole(content_length="", transfer_encoding="chunked"), Reply(405)],
    ],
    ids=["416", "length", "HEAD", "last chunk"],
)
def test_a_slice_beyond_the_end(script: list[Reply]) -> None:
    """Said once, as 416, whether the server or the arithmetic finds out."""
    store = ScriptedStore(list(script))
    error = fetch(store, part=Slice(6, 1)).error
    assert isinstance(error, Refused)
    assert error.status == 416
    assert "6 bytes" in str(error)
    assert len(store.asked) == len(script)


def test_no_bytes_need_no_request() -> None:
    """P15: an empty range cannot be asked for."""
    store = ScriptedStore([])
    assert (fetch(store, part=Slice(3, 0)).error, store.asked) == (None, [])


def test_digests_of_the_whole_are_not_of_a_slice() -> None:
    """P6: not even one of the first 206; the slice that is the whole is verified."""
    digest = sha256(b"abcdef")
    result = fetch(ScriptedStore([part(0, 3, repr_digest=digest)]), part=Slice(0, 4))
    assert (result.data, result.report.verified) == (b"abcd", None)
    result = fetch(ScriptedStore([part(0, 5, repr_digest=digest)]), part=Slice(0, 9))
    assert (result.data, result.report.verified) == (b"abcdef", "sha256 (repr-digest)")
    of_the_message = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    short = [part(0, 2, content_md5=of_the_message), part(3, 5)]
    assert fetch(ScriptedStore(short), part=Slice(0, 6)).data == b"abcdef"


@pytest.mark.parametrize(
    "lie",
    [part(1, 3), part(3, 4), part(2, 5), part(2, 4, content_length="9"), Reply(206, TAG, [b"cde"])],
    ids=["early", "late", "too far", "length", "no range"],
)
def test_the_first_206_is_checked_like_any_other(lie: Reply) -> None:
    """P18, P19: start, end and length, before there is anything to compare it with."""
    store = ScriptedStore([lie, part(2, 4)])
    assert fetch(store, part=Slice(2, 3)).data == b"cde"
    assert store.asked == ["GET 2-4", "GET 2-4"]


def test_the_first_206_must_not_be_coded() -> None:
    """P14: its ranges count other bytes."""
    result = fetch(ScriptedStore([part(2, 4, content_encoding="gzip")]), part=Slice(2, 3))
    assert isinstance(result.error, Refused)


def test_a_slice_of_an_object_that_changed() -> None:
    """P22: from the base again, of the new version."""
    first = part(1, 4)
    first.body, first.fault = [b"b"], RST
    new = part(1, 4, b"UVWXYZ", etag='"b"')
    store = ScriptedStore([first, Reply(412), new])
    assert fetch(store, part=Slice(1, 4)).data == b"VWXY"
    assert store.asked == ["GET 1-4", 'GET 2-4 if "a"', "GET 1-4"]


def test_the_machine_takes_events_by_hand() -> None:
    """The sans-I/O core alone: what it says at each step of one resume."""
    machine = Machine(Dialect("If-Match"), Limits(), lambda: 0.0)
    assert machine.start() == [Request()]
    assert machine.receive(Answer(200, {"content-length": "4", **TAG}))[-1] == Read(4)
    assert machine.receive(Data(3)) == [Read(1)]
    assert machine.receive(Dropped(RST))[-1] == Request(3, '"a"')
    assert isinstance(machine.receive(Answer(404, {}))[-1], Fail)
