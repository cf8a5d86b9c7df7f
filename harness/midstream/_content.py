"""Objects whose every byte says where it comes from.

Byte *i* of generation *g* is a function of (seed, g, i). An object is a row of records of 32 bytes:

    sync · 11 digits of the record's number · 8 digits drawn for its block · 12 digits drawn for it

Every generation writes with symbols of its own, disjoint from those of the others, so each byte alone tells
its generation, and any 63 consecutive bytes hold a whole record and so tell their offset. The drawn digits
vouch for the number: with a digit of it changed, a record is that of no place at all. A wrong byte in a sink
is therefore never only "different": it is byte 4096 of generation 2, or zero, or foreign.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

RECORD = 32
DIGITS = 11
BLOCK_RECORDS = 4096  # 16**3: the low three digits run through a block, the high eight are the same in it
BLOCK = RECORD * BLOCK_RECORDS
HIGH, DRAWN = b" " * (DIGITS - 3), b"_" * 8  # what a block fills in: symbols no alphabet has

# One row a generation: sixteen digits, then the sync symbol. 5 x 17 = 85 of the 94 printable characters.
ALPHABETS = (
    b"0123456789abcdef:",
    b"ghijklmnopqrstuv;",
    b"ABCDEFGHIJKLMNOP!",
    b"QRSTUVWXYZwxyz@#%",
    b"\"$&'()*+,-./<=>?^",
)
GENERATIONS = len(ALPHABETS)


def _alphabet(generation: int) -> bytes:
    if not 1 <= generation <= GENERATIONS:
        raise ValueError(f"generation {generation}: 1 to {GENERATIONS} can be told apart")
    return ALPHABETS[generation - 1]


@lru_cache(maxsize=32)
def _template(seed: int, generation: int) -> bytes:
    """One block with the digits left open that differ from block to block."""
    alphabet = _alphabet(generation)
    draw = random.Random(f"midstream content {seed}")
    to_symbols = bytes.maketrans(b"0123456789abcdef", alphabet[:16])
    rows = []
    for record in range(BLOCK_RECORDS):
        low, drawn = (
            digits.translate(to_symbols) for digits in (b"%03x" % record, b"%012x" % draw.getrandbits(48))
        )
        rows.append(alphabet[16:] + HIGH + low + DRAWN + drawn)
    return b"".join(rows)


@lru_cache(maxsize=64)
def _block(seed: int, generation: int, index: int) -> bytes:
    alphabet = _alphabet(generation)
    to_symbols = bytes.maketrans(b"0123456789abcdef", alphabet[:16])
    drawn = b"%08x" % random.Random(f"midstream block {seed} {index}").getrandbits(32)
    block = _template(seed, generation).replace(HIGH, (b"%08x" % index).translate(to_symbols))
    return block.replace(DRAWN, drawn.translate(to_symbols))


@dataclass(frozen=True)
class Content:
    """One generation of one object: `size` bytes, any slice of which can be had without the rest."""

    size: int
    seed: int = 0
    generation: int = 1

    def read(self, start: int, length: int) -> bytes:
        """Bytes [start, start + length), clamped to the object."""
        end = min(start + max(length, 0), self.size)
        if start >= end:
            return b""
        first, last = start // BLOCK, (end - 1) // BLOCK
        if first == last:
            block = _block(self.seed, self.generation, first)
            return block[start - first * BLOCK : end - first * BLOCK]
        parts = [_block(self.seed, self.generation, i) for i in range(first, last + 1)]
        parts[0] = parts[0][start - first * BLOCK :]
        parts[-1] = parts[-1][: end - last * BLOCK]
        return b"".join(parts)

    def blocks(self, chunk: int = 8 * BLOCK) -> Iterator[bytes]:
        """The whole object in order, `chunk` bytes at a time."""
        for start in range(0, self.size, chunk):
            yield self.read(start, chunk)

    def whole(self) -> bytes:
        return self.read(0, self.size)


@dataclass(frozen=True)
class Run:
    """Bytes [start, end) of a sink and where they come from.

    `source` is a generation number, 0 for zero bytes and -1 for bytes no generation wrote; `origin` is the
    object offset of the run's first byte (meaningless for zero and foreign runs).
    """

    start: int
    end: int
    source: int
    origin: int = 0

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def line(self) -> tuple[int, int]:
        """Generation and shift: runs of one line are parts of one copy of the object."""
        return self.source, self.origin - self.start


ZERO, FOREIGN = 0, -1
# Fewer bytes than this prove no origin, unless they go on where a neighbour stopped: flipping one bit turns
# some symbols of one generation into the very symbol another one has there.
TELLING = 4
_WHOLE_RECORD = re.compile(
    b"|".join(
        b"%s[%s]{%d}" % (re.escape(a[16:]), b"".join(re.escape(a[i : i + 1]) for i in range(16)), RECORD - 1)
        for a in ALPHABETS
    )
)
_TO_HEX = {a[16]: (i + 1, bytes.maketrans(a[:16], b"0123456789abcdef")) for i, a in enumerate(ALPHABETS)}
_LOOK = 1 << 16


def _anchor(window: bytes, at: int) -> tuple[int, int, int] | None:
    """The first whole record in `window` from `at` on: (position, generation, object offset)."""
    found = _WHOLE_RECORD.search(window, at)
    if not found:
        return None
    record = found.group()
    generation, table = _TO_HEX[record[0]]
    return found.start(), generation, int(record[1 : 1 + DIGITS].translate(table), 16) * RECORD


def _common(a: bytes, b: bytes) -> int:
    """Length of the common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n
    while low < high:  # invariant: a[:low] == b[:low], and they differ somewhere in [low, high]
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def explain(
    read: Callable[[int, int], bytes], size: int, seed: int, limit: int = 64, object_size: int = 1 << 43
) -> list[Run]:
    """Tell where every byte of a sink comes from.

    `read(start, length)` gives bytes of the sink, `size` is how many it has; `object_size` bounds how far a
    generation can reach. Runs come in order and cover the sink without gaps; after `limit` runs the rest is
    one foreign run, so that noise stays readable.
    """
    runs: list[Run] = []
    at = 0
    while at < size:
        if len(runs) >= limit:
            runs.append(Run(at, size, FOREIGN))
            break
        known = next((run for run in reversed(runs) if run.source > 0), None)
        run = _next_run(read, at, size, seed, known, object_size)
        if runs and run.source == FOREIGN == runs[-1].source:
            runs[-1] = Run(runs[-1].start, run.end, FOREIGN)
        else:
            runs.append(run)
        at = run.end
    return runs


