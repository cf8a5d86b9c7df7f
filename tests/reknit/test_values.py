"""The pure helpers: ranges, validators, digests, waits, options."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reknit import CallerError, Options
from reknit._checksums import Digest, Hasher, available, crc32_of, offered, wanted
from reknit._ranges import ContentRange, parse_content_range, range_header
from reknit._representation import content_length
from reknit._retry import backoff
from reknit._validators import strong_etag
from reknit.stores import open_store


@given(st.integers(0, 10**15), st.integers(0, 10**9), st.integers(1, 10**9))
def test_content_range_round_trip(first: int, more: int, after: int) -> None:
    """What a correct server writes is read back."""
    last = first + more
    total = last + after
    assert parse_content_range(f"bytes {first}-{last}/{total}") == ContentRange(first, last, total)
    assert parse_content_range(f"bytes {first}-{last}/*") == ContentRange(first, last, None)
    assert parse_content_range(f"bytes */{total}") == ContentRange(-1, -1, total)


@pytest.mark.parametrize(
    "value",
    [None, "", "bytes 5-4/9", "bytes 0-9/9", "bytes */*", "bytes=0-1/2", "lines 0-1/2", "bytes 0-1",
     "bytes -1-2/3", "bytes 0-1/2, bytes 0-1/2", "bytes 0x0-1/2"],
)  # fmt: skip
def test_content_range_refuses(value: str | None) -> None:
    """§14.4: invalid values must not be recombined."""
    assert parse_content_range(value) is None


def test_a_transfer_coding_overrides_a_length() -> None:
    """RFC 9112 §6.3: both together say nothing about the length, and may be an attack."""
    assert content_length({"content-length": "5"}) == 5
    assert content_length({"content-length": "5", "transfer-encoding": "chunked"}) is None
    assert content_length({"content-length": "-5"}) is None


def test_range_header_is_never_empty_or_inverted() -> None:
    """P15."""
    assert range_header(3) == "bytes=3-"
    assert range_header(3, 3) == "bytes=3-3"
    with pytest.raises(ValueError, match="not a range"):
        range_header(3, 2)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ('"a"', '"a"'),
        ('W/"a"', None),
        ("", None),
        ("d41d8cd9", '"d41d8cd9"'),
        ('"a', None),
        ('a"b', None),
        ('""', '""'),
    ],
)
def test_strong_etag(value: str, tag: str | None) -> None:
    """§8.8.3: weak and malformed tags bind nothing; Swift's bare tag is strong."""
    assert strong_etag({"etag": value}) == tag


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "crc32", "crc32c", "crc64nvme"])
def test_hashers_take_slices(algorithm: str) -> None:
    """In slices as in one piece; the check values are those of the catalogues."""
    if not available(algorithm):
        pytest.skip("needs awscrt")
    known = {"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}
    one, other = Hasher(algorithm), Hasher(algorithm)
    one.update(memoryview(b"123456789"))
    for digit in b"123456789":
        other.update(bytes([digit]))
    assert one.hexdigest() == other.hexdigest()
    assert one.hexdigest() == known.get(algorithm, one.hexdigest())


def b64(name: str, data: bytes = b"x") -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


@pytest.mark.parametrize(
    ("headers", "algorithms"),
    [
        ({"content-md5": b64("md5")}, ["md5"]),
        ({"repr-digest": f"sha-256=:{b64('sha256')}:, md5=:{b64('md5')}:"}, ["sha256", "md5"]),
        ({"repr-digest": "sha-256=:AAAA:"}, []),
        ({"repr-digest": "unixsum=:AAAA:"}, []),
        ({"x-amz-checksum-sha256": b64("sha256")}, ["sha256"]),
        ({"x-amz-checksum-sha256": b64("sha256") + "-3"}, []),
        ({"x-amz-checksum-sha256": b64("sha256"), "x-amz-checksum-type": "COMPOSITE"}, []),
        ({"x-amz-checksum-crc32": "y/Q5Jg=="}, ["crc32"]),
        ({"etag": '"0cc175b9c0f1b6a831c399e269772661"'}, ["md5"]),
        ({"etag": '"0cc175b9c0f1b6a831c399e269772661-2"'}, []),
        ({"etag": '"short"'}, []),
    ],
)
def test_offered_digests(headers: dict[str, str], algorithms: list[str]) -> None:
    """P6: digests of the whole object, and only those."""
    assert [digest.algorithm for digest in offered(headers, etag_is_md5=True)] == algorithms


def test_an_etag_of_plain_http_is_no_digest() -> None:
    """Even when it looks like one."""
    assert offered({"etag": '"0cc175b9c0f1b6a831c399e269772661"'}, etag_is_md5=False) == ()


def test_the_strongest_is_verified() -> None:
    """One offered digest and the caller's."""
    offers = (Digest("md5", "00", "etag"), Digest("sha256", "11", "repr-digest"))
    expect = Digest("sha1", "22", "caller")
    assert [d.algorithm for d in wanted(offers, verify=True, expect=expect)] == ["sha1", "sha256"]
    assert wanted(offers, verify=False, expect=None) == ()


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_in_its_window(failures: int, roll: float) -> None:
    """Never negative, never above the cap, however many failures."""
    assert 0 <= backoff(failures, 0.5, 30, roll) < 30


@pytest.mark.parametrize(
    "bad",
    [
        {"idle_timeout": 0},
        {"buffer": 0},
        {"attempts": -1},
        {"expect": "md5"},
        {"expect": "sha256:12"},
        {"expect": "x:00"},
    ],
)
def test_options_are_checked_when_made(bad: dict[str, object]) -> None:
    """A bad option is the caller's error, before anything is fetched."""
    with pytest.raises(CallerError):
        Options(**bad)  # type: ignore[arg-type]


def test_sums_are_joined() -> None:
    """The CRC-32 of pieces in a row is that of the whole, wherever it is cut; unknown when one is."""
    data = bytes(range(256)) * 300
    for cuts in ((), (0,), (1,), (255, 40_000), (7, 7, 65_536, len(data))):
        ends = (0, *cuts, len(data))
        pieces = [data[a:b] for a, b in itertools.pairwise(ends)]
        assert crc32_of((zlib.crc32(piece), len(piece)) for piece in pieces) == zlib.crc32(data)
    assert crc32_of([(1, 1), (None, 1)]) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1/k", "file:///k"])
def test_a_setting_that_a_store_has_not(url: str) -> None:
    """A slip must not become a transfer of another kind than was meant."""
    with pytest.raises(CallerError, match="uplod"):
        open_store(url, Options(store={"uplod": "ietf"}))
