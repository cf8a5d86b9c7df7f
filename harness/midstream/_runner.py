"""One case: object in, injector armed, driver run, evidence folded, verdict given."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midstream._content import Content, Run, explain
from midstream._errors import HarnessError, MidstreamError, StoreDied
from midstream._evidence import Evidence, Facts, fold
from midstream._scenario import Loaded, Scenario, Variant, load_text, parse_size
from midstream._schedule import Schedule
from midstream._verdict import Expectation, Judgement, Outcome, Seen, Sink, Verdict, judge
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
expect.requests = 100
""",
    "the control case",
)


def slug(text: str) -> str:
    """A name that is safe in file names; distinct texts stay distinct."""
    safe = re.sub(r"[^A-Za-z0-9._=%+-]+", "_", text).strip("_")
    if safe == text:
        return safe
    return f"{safe[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


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

    @property
    def id(self) -> str:
        variant = f"[{self.variant.name}]" if self.variant.values else ""
        return f"{self.scenario.id}{variant}:{self.driver.id}:{self.store.id}:{self.injector}"

    @property
    def file_name(self) -> str:
        variant = f".{self.variant.name.replace(';', '.')}" if self.variant.values else ""
        parts = (f"{self.scenario.id}{variant}", self.driver.id, self.store.id, self.injector)
        return ".".join(slug(part) for part in parts)

    @property
    def replay(self) -> str:
        """The one line that runs exactly this case again."""
        variant = f"[{self.variant.name}]" if self.variant.values else ""
        words = ["midstream", "replay", f"{self.scenario.id}{variant}", "--driver", self.driver.id]
        words += ["--store", self.store.id, "--injector", self.injector, "--seed", str(self.seed)]
        return shlex.join(words)


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
    leftovers = tuple(sorted(e.name for e in os.scandir(folder) if e.name != dest.name))
    try:
        size = dest.stat().st_size
    except FileNotFoundError:
        return Sink(False, leftovers=leftovers)
    if not dest.is_file():
        return Sink(False, leftovers=(*leftovers, dest.name))
    if not os.access(dest, os.R_OK):
        dest.chmod(0o600)
    with dest.open("rb", buffering=0) as sink:
        if size == content.size and all(sink.read(len(b)) == b for b in content.blocks()):
            runs: tuple[Run, ...] = (Run(0, size, content.generation),) if size else ()
        else:

            def read(start: int, length: int) -> bytes:
                return os.pread(sink.fileno(), length, start)

            runs = tuple(explain(read, size, content.seed, object_size=object_size))
    return Sink(True, size, runs, leftovers)


@dataclass
class Place:
    """Where cases run: a started store and injector, and a folder for sinks."""

    store: Store
    running: RunningStore
    injector: RunningInjector
    scratch: Path
    seeded: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def seed(self, content: Content, traits: Traits) -> str:
        """Put an object into the store, once; gives its key."""
        shape = "-".join(str(v) for v in (traits.validator, traits.framing, traits.ranges, traits.digest, traits.head))
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
    return Result(case, Judgement(verdict, level, text), Outcome("ok"), Facts([], [], {}, [], 0), Evidence())


class Runner:
    """Runs cases, one at a time, in one place with one driver process."""

    def __init__(self, place: Place, process: DriverProcess) -> None:
        self.place = place
        self.process = process

    def run(self, case: Case, control: str = "pass") -> Result:
        """Run a case to its verdict. Never raises for what goes wrong inside; that is a harness error."""
        if reason := self.place.store.supports(traits_of(case.scenario.model)):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        try:
            return self._run(case, control)
        except HarnessError as error:
            return without(case, Verdict.HARNESS_ERROR, str(error))
        except MidstreamError:
            raise
        except OSError as error:
            raise HarnessError(f"case {case.id}: {error}") from error

    def _run(self, case: Case, control: str) -> Result:
        place, model, size = self.place, case.scenario.model, case.variant.size
        content = Content(size, case.seed)
        key = place.seed(content, traits_of(model))
        schedule = Schedule.parse(case.variant.faults).aim(size)
        folder = place.scratch / f"{threading.get_ident():x}"
        folder.mkdir()
        dest = folder / "object"
        upstream = ("127.0.0.1", place.running.port)
        session = place.injector.open(Plan(upstream, schedule, place.store.operation, size))
        try:
            access = place.running.access(key, session.url)
            job = Job(dest, access.kind, access.url, access.native, access.env)
            outcome = self.process.run(job, model.deadline)
            evidence = session.close()
            sink = inspect(folder, dest, content, size)
        finally:
            session.close()
            shutil.rmtree(folder, ignore_errors=True)
        if not place.running.alive():
            raise StoreDied(f"store {place.store.id} died during the case")
        facts = fold(evidence)
        specs = [str(rule) for rule in schedule.rules]
        seen = Seen(expectation(model), outcome, sink, facts, size, specs, control)
        judgement = judge(Seen(**{**vars(seen), "findings": run_all(seen)}))
        return Result(case, judgement, outcome, facts, evidence, sink.runs)
