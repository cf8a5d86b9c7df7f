"""Header fields written in unusual but legal (or once legal) ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import AtHead


def _odd(name: str) -> str:
    return "".join(c.upper() if i % 2 else c.lower() for i, c in enumerate(name))


@dataclass(frozen=True)
class Restyle(AtHead):
    """Write every field name in upper, lower or alternating case, or fold each value onto a second line.

    Names are case-insensitive (RFC 9110 section 5.1); folding is obsolete (RFC 9112 section 5.2), so a
    client may refuse it, but must not mistake it.
    """

    id: ClassVar[str] = "restyle"
    summary: ClassVar[str] = "field names in odd casing, or values folded over two lines"
    takes: ClassVar[str] = "upper|lower|odd|fold"
    example: ClassVar[str] = "get_object#1 restyle@head:odd"
    grounds: ClassVar[tuple[str, ...]] = ("H16",)

    style: str

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in ("upper", "lower", "odd", "fold"):
            raise ValueError(f"restyle takes upper, lower, odd or fold, not {value!r}")
        return cls(value)

    @property
    def value(self) -> str:
        return self.style

    def _edit(self, context: Context) -> Head:
        if self.style == "fold":
            fields = [(n, f"\r\n {v}") for n, v in context.head.fields]
        else:
            change = {"upper": str.upper, "lower": str.lower, "odd": _odd}[self.style]
            fields = [(change(n), v) for n, v in context.head.fields]
        return Head(context.head.line, fields)

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit),)


MEMBER = Restyle
