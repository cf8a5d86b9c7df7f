"""The body behind a response: what is promised before it, and what it does to keep that."""

from __future__ import annotations

from contextlib import closing

import pytest

from reknit import Changed, Exhausted, Integrity, Options, Refused
from reknit._body import Body, head
from reknit._errors import StoreFault
from reknit._ranges import Slice
from reknit.testing import Reply, ScriptedStore

FAST = Options(sleep=lambda _: None, attempts=2)
RST = StoreFault("reset", "RST")
A = {"content-length": "6", "etag": '"a"'}


def rest(first: int, etag: str = '"a"', total: int = 6) -> dict[str, str]:
    return {"content-range": f"bytes {first}-{total - 1}/{total}", "etag": etag}


def read(store: ScriptedStore, size: int | None = 6) -> bytes:
    """Everything that goes downstream; raises what ends it."""
    sent = bytearray()
    with closing(Body(store, FAST)) as body:
        body.open()
        try:
            for block in body.blocks(size):
                sent += block
        except Exception as error:
            error.add_note(sent.decode())
            raise
    return bytes(sent)


def test_a_drop_is_healed() -> None:
    """The rest is asked for with the tag that was promised, and joined."""
    store = ScriptedStore([Reply(200, A, [b"abc"], RST), Reply(206, rest(3), [b"def"])])
    assert read(store) == b"abcdef"
    assert store.asked == ["GET", 'GET 3- if "a"']


def test_nothing_is_promised_before_the_first_byte() -> None:
    """An object that is replaced behind its head, before any byte, is simply the new one."""
    store = ScriptedStore(
        [Reply(200, A, [], RST), Reply(200, {"content-length": "3", "etag": '"b"'}, [b"xyz"])]
    )
    with closing(Body(store, FAST)) as body:
        about, headers = body.open()
        assert (about.etag, about.total, headers["etag"]) == ('"b"', 3, '"b"')
        assert b"".join(map(bytes, body.blocks(3))) == b"xyz"


def test_another_version_is_never_joined() -> None:
    """After the first byte, it is an error; what went out is a true beginning."""
    store = ScriptedStore([Reply(200, A, [b"abc"], RST), Reply(206, rest(3, '"b"'), [b"DEF"])])
    with pytest.raises(Changed) as caught:
        read(store)
    assert caught.value.__notes__ == ["abc"]


def test_a_body_that_fails_its_digest_does_not_come_to_its_end() -> None:
    """The last block is held back until all are verified, whatever the blocks are."""
    wrong = {**A, "content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    for blocks in ([b"abcdef"], [b"abc", b"def"], [b"a", b"b", b"c", b"d", b"e", b"f"]):
        with pytest.raises(Integrity) as caught:
            read(ScriptedStore([Reply(200, wrong, list(blocks))]))
        assert len(caught.value.__notes__[0]) == 6 - len(blocks[-1])


def test_a_body_of_unknown_size() -> None:
    """It ends when the transfer says so, or not at all."""
    told = {"transfer-encoding": "chunked", "etag": '"a"'}
    assert read(ScriptedStore([Reply(200, told, [b"abc", b"def"]), Reply(200, told)]), None) == b"abcdef"
    with pytest.raises(Exhausted):
        read(ScriptedStore([Reply(200, told, [b"abc"], RST)]), None)


def test_an_empty_object() -> None:
    """It has a head, and no block."""
    assert read(ScriptedStore([Reply(200, {**A, "content-length": "0"})]), 0) == b""


def test_a_part_tells_of_the_whole() -> None:
    """Total and digest of the object are in the head of a part, too."""
    md5 = "AAAAAAAAAAAAAAAAAAAAAA=="
    told = {"content-range": "bytes 2-3/6", "etag": '"a"', "repr-digest": f"md5=:{md5}:"}
    with closing(Body(ScriptedStore([Reply(206, told, [b"cd"])]), FAST, Slice(2, 2))) as body:
        about, _ = body.open()
        assert (about.total, [d.algorithm for d in about.digests]) == (6, ["md5"])
        assert b"".join(map(bytes, body.blocks(2))) == b"cd"


def test_the_end_that_was_promised_is_the_only_one() -> None:
    """A transfer that is content with less than was promised is not."""
    store = ScriptedStore([Reply(200, {**A, "content-length": "3"}, [b"abc"])])
    with pytest.raises(Integrity):
        read(store, 6)


def test_head_is_asked_until_it_answers() -> None:
    """Drops and busy answers are waited out, a refusal is not; credentials are renewed once."""
    store = ScriptedStore([RST, Reply(503), Reply(200, A)])
    assert head(store, FAST)[0].total == 6
    assert store.asked == ["HEAD"] * 3
    with pytest.raises(Exhausted, match="503"):
        head(ScriptedStore([RST, RST, Reply(503, {"retry-after": "1"})]), FAST)
    with pytest.raises(Refused) as caught:
        head(ScriptedStore([Reply(404)]), FAST)
    assert caught.value.status == 404
    again = ScriptedStore([Reply(401), Reply(200, A)], renewals=[True])
    assert head(again, FAST)[0].etag == '"a"'
    assert again.asked == ["HEAD", "RENEW", "HEAD"]
    with pytest.raises(Refused):
        head(ScriptedStore([Reply(401), Reply(401)], renewals=[True, True]), FAST)
