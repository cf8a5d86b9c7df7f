"""One case: object in, injector armed, driver run, evidence folded, verdict given."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from midstream._content import Content, Run, explain
from midstream._errors import MidstreamError
from midstream._evidence import REDACTED, Evidence, Facts, fold, redact_target
from midstream._scenario import Loaded, Scenario, Variant, load_text, parse_size, schedule_of
from midstream._schedule import Schedule
from midstream._verdict import Expectation, Judgement, Outcome, Seen, Sink, Verdict, judge, tidy
from midstream._workers import DriverProcess
from midstream.checks import run_all
from midstream.drivers import Driver, Job
from midstream.injectors import Plan, RunningInjector
from midstream.stores import RunningStore, Store, Traits

CONTROL = load_text(
    "control",
    """
requirement = "Without faults, the driver delivers the object through this injector from this store."
kind = "must"
properties = ["P5"]
object.size = 100003
expect.requests = 1000
expect.restart = true
""",
    "the control case",
)


def slug(text: str, limit: int = 40) -> str:
    """A name that is safe in file names, of `limit` characters at most; distinct texts stay distinct."""
    safe = re.sub(r"[^A-Za-z0-9._=%+-]+", "_", text).strip("_")
    if safe == text and len(safe) <= limit:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{safe[: limit - 13]}-{digest}"


def presentable(text: str, env: Mapping[str, str]) -> str:
    """What a driver said, fit for a report: no credentials of its job, no text that UTF-8 cannot hold."""
    for name, value in env.items():
        if len(value) >= 4 and re.search("SECRET|TOKEN|PASS|KEY", name, re.IGNORECASE):
            text = text.replace(value, REDACTED)
    return redact_target(text).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Case:
    """scenario x driver x store x injector x concrete offset and seed."""

    scenario: Loaded
    variant: Variant
    driver: Driver
    driver_version: str
    store: Store
    injector: str
    seed: int
    folder: str = ""  # where the scenario's file is, when it is not a bundled one

    @property
    def id(self) -> str:
        variant = f"[{self.variant.name}]" if self.variant.values else ""
        return f"{self.scenario.id}{variant}:{self.driver.id}:{self.store.id}:{self.injector}"

    @property
    def file_name(self) -> str:
        variant = f".{self.variant.name.replace(';', '.')}" if self.variant.values else ""
        parts = (f"{self.scenario.id}{variant}", self.driver.id, self.store.id, self.injector)
        return ".".join(slug(part, 120 if i == 0 else 36) for i, part in enumerate(parts))

    @property
    def replay(self) -> str:
        """The one line that runs exactly this case again."""
        variant = f"[{self.variant.name}]" if self.variant.values else ""
        words = ["midstream", "replay", f"{self.scenario.id}{variant}", "--driver", self.driver.id]
        words += ["--store", self.store.id, "--injector", self.injector, "--seed", str(self.seed)]
        return shlex.join([*words, "--scenario-dir", self.folder] if self.folder else words)


@dataclass(frozen=True)
class Result:
    """What is known of a finished case; the record that reports consume."""

    case: Case
    judgement: Judgement
    outcome: Outcome
    facts: Facts
    evidence: Evidence
    runs: tuple[Run, ...] = ()
    expected: bool = True  # as everyone wants it, or as the list of known failures says
    note: str = ""

    def record(self) -> dict[str, Any]:
        """The entry in results.json."""
        case, model = self.case, self.case.scenario.model
        return {
            "id": case.id,
            "scenario": case.scenario.id,
            "variant": case.variant.name,
            "driver": case.driver.id,
            "driver_version": case.driver_version,
            "store": case.store.id,
            "injector": case.injector,
            "kind": model.kind,
            "verdict": self.judgement.verdict.value,
            "level": self.judgement.level,
            "properties": list(model.properties),
            "diagnosis": self.judgement.diagnosis,
            "object_bytes": case.variant.size,
            "body_bytes": self.facts.body_bytes,
            "requests": len(self.facts.transfers),
            "faults_fired": len(self.facts.fired),
            "seconds": round(self.outcome.seconds, 4),
            "expected": self.expected,
            "note": self.note,
            "evidence": f"cases/{case.file_name}.json",
            "replay": case.replay,
        }

    def evidence_record(self) -> dict[str, Any]:
        """The content of cases/<id>.json."""
        return {
            **self.record(),
            "requirement": self.case.scenario.model.requirement,
            "schedule": list(self.case.variant.faults),
            "driver_said": {"said": self.outcome.said, "error": self.outcome.error},
            "sink": [
                {"start": r.start, "end": r.end, "generation": r.source, "from": r.origin} for r in self.runs
            ],
            "events": self.evidence.as_json(),
        }


def expectation(model: Scenario) -> Expectation:
    return Expectation(
        kind=model.kind,
        outcome="observe" if model.kind == "observe" else model.expect.outcome,
        restart=model.expect.restart,
        refetch=parse_size(model.expect.refetch),
        requests=model.expect.requests,
    )


def inspect(folder: Path, dest: Path, content: Content, object_size: int) -> Sink:
    """Look at what a driver left; content problems are explained run by run."""
    leftovers: tuple[str, ...] = ()
    try:
        folder.chmod(0o700)
        names = sorted(os.fsencode(e.name).decode("utf-8", "backslashreplace") for e in os.scandir(folder))
        leftovers = tuple(name for name in names if name != dest.name)
        size = dest.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        # The driver removed its folder, or there is nothing under the final name, or it leads nowhere.
        return Sink(False, leftovers=leftovers)
    if not dest.is_file():
        return Sink(False, leftovers=(*leftovers, dest.name))
    if not os.access(dest, os.R_OK):
        dest.chmod(0o600)
    with dest.open("rb", buffering=0) as sink:

        def read(start: int, length: int) -> bytes:
            return os.pread(sink.fileno(), length, start)

        if size == content.size and _same(read, content):
            runs: tuple[Run, ...] = (Run(0, size, content.generation),) if size else ()
        else:
            runs = tuple(explain(read, size, content.seed, object_size=object_size))
    return Sink(True, size, runs, leftovers)


def _same(read: Callable[[int, int], bytes], content: Content) -> bool:
    at = 0
    for block in content.blocks():
        if read(at, len(block)) != block:
            return False
        at += len(block)
    return True


@dataclass
class Place:
    """Where cases run: a started store and injector, and a folder for sinks."""

    store: Store
    running: RunningStore
    injector: RunningInjector
    scratch: Path
    seeded: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def folder(self) -> Path:
        """A new folder for one case: what an earlier driver left running must not find its way there."""
        folder = self.scratch / f"{next(self.numbers)}"
        folder.mkdir()
        return folder

    def seed(self, content: Content, traits: Traits) -> str:
        """Put an object into the store, once; gives its key."""
        t = traits
        shape = "-".join(str(v) for v in (t.validator, t.framing, t.ranges, t.digest, t.head))
        key = f"{content.size}-{content.seed}-{slug(shape)}"
        with self.lock:
            if key not in self.seeded:
                self.running.put(key, content, traits)
                self.seeded.add(key)
        return key


def traits_of(model: Scenario) -> Traits:
    o = model.object
    return Traits(o.validator, o.framing, o.ranges, o.digest, o.head)


def without(case: Case, verdict: Verdict, text: str) -> Result:
    """The result of a case that was not run, or not to its end."""
    level = "harness" if verdict is Verdict.HARNESS_ERROR else ""
    judgement = Judgement(verdict, level, text)
    return Result(case, judgement, Outcome("not run"), Facts([], [], {}, [], 0), Evidence())


class Runner:
    """Runs cases, one at a time, in one place with one driver process."""

    def __init__(self, place: Place, process: DriverProcess) -> None:
        self.place = place
        self.process = process

    def run(self, case: Case, control: str = "pass") -> Result:
        """Run a case to its verdict. What goes wrong inside is a harness error of this case.

        Raises UsageError for a schedule that does not read.
        """
        schedule = schedule_of(case.variant)
        if reason := self.place.store.supports(traits_of(case.scenario.model)):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        if control != "pass":
            return without(case, Verdict.HARNESS_ERROR, f"the control case without faults: {control}")
        try:
            return self._run(case, schedule)
        except MidstreamError as error:
            return without(case, Verdict.HARNESS_ERROR, tidy(str(error)))
        except Exception as error:  # suspect ourselves: whatever it is, the driver has not been judged
            return without(case, Verdict.HARNESS_ERROR, tidy(f"{type(error).__name__}: {error}"))

    def _run(self, case: Case, schedule: Schedule) -> Result:
        place, model, size = self.place, case.scenario.model, case.variant.size
        content = Content(size, case.seed)
        key = place.seed(content, traits_of(model))
        folder = place.folder()
        dest = folder / "object"
        upstream = ("127.0.0.1", place.running.port)
        try:
            session = place.injector.open(Plan(upstream, schedule, place.store.operation, size))
            try:
                access = place.running.access(key, session.url)
                job = Job(dest, access.kind, access.url, access.native, access.env)
                outcome = self.process.run(job, model.deadline)
            finally:
                evidence = session.close()
            sink = inspect(folder, dest, content, size)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        outcome = replace(outcome, error=presentable(outcome.error, access.env))
        facts = fold(evidence)
        judgement = self._trouble(outcome, key)
        if judgement is None:
            specs = [str(rule) for rule in schedule.rules]
            seen = Seen(expectation(model), outcome, sink, facts, size, specs)
            judgement = judge(replace(seen, findings=run_all(seen)))
        return Result(case, judgement, outcome, facts, evidence, sink.runs)

    def _trouble(self, outcome: Outcome, key: str) -> Judgement | None:
        """What the store has to do with it: no driver is blamed for one that is dead or deaf."""
        store = self.place.store.id
        if not self.place.running.alive():
            return Judgement(Verdict.HARNESS_ERROR, "harness", f"store {store} died during the case")
        if outcome.said == "hang":
            self.place.running.stat(key)  # raises StoreDied
        return None
