"""Objects that tell where each byte comes from, and sinks explained by it."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midstream._content import ALPHABETS, BLOCK, FOREIGN, GENERATIONS, RECORD, ZERO, Content, Run, explain

SEED = 7
SIZE = 3 * BLOCK + 12_345


def runs_of(sink: bytes, seed: int = SEED, **options: int) -> list[Run]:
    return explain(lambda start, length: sink[start : start + length], len(sink), seed, **options)


def check(sink: bytes, runs: list[Run], seed: int = SEED) -> None:
    """The runs cover the sink without gaps, and each byte they claim is what they say."""
    at = 0
    for run in runs:
        assert run.start == at < run.end
        at = run.end
        piece = sink[run.start : run.end]
        if run.source > 0:
            assert piece == Content(1 << 43, seed, run.source).read(run.origin, run.length)
        elif run.source == ZERO:
            assert piece == bytes(run.length)
    assert at == len(sink)
    for one, two in itertools.pairwise(runs):
        assert (one.source, one.end - one.start + one.origin) != (two.source, two.origin) or one.source <= 0


def part(start: int, end: int, generation: int = 1) -> bytes:
    return Content(1 << 43, SEED, generation).read(start, end - start)


def test_no_symbol_belongs_to_two_generations() -> None:
    """Every byte alone tells its generation, since the alphabets share no symbol."""
    symbols = b"".join(ALPHABETS)
    assert len(set(symbols)) == len(symbols) == 17 * GENERATIONS
    assert all(33 <= symbol <= 126 for symbol in symbols)


@given(
    start=st.integers(0, SIZE),
    length=st.integers(0, 2 * BLOCK),
    one=st.integers(1, GENERATIONS),
    two=st.integers(1, GENERATIONS),
)
@settings(max_examples=50, deadline=None)
def test_every_byte_differs_between_generations(start: int, length: int, one: int, two: int) -> None:
    """No position holds the same byte in two generations."""
    if one == two:
        return
    a, b = (int.from_bytes(Content(SIZE, SEED, g).read(start, length)) for g in (one, two))
    mixed = (a ^ b).to_bytes(min(length, max(0, SIZE - start)))
    assert 0 not in mixed


@given(start=st.integers(-5, SIZE + 5), length=st.integers(-5, SIZE), generation=st.integers(1, GENERATIONS))
@settings(max_examples=100, deadline=None)
def test_a_slice_is_a_slice_of_the_whole(start: int, length: int, generation: int) -> None:
    """Any slice equals the same slice of the whole object, clamped to it."""
    content = Content(SIZE, SEED, generation)
    start, length = max(0, start), max(-1, length)
    assert content.read(start, length) == content.whole()[start : start + max(0, length)]


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD, BLOCK, BLOCK + 1, 8 * BLOCK + 5])
def test_blocks_are_the_whole(size: int) -> None:
    """The blocks joined are the object, however they are cut."""
    content = Content(size, SEED)
    assert b"".join(content.blocks()) == b"".join(content.blocks(1000)) == content.whole()
    assert len(content.whole()) == size


@pytest.mark.parametrize("generation", [1, 2, GENERATIONS])
@pytest.mark.parametrize("joint", [0, 1, 300, 999, 1000])
def test_an_object_of_two_generations(generation: int, joint: int) -> None:
    """Before the joint are the bytes of the generation before, wherever a slice begins and ends."""
    before = Content(1000, 7, (generation - 2) % GENERATIONS + 1)
    new = Content(1000, 7, generation)
    both = Content(1000, 7, generation, joint)
    assert both.whole() == before.read(0, joint) + new.read(joint, 1000)
    for start, length in ((0, 300), (299, 2), (300, 5), (10, 2000), (1000, 1), (5, 0)):
        assert both.read(start, length) == both.whole()[start : start + length]


def test_seeds_give_other_bytes() -> None:
    """Objects of two seeds differ, those of one seed do not."""
    assert Content(5000, 1).whole() == Content(5000, 1).whole() != Content(5000, 2).whole()


@pytest.mark.parametrize("generation", [0, -1, GENERATIONS + 1])
def test_refuses_generations_it_cannot_tell(generation: int) -> None:
    """A generation without an alphabet of its own is refused."""
    with pytest.raises(ValueError, match="can be told apart"):
        Content(10, 0, generation).whole()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 31, 32, 62, 63, 64, 1000, BLOCK, BLOCK + 1, SIZE])
@pytest.mark.parametrize("generation", [1, 2, GENERATIONS])
def test_an_exact_object_is_one_run(size: int, generation: int) -> None:
    """A whole object of any size is one run from offset 0."""
    sink = Content(size, SEED, generation).whole()
    assert runs_of(sink) == ([Run(0, size, generation, 0)] if size else [])


@pytest.mark.parametrize("cut", [1, 5, 31, 33, 1000, BLOCK - 1, BLOCK, SIZE - 1])
def test_truncation(cut: int) -> None:
    """A truncated object is its first bytes, one run."""
    assert runs_of(part(0, cut)) == [Run(0, cut, 1, 0)]


@pytest.mark.parametrize("at", [64, 100, 4096, BLOCK, BLOCK + 7])
def test_a_restart_from_zero_after_bytes_that_were_kept(at: int) -> None:
    """Bytes twice: a second run whose origin is 0."""
    sink = part(0, at) + part(0, SIZE)
    runs = runs_of(sink)
    check(sink, runs)
    assert [r.source for r in runs] == [1, 1]
    assert runs[1].start - runs[1].origin == at
    assert runs[1].origin <= 16  # symbols of the second run may agree with the first one's by chance


@pytest.mark.parametrize(
    ("start", "end"), [(0, 100), (1000, 1001), (4096, 8192), (100, 3 * BLOCK), (5, SIZE)]
)
def test_a_hole_of_zeros(start: int, end: int) -> None:
    """Zeros in the object's place are one zero run, the rest stays where it is."""
    sink = part(0, start) + bytes(end - start) + part(end, SIZE)
    want = [Run(0, start, 1, 0), Run(start, end, ZERO), Run(end, SIZE, 1, end)]
    assert runs_of(sink) == [run for run in want if run.length]


