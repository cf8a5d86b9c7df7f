"""Plans: the offsets that one line of `vary` stands for."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from midstream._model import parse_size

MAX_VALUES = 1_000_000  # of one `vary` key: a plan is a line, and a slip in it must not fill the memory


def offsets(word: str, rest: str, size: int | None, seed: str) -> Sequence[int]:
    """The offsets a plan stands for; raises ValueError."""
    if word == "each":
        span = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", rest)
        if not span:
            raise ValueError("use each A-B with two numbers")
        return _bounded(range(int(span[1]), int(span[2]) + 1))
    if word == "around":
        middle = parse_size(rest)
        return [i for i in (middle - 1, middle, middle + 1) if i >= 0]
    if size is None:
        raise ValueError("needs an object of one size")
    if word == "boundaries":
        step = parse_size(rest)
        if step < 1:
            raise ValueError("a step is at least 1 byte")
        marks = {k + d for k in _bounded(range(step, size, step)) for d in (-1, 0, 1)}
        return sorted(m for m in marks if 0 < m < size)
    if not re.fullmatch(r"[0-9]{1,15}", rest):
        raise ValueError("use sample N with a number")
    count = min(int(rest), max(0, size - 1))
    return sorted(random.Random(seed).sample(range(1, size), len(_bounded(range(count)))))


def _bounded(values: range) -> range:
    if len(values) > MAX_VALUES:
        raise ValueError(f"{len(values)} values; {MAX_VALUES} are the most")
    return values
