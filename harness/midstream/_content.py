"""Objects whose every byte says where it comes from.

Byte *i* of generation *g* is a function of (seed, g, i). An object is a row of records of 32 symbols:

    20 drawn for record and block · 8 for the block's number · 3 for the record in its block · sync

Every generation writes with symbols of its own, disjoint from those of the others, so each byte alone tells
its generation, and any 63 consecutive bytes hold a whole record and so tell their offset. The numbers are
masked, so that two records have no more bytes in common than chance has it: where a copy joins is told to the
byte, or, once in sixteen times, to the byte beside it that is equal. The drawn symbols vouch for the numbers:
with one changed, a record is that of no place at all. A wrong byte in a sink is therefore never only
"different": it is byte 4096 of generation 2, or zero, or foreign.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

RECORD = 32
TELLS_OFFSET = 2 * RECORD - 1  # so many consecutive bytes hold a whole record, wherever they begin
BLOCK_RECORDS = 4096  # 16**3: three digits tell a record from the others of its block
BLOCK = RECORD * BLOCK_RECORDS
DRAWN, NUMBER, SLOT, SYNC = 0, 20, 28, 31  # where the parts of a record start
LOW_DIGIT = bytes(i & 15 for i in range(256))
SYNC_DIGIT = 16

# One row a generation: sixteen digits, then the sync symbol. 5 x 17 = 85 of the 94 printable characters.
ALPHABETS = (
    b"0123456789abcdef:",
    b"ghijklmnopqrstuv;",
    b"ABCDEFGHIJKLMNOP!",
    b"QRSTUVWXYZwxyz@#%",
    b"\"$&'()*+,-./<=>?^",
)
GENERATIONS = len(ALPHABETS)
_TO_SYMBOLS = tuple(alphabet.ljust(256, b"\0") for alphabet in ALPHABETS)


@dataclass(frozen=True)
class _Pattern:
    """What is the same in all blocks of a seed, in digits 0 to 15 (16: sync)."""

    digits: bytes
    number: int  # the same, as one number, so that a block is made by one exclusive or
    slots: dict[bytes, int]  # the record in its block, by its three digits


@lru_cache(maxsize=16)
def _pattern(seed: int) -> _Pattern:
    draw = random.Random(f"midstream content {seed}")
    digits = bytearray(draw.randbytes(BLOCK).translate(LOW_DIGIT))
    keys = array("I", draw.randbytes(4 * BLOCK_RECORDS))
    names = sorted(range(BLOCK_RECORDS), key=keys.__getitem__)
    for place in range(3):
        digits[SLOT + place :: RECORD] = bytes(n >> (8 - 4 * place) & 15 for n in names)
    digits[SYNC::RECORD] = bytes([SYNC_DIGIT]) * BLOCK_RECORDS
    slots = {bytes(digits[i * RECORD + SLOT : i * RECORD + SYNC]): i for i in range(BLOCK_RECORDS)}
    return _Pattern(bytes(digits), int.from_bytes(digits, "big"), slots)


@lru_cache(maxsize=64)
def _block(seed: int, generation: int, index: int) -> bytes:
    if not 1 <= generation <= GENERATIONS:
        raise ValueError(f"generation {generation}: 1 to {GENERATIONS} can be told apart")
    drawn = random.Random(f"midstream block {seed} {index}").randbytes(NUMBER).translate(LOW_DIGIT)
    number = bytes(index >> (28 - 4 * place) & 15 for place in range(8))
    mask = int.from_bytes((drawn + number + bytes(RECORD - SLOT)) * BLOCK_RECORDS, "big")
    digits = (_pattern(seed).number ^ mask).to_bytes(BLOCK, "big")
    return digits.translate(_TO_SYMBOLS[generation - 1])


@dataclass(frozen=True)
class Content:
    """One generation of one object: `size` bytes, any slice of which can be had without the rest.

    Bytes before `joint` are still those of the generation before, as in a large object of which only the last
    segment is new.
    """

    size: int
    seed: int = 0
    generation: int = 1
    joint: int = 0

    def read(self, start: int, length: int) -> bytes:
        """Bytes [start, start + length), clamped to the object."""
        end = min(start + max(length, 0), self.size)
        if start >= end:
            return b""
        if start < self.joint:
            before = replace(self, generation=(self.generation - 2) % GENERATIONS + 1, joint=0)
            middle = min(self.joint, end)
            return before.read(start, middle - start) + self.read(middle, end - middle)
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
        b"[%s]{%d}%s" % (b"".join(re.escape(a[i : i + 1]) for i in range(16)), SYNC, re.escape(a[16:]))
        for a in ALPHABETS
    )
)
_TO_DIGITS = {a[16]: (i + 1, bytes.maketrans(a[:16], bytes(range(16)))) for i, a in enumerate(ALPHABETS)}
_LOOK = 1 << 16


def _anchor(window: bytes, at: int, seed: int) -> tuple[int, int, int] | None:
    """The first whole record in `window` from `at` on: (position, generation, object offset)."""
    found = _WHOLE_RECORD.search(window, at)
    if not found:
        return None
    generation, table = _TO_DIGITS[found.group()[SYNC]]
    record = found.group().translate(table)
    pattern = _pattern(seed)
    slot = pattern.slots[record[SLOT:SYNC]]
    masks = pattern.digits[slot * RECORD + NUMBER : slot * RECORD + SLOT]
    index = 0
    for digit, mask in zip(record[NUMBER:SLOT], masks, strict=True):
        index = index << 4 | digit ^ mask
    return found.start(), generation, (index * BLOCK_RECORDS + slot) * RECORD


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
    while anchor := _anchor(window, look, seed):
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