def test_a_hole_behind_foreign_bytes() -> None:
    """Zeros after an error page are told as zeros, not as part of the page."""
    page = b"<html><body>503 Service Unavailable</body></html>\n"
    for hole in (4096, 3 << 16):
        sink = part(0, 1000) + page + bytes(hole) + part(1000 + len(page) + hole, SIZE)
        runs = runs_of(sink)
        check(sink, runs)
        assert [r.source for r in runs if r.length > 10] == [1, FOREIGN, ZERO, 1]
        assert next(r for r in runs if r.source == ZERO).length == hole


@pytest.mark.parametrize(("at", "lost"), [(64, 1), (1000, 16_384), (4096, 32), (BLOCK, BLOCK)])
def test_a_shift(at: int, lost: int) -> None:
    """Bytes left out: what follows has an origin further on."""
    sink = part(0, at) + part(at + lost, SIZE)
    runs = runs_of(sink)
    check(sink, runs)
    assert [r.source for r in runs] == [1, 1]
    assert runs[1].origin - runs[1].start == lost
    assert abs(runs[1].start - at) <= 16


@pytest.mark.parametrize("at", [0, 4, 33, 5000, 2 * BLOCK + 3, SIZE - 40])
def test_a_splice(at: int) -> None:
    """Two generations in their places: the boundary is exact (from 4 bytes on; fewer prove no origin)."""
    sink = part(0, at) + part(at, SIZE, 2)
    assert runs_of(sink) == [r for r in (Run(0, at, 1, 0), Run(at, SIZE, 2, at)) if r.length]


@pytest.mark.parametrize("at", [0, 1000, BLOCK, SIZE])
def test_foreign_bytes_inside(at: int) -> None:
    """An error page between two parts is foreign, to the byte, and the parts keep their origins."""
    page = b"<Error>\xff\xfe" * 7
    sink = part(0, at) + page + part(at, SIZE)
    want = [Run(0, at, 1, 0), Run(at, at + len(page), FOREIGN), Run(at + len(page), SIZE + len(page), 1, at)]
    assert runs_of(sink) == [r for r in want if r.length]


@given(at=st.integers(0, SIZE - 1), bit=st.integers(0, 7))
@example(at=SIZE - 1, bit=0)
@example(at=SIZE - 20, bit=4)
@example(at=2, bit=0)
@example(at=10, bit=4)
@settings(max_examples=200, deadline=None)
def test_a_flipped_bit(at: int, bit: int) -> None:
    """One flipped bit is one foreign byte (or one zero), never a splice, wherever it is."""
    sink = bytearray(part(0, SIZE))
    sink[at] ^= 1 << bit
    runs = runs_of(bytes(sink))
    want = [
        Run(0, at, 1, 0),
        Run(at, at + 1, ZERO if sink[at] == 0 else FOREIGN),
        Run(at + 1, SIZE, 1, at + 1),
    ]
    assert runs == [r for r in want if r.length]


