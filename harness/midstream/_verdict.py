"""The words of a verdict: what there is to say, and everything that it is said from.

`midstream._judge` computes it; checks and reports need the words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from midstream._content import Run
from midstream._evidence import Facts


class Verdict(StrEnum):
    """What a case proves. The docs define each in one sentence; `MEANING` holds them."""

    PASS = "pass"
    RESTARTED = "restarted"
    NEEDLESS_FAILURE = "needless_failure"
    CLEAN_FAILURE = "clean_failure"
    TRUNCATED = "truncated"
    DUPLICATED = "duplicated"
    HOLE = "hole"
    SHIFTED = "shifted"
    SPLICED = "spliced"
    FOREIGN = "foreign"
    CORRUPT = "corrupt"
    HANG = "hang"
    RETRY_STORM = "retry_storm"
    LEAK = "leak"
    CRASH = "crash"
    UNSAFE = "unsafe"
    OBSERVED = "observed"
    NOT_APPLICABLE = "not_applicable"
    NOT_REACHED = "not_reached"
    HARNESS_ERROR = "harness_error"


MEANING: dict[Verdict, str] = {
    Verdict.PASS: "The driver reported success and its file is the object, byte for byte.",
    Verdict.RESTARTED: "The file is exact, but the driver fetched again more than it had to.",
    Verdict.NEEDLESS_FAILURE: "The driver gave a clean error where it could and should have completed.",
    Verdict.CLEAN_FAILURE: "The driver gave an error that is right here, and published nothing wrong.",
    Verdict.TRUNCATED: "The driver reported success with only a first part of the object.",
    Verdict.DUPLICATED: "The driver reported success with some of the object's bytes twice.",
    Verdict.HOLE: "The driver reported success with a part of the object missing or zero, the rest in place.",
    Verdict.SHIFTED: "The driver reported success with bytes left out and what follows moved up.",
    Verdict.SPLICED: "The driver reported success with parts of two generations of the object in one file.",
    Verdict.FOREIGN: "The driver reported success with bytes in the file that no generation has.",
    Verdict.CORRUPT: "The driver reported success with single bytes of the object changed or out of order.",
    Verdict.HANG: "The driver neither finished nor failed before the deadline and was killed.",
    Verdict.RETRY_STORM: "The driver sent far more requests than any recovery needs.",
    Verdict.LEAK: "The driver left a partial object under the final name, or a temporary file after success.",
    Verdict.CRASH: "The driver's process died of a signal or without a word.",
    Verdict.UNSAFE: "The result is right this time, but a request broke a rule that protects it.",
    Verdict.OBSERVED: "The standards leave this open; what the driver did is recorded.",
    Verdict.NOT_APPLICABLE: "This store, driver or injector cannot take part in the scenario.",
    Verdict.NOT_REACHED: "The driver never made the request that the fault waits for, and did nothing wrong.",
    Verdict.HARNESS_ERROR: "The harness could not do what it promised; nothing is said about the driver.",
}
FINE = frozenset(
    {Verdict.PASS, Verdict.CLEAN_FAILURE, Verdict.OBSERVED, Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED}
)
# These break a MUST whatever the scenario asks: wrong bytes under the final name are never all right.
ALWAYS_MUST = frozenset(
    {
        Verdict.TRUNCATED,
        Verdict.DUPLICATED,
        Verdict.HOLE,
        Verdict.SHIFTED,
        Verdict.SPLICED,
        Verdict.FOREIGN,
        Verdict.CORRUPT,
        Verdict.HANG,
        Verdict.LEAK,
        Verdict.CRASH,
    }
)


@dataclass(frozen=True)
class Expectation:
    """What the scenario asks for; see `midstream._model.Expect`."""

    kind: str = "must"
    outcome: str = "complete"
    restart: bool = False
    refetch: int = 1 << 20
    requests: int = 40
    generations: tuple[int, ...] = (1,)  # a complete object may be any one of these
    orphans: bool = False  # whether unfinished uploads may stay
    objects: tuple[tuple[int, int], ...] = ()  # and has one of these (generation, size); () : object_size


@dataclass(frozen=True)
class Outcome:
    """The driver's own word: `said` is ok, failed, hang or crash; `error` its message.

    `not run` stands in results of cases that never came to the driver.
    """

    said: str
    error: str = ""
    seconds: float = 0.0
    peak_kib: int = 0  # the driver's peak resident memory during the job; 0: not measured


@dataclass(frozen=True)
class Sink:
    """What lies where the driver was to write.

    `runs` tell where each byte under the final name comes from (empty when there is no file); `leftovers` are
    names of other files beside it. `lost` says that what was under the final name before the case is gone,
    `unreadable` why a store has an object there that it cannot give.
    """

    exists: bool
    size: int = 0
    runs: tuple[Run, ...] = ()
    leftovers: tuple[str, ...] = ()
    lost: bool = False
    unreadable: str = ""


@dataclass(frozen=True)
class Finding:
    """What one check has to say: a verdict it asks for, its level, and why."""

    verdict: Verdict
    level: str
    text: str


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    level: str  # must, should, observe, "" when nothing is broken, harness
    diagnosis: str

    @property
    def breaks_must(self) -> bool:
        return self.level == "must"


@dataclass(frozen=True)
class Seen:
    """Everything a verdict is computed from."""

    expect: Expectation
    outcome: Outcome
    sink: Sink
    facts: Facts
    object_size: int
    specs: Sequence[str] = ()
    control: str = "pass"  # or what is to be said of the control case without faults
    findings: Sequence[Finding] = field(default=())
    harmed: bool = False  # a fault ends servers behind the store: from then on its errors are asked for
    upload: bool = False  # `sink` is then what the store holds under the object's name
    published: Sequence[Sink] = ()  # and this what it held each time it said that it had published one
    orphans: Sequence[str] = ()  # and this what uploads left there that belongs to no object
    replaces: str = ""  # uploads: the path of an older object that the driver is to replace
    total: int = -1  # the whole object's size, where `object_size` is that of the part asked for

    @property
    def whole(self) -> int:
        """The size of the whole object, the largest of those it had."""
        return max([self.object_size, self.total, *(size for _, size in self.expect.objects)])


def numbers(n: int) -> str:
    return f"{n:,}"