def _extend(read: Callable[[int, int], bytes], at: int, size: int, content: Content, origin: int) -> int:
    """How far the sink from `at` follows `content` from `origin`."""
    end = at
    while end < size:
        want = content.read(origin + end - at, min(8 * BLOCK, size - end))
        same = _common(read(end, len(want)), want) if want else 0
        end += same
        if not want or same < len(want):
            break
    return end


def _next_run(
    read: Callable[[int, int], bytes], at: int, size: int, seed: int, known: Run | None, object_size: int
) -> Run:
    """The run that starts at `at`; `known` is the last one before it that a generation wrote."""
    # Likeliest first: the same offset of some generation, so that short runs at their right place, which
    # hold no whole record, are told too.
    guesses = [(g, at) for g in range(1, GENERATIONS + 1)]
    if known:
        guesses.insert(0, (known.source, known.origin + at - known.start))
    best: Run | None = None
    for generation, origin in guesses:
        if origin >= object_size:
            continue
        probe = read(at, 64)
        if _common(probe, Content(object_size, seed, generation).read(origin, len(probe))):
            end = _extend(read, at, size, Content(object_size, seed, generation), origin)
            if best is None or end > best.end:
                best = Run(at, end, generation, origin)
    goes_on = bool(best and known and best.line == known.line)
    if best and (
        best.length >= RECORD or (best.end == size and (best.length >= TELLING or goes_on or not at))
    ):
        return best
    window = read(at, _LOOK)
    zeros = len(window) - len(window.lstrip(b"\0"))
    if zeros:
        end = at + zeros
        while end < size and zeros == len(window):
            window = read(end, _LOOK)
            zeros = len(window) - len(window.lstrip(b"\0"))
            end += zeros
        return Run(at, end, ZERO)
    # Foreign bytes reach at most to the next hole, and, where the window cuts a record in two, not into it.
    hole = window.find(bytes(RECORD))
    beyond = at + len(window) < size
    reach = hole if hole >= 0 else len(window) - (2 * RECORD - 2 if beyond else 0)
    look = 0
    while anchor := _anchor(window, look):
        position, generation, offset = anchor
        content = Content(object_size, seed, generation)
        if _common(window[position : position + RECORD], content.read(offset, RECORD)) < RECORD:
            look = position + 1  # looks like a record, but of another seed
            continue
        # The run may start inside the record before: walk back as far as the bytes agree.
        back = min(position, offset)
        before, want = window[position - back : position], content.read(offset - back, back)
        back = _common(before[::-1], want[::-1])
        if position == back:
            return Run(at, _extend(read, at, size, content, offset - back), generation, offset - back)
        reach = min(reach, position - back) if hole >= 0 else position - back
        goes_on = goes_on or bool(best and best.line == (generation, offset - position - at))
        break
    else:
        if known and hole < 0 and not beyond:  # the last bytes, too few for a record, may be in their place
            content = Content(object_size, seed, known.source)
            want = content.read(known.origin + at - known.start, reach)
            if len(want) == reach:
                reach -= min(_common(window[::-1], want[::-1]), reach - 1)
    if best and (goes_on or best.length >= max(reach, TELLING)):
        return best
    return Run(at, at + reach, FOREIGN)