def test_a_flip_into_another_generation_s_symbol() -> None:
    """Flipping bit 4 of a hex letter gives generation 2's symbol there; one byte proves no splice."""
    sink = bytearray(part(0, 5000))
    at = next(i for i in range(2000, 5000) if sink[i : i + 1] in (b"a", b"b", b"c"))
    sink[at] ^= 16
    assert bytes(sink[at : at + 1]) == part(at, at + 1, 2)
    assert [r.source for r in runs_of(bytes(sink))] == [1, FOREIGN, 1]


@pytest.mark.parametrize("unit", [64, 4096, BLOCK])
def test_swapped_blocks(unit: int) -> None:
    """Two blocks in each other's place are told by their origins."""
    sink = part(0, unit) + part(2 * unit, 3 * unit) + part(unit, 2 * unit) + part(3 * unit, SIZE)
    runs = [r for r in runs_of(sink) if r.length > 16]
    check(sink, runs_of(sink))
    assert [round((r.origin - r.start) / unit) for r in runs] == [0, 1, -1, 0]


def test_a_run_that_begins_where_a_window_ends() -> None:
    """Foreign bytes longer than a look-ahead end where the object goes on, also within its last record."""
    noise = random.Random(1).randbytes(1 << 17).replace(b"\0", b"\1")
    for length in ((1 << 16) - 40, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 17):
        sink = noise[:length] + part(1000, 9000)
        runs = runs_of(sink)
        check(sink, runs)
        assert runs[-1].source == 1
        assert runs[-1].start - runs[-1].origin == length - 1000
        assert abs(runs[-1].start - length) <= 16


def test_another_seed_is_foreign() -> None:
    """Records of another object count alike, but what the seed draws in them is foreign."""
    sink = part(0, 480) + Content(SIZE, SEED + 1).read(480, 960) + part(1440, 9000)
    runs = runs_of(sink)
    check(sink, runs)
    assert runs[-1].end == 9000
    assert abs(runs[-1].start - 1440) <= 3  # a byte beside the seam may be equal by chance
    assert sum(r.length for r in runs if r.source == FOREIGN) > 500


def test_noise_stays_readable() -> None:
    """After `limit` runs the rest is one foreign run."""
    sink = b"".join(part(i * 640, i * 640 + 128) for i in range(50))
    runs = runs_of(sink, limit=10)
    check(sink, runs)
    assert len(runs) <= 11
    assert runs[-1].source == FOREIGN


pieces = st.one_of(
    st.tuples(st.integers(1, GENERATIONS), st.integers(0, SIZE), st.integers(1, 3000)),
    st.tuples(st.just(ZERO), st.just(0), st.integers(1, 3000)),
    st.tuples(st.just(FOREIGN), st.integers(0, 1 << 30), st.integers(1, 3000)),
)


@given(st.lists(pieces, min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_sink_is_explained(plan: list[tuple[int, int, int]]) -> None:
    """Known runs spliced together: the runs found cover the sink and are true, and no long run is missed."""
    sink, where = b"", []
    for source, origin, length in plan:
        if source > 0:
            piece = part(origin, origin + length, source)
        elif source == ZERO:
            piece = bytes(length)
        else:
            piece = random.Random(origin).randbytes(length)
        where.append((len(sink), len(sink) + length, source, origin))
        sink += piece
    runs = runs_of(sink)
    check(sink, runs)
    if len(runs) >= 64:
        return
    for start, end, source, origin in where:
        if source > 0 and end - start >= 2 * RECORD:
            # 63 bytes hold a whole record; up to 16 symbols at either edge may be shared with a neighbour.
            middle = [r for r in runs if r.source == source and r.origin - r.start == origin - start]
            covered = sum(max(0, min(r.end, end) - max(r.start, start)) for r in middle)
            assert covered >= end - start - 32, (start, end, source, runs)
        if source == ZERO and end - start >= 2 * RECORD:
            zero = sum(max(0, min(r.end, end) - max(r.start, start)) for r in runs if r.source == ZERO)
            assert zero == end - start


def test_large_sinks_are_read_in_pieces() -> None:
    """64 MiB are explained without holding them: at most a few MiB at once, each byte read about once."""
    content = Content(64 << 20, SEED)
    other = Content(64 << 20, SEED, 2)
    asked = 0

    def read(start: int, length: int) -> bytes:
        nonlocal asked
        data = content.read(start, length)
        asked += len(data)
        if start <= 50_000_000 < start + length:
            data = content.read(start, 50_000_000 - start) + other.read(
                50_000_000, start + length - 50_000_000
            )
            return data[:length]
        return content.read(start, length) if start < 50_000_000 else other.read(start, length)

    tracemalloc.start()
    try:
        runs = explain(read, content.size, SEED)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert runs == [Run(0, 50_000_000, 1, 0), Run(50_000_000, 64 << 20, 2, 50_000_000)]
    assert asked < content.size * 1.2
    assert peak < 32 << 20
