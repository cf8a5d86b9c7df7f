"""Changes made to an object while a response with it is under way, and what that response then delivers.

A response under way is one whose bytes the store has yet to read. What it has read before the change, up to
the send buffer of its socket and the receive buffer at the other end, arrives as it was in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from midstream._content import GENERATIONS, Content

if TYPE_CHECKING:
    from midstream.stores import RunningStore, Traits


class Delivers(StrEnum):
    """What comes after the change."""

    OLD = "old"  # the object as it was, to its end
    SHORT = "short"  # the object as it was up to where a segment starts, then the connection's end
    MIXED = "mixed"  # the object as it was up to where a segment starts, then as it is now, to its end


@dataclass(frozen=True)
class UnderWay:
    """What a response delivers whose object is changed, and what in the store makes it so."""

    delivers: Delivers
    source: str


def next_generation(content: Content) -> Content:
    return replace(content, generation=content.generation % GENERATIONS + 1, joint=0)


_REPLACED: Mapping[str, Callable[[Content], Content]] = {
    "same": next_generation,
    "shorter": lambda c: replace(next_generation(c), size=max(0, c.size - max(1, c.size // 4))),
    "longer": lambda c: replace(next_generation(c), size=c.size + max(1, c.size // 2)),
    "append": lambda c: replace(c, size=c.size + max(1, c.size // 2)),
}
CHANGES = (*_REPLACED, "delete", "lose-segment", "change-segment")
SEGMENT_CHANGES = ("lose-segment", "change-segment")
NOTHING_KNOWN: Mapping[str, UnderWay] = MappingProxyType({})


def change(running: RunningStore, key: str, content: Content, traits: Traits, action: str) -> Content | None:
    """Change an object that holds `content` in a way of `CHANGES`; what it holds now, None when nothing.

    A dynamic large object is what its segments are, so that another last one, or none, makes it another
    object. Of a static one the content stays what it should be: it is damaged. Raises UsageError for an
    object without segments, or that cannot be laid out in its new size.
    """
    if action in _REPLACED:
        content = _REPLACED[action](content)
        running.put(key, content, traits)
    elif action == "delete":
        running.delete(key)
        return None
    elif action == "lose-segment":
        first = running.lose_segment(key)
        return replace(content, size=first) if traits.layout == "dlo" else content
    elif action == "change-segment":
        first = running.change_segment(key)
        once = traits.layout == "dlo" and not content.joint  # changed again, it gets the same bytes
        return replace(next_generation(content), joint=first) if once else content
    else:
        raise ValueError(f"{action!r} is none of {', '.join(CHANGES)}")
    return content
