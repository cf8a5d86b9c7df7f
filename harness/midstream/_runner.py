"""One case: object in, injector armed, driver run, evidence folded, verdict given."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from midstream._authority import Authority
from midstream._content import Content, Run
from midstream._errors import MidstreamError
from midstream._evidence import REDACTED, Evidence, Exchange, Facts, fold, redact_target, refetched
from midstream._judge import judge, tidy
from midstream._model import Scenario, parse_size
from midstream._scenario import Loaded, Variant, load_text, schedule_of
from midstream._schedule import Schedule
from midstream._stage import Stage
from midstream._upstage import UploadStage
from midstream._verdict import Expectation, Judgement, Outcome, Seen, Sink, Verdict
from midstream._workers import DriverProcess, process_for
from midstream.checks import run_all
from midstream.drivers import Driver, Job
from midstream.injectors import Plan, RunningInjector, Session
from midstream.stores import RunningStore, Store, Traits

TWIN = ".replica"  # what the fault `replica` adds to a key
SMALL, REAL_PART = 4 << 20, 5 << 20  # S3 API: Amazon S3 multipart upload limits
TOKEN = "Bearer midstream-credential"  # what plain HTTP drivers authenticate with; nobody checks it

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


CONTROL_UPLOAD = load_text(
    "control-upload",
    """
requirement = "Without faults, the driver sends the object through this injector to this store."
kind = "must"
direction = "upload"
properties = ["P42"]
object.size = 100003
expect.requests = 1000
expect.restart = true
""",
    "the control case of uploads",
)
CONTROLS = {loaded.id: loaded for loaded in (CONTROL, CONTROL_UPLOAD)}


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
        return dict(self._record)

    @cached_property
    def _record(self) -> dict[str, Any]:
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
            "body_bytes": self._bytes(),
            "requests": len(self._transfers),
            "seconds": round(self.outcome.seconds, 4),
            "expected": self.expected,
            "note": self.note,
            "evidence": f"cases/{case.file_name}.json",
            "replay": case.replay,
        }

    @property
    def _transfers(self) -> list[Exchange]:
        upload = self.case.scenario.model.direction == "upload"
        return self.facts.sendings if upload else self.facts.transfers

    def _bytes(self) -> int:
        """Object bytes that were moved."""
        model, size = self.case.scenario.model, self.case.variant.size
        if model.direction == "upload":
            return sum(e.received for e in self.facts.sendings)
        # Where a process, or a server behind the store, is stopped in mid-flight, how much it had written
        # is its own race.
        racing = model.process.runs > 1 or Schedule.parse(self.case.variant.faults).backends
        return self.facts.covered_bytes if racing else self.facts.body_bytes(size)

    def efficiency(self) -> dict[str, Any]:
        """What the recovery cost. Times and memory differ from run to run: they stand in no results file."""
        transfers = self._transfers
        times = [event.at for event in self.evidence.events]
        pairs = list(itertools.pairwise(transfers))
        return {
            "faults_fired": len(self.facts.fired),
            "bytes_fetched_again": refetched(self.facts, self.case.variant.size),
            "requests": len(transfers),
            "longest_silence": round(max((b - a for a, b in itertools.pairwise(times)), default=0.0), 4),
            "waits": [round(b.started_at - a.ended_at, 4) for a, b in pairs if a.ended_at is not None][:50],
            "driver_peak_kib": self.outcome.peak_kib or None,
        }

    def evidence_record(self) -> dict[str, Any]:
        """The content of cases/<id>.json."""
        return {
            **self.record(),
            "requirement": self.case.scenario.model.requirement,
            "schedule": list(self.case.variant.faults),
            "driver_said": {"said": self.outcome.said, "error": self.outcome.error},
            "efficiency": self.efficiency(),
            "sink": [
                {"start": r.start, "end": r.end, "generation": r.source, "from": r.origin} for r in self.runs
            ],
            "events": self.evidence.as_json(),
        }


def expectation(model: Scenario, objects: tuple[tuple[int, int], ...] = ()) -> Expectation:
    """What the scenario asks for."""
    return Expectation(
        kind=model.kind,
        outcome="observe" if model.kind == "observe" else model.expect.outcome,
        restart=model.expect.restart,
        refetch=parse_size(model.expect.refetch),
        requests=model.expect.requests,
        generations=tuple(model.expect.generations),
        orphans=model.expect.orphans,
        objects=objects,
    )


def of_a_stream(asked: Expectation, model: Scenario, schedule: Schedule) -> Expectation:
    """The same for a driver that hands its bytes on at once.

    It keeps nothing from run to run. And where only a fresh start could complete, because the object has been
    replaced or nothing binds two answers to one version (RFC 9110 section 15.3.7.3), an error is as right.
    """
    unbound = not model.object.digest and model.object.validator != "strong"
    unbound = unbound or any("ETag" in str(rule) for rule in schedule.rules)  # lost on its way
    anew = asked.outcome == "complete" and asked.restart and (unbound or schedule.changes_objects)
    return replace(
        asked,
        outcome="either" if anew else asked.outcome,
        restart=asked.restart or model.process.runs > 1,
    )


@dataclass
class Place:
    """Where cases run: a started store and injector, and a folder for sinks."""

    store: Store
    running: RunningStore
    injector: RunningInjector
    scratch: Path
    seeded: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _authority: Authority | None = None

    def authority(self) -> Authority:
        """The certificate authority of this place; raises SetupError where none can be made."""
        with self.lock:
            self._authority = self._authority or Authority.make(self.scratch)
            return self._authority

    def folder(self) -> Path:
        """A new folder for one case: what an earlier driver left running must not find its way there."""
        folder = self.scratch / f"{next(self.numbers)}"
        folder.mkdir()
        return folder

    def seed(self, content: Content, traits: Traits, *, shared: bool = True) -> str:
        """Put an object into the store; gives its key.

        A shared one is put once and read by many cases; one that a case changes is its own.
        """
        t = traits
        shape = "-".join(str(v) for v in (t.validator, t.framing, t.ranges, t.digest, t.head, t.layout))
        key = f"{content.size}-{content.seed}-{slug(shape)}"
        if not shared:
            key = f"case-{next(self.numbers)}-{key}"
            self.running.put(key, content, traits)
            return key
        with self.lock:
            if key not in self.seeded:
                self.running.put(key, content, traits)
                self.seeded.add(key)
        return key


def traits_of(model: Scenario) -> Traits:
    o = model.object
    return Traits(o.validator, o.framing, o.ranges, o.digest, o.head, o.layout)


def _part_size(store: Store, size: int) -> int:
    """What a driver may take for a part: small parts of small objects, those of real size of others."""
    return store.part_size if size <= SMALL else max(store.part_size, REAL_PART)


def lacks(store: Store, model: Scenario) -> str:
    """Why a store cannot take part in a scenario's uploads; "" when it can."""
    if model.direction == "download":
        return ""
    if not store.uploads:
        return f"{store.id} takes no uploads"
    if model.upload.leftover != "none" and not store.leftovers:
        return f"{store.id} keeps no unfinished uploads of somebody else's making"
    return ""


def from_part(sink: Sink, first: int) -> Sink:
    """The sink of a driver that fetched a part, told in offsets of the part."""
    runs = (replace(r, origin=r.origin - first) if r.source > 0 else r for r in sink.runs)
    return replace(sink, runs=tuple(runs))


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
        """Run a case to its verdict. What goes wrong inside is a harness error of this case, and so is a
        control that did not pass; `control` says then what is to be told of it.

        Raises UsageError for a schedule that does not read.
        """
        schedule = schedule_of(case.variant)
        if reason := self.place.store.supports(traits_of(case.scenario.model)):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        if reason := lacks(self.place.store, case.scenario.model):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        if control != "pass":
            return without(case, Verdict.HARNESS_ERROR, control)
        try:
            return self._run(case, schedule)
        except MidstreamError as error:
            return without(case, Verdict.HARNESS_ERROR, tidy(str(error)))
        except Exception as error:  # suspect ourselves: whatever it is, the driver has not been judged
            return without(case, Verdict.HARNESS_ERROR, tidy(f"{type(error).__name__}: {error}"))

    def _run(self, case: Case, schedule: Schedule) -> Result:
        if case.scenario.model.direction == "upload":
            return self._run_upload(case, schedule)
        return self._run_download(case, schedule)

    def _run_upload(self, case: Case, schedule: Schedule) -> Result:
        place, model, size = self.place, case.scenario.model, case.variant.size
        key = f"case-{next(place.numbers)}-{size}-{case.seed}"
        stage = UploadStage(
            place.running, key, Content(size, case.seed), model.process, model.upload, place.folder()
        )
        try:
            stage.prepare(place.store.part_size)
            outcome, evidence = self._perform(case, schedule, stage, key)
            sink = stage.sink(outcome)
        finally:
            stage.clean_up()
            shutil.rmtree(stage.folder, ignore_errors=True)
        facts = fold(evidence)
        judgement = self._trouble(outcome, key)
        if judgement is None:
            wanted = tuple((c.generation, c.size) for c in stage.objects)
            specs = [str(rule) for rule in schedule.rules]
            seen = Seen(expectation(model, wanted), outcome, sink, facts, size, specs)
            seen = replace(seen, upload=True, published=tuple(stage.published), orphans=stage.orphans)
            seen = replace(seen, replaces=stage.replaces)
            judgement = judge(replace(seen, findings=run_all(seen)))
        return Result(case, judgement, outcome, facts, evidence, sink.runs)

    def _run_download(self, case: Case, schedule: Schedule) -> Result:
        place, model, size = self.place, case.scenario.model, case.variant.size
        content, traits = Content(size, case.seed), traits_of(model)
        key = place.seed(content, traits, shared=not schedule.changes_objects)
        twin = f"{key}{TWIN}"
        if schedule.needs_twin:
            place.running.put(twin, Content(size, case.seed, 2), traits)
        stage = Stage(place.running, key, traits, content, model.process, place.folder())
        try:
            outcome, evidence = self._perform(case, schedule, stage, key)
            sink = stage.sink(outcome)
        finally:
            stage.clean_up()
            shutil.rmtree(stage.folder, ignore_errors=True)
            if schedule.backends:
                place.running.run_backends(None)
            if schedule.changes_objects:
                place.running.purge(key)
                place.running.delete(twin)
        facts = fold(evidence)
        judgement = self._trouble(outcome, key)
        if judgement is None:
            objects = [(c.generation, c.size) for c in stage.objects]
            if schedule.needs_twin:
                objects.append((2, size))
            first, length = model.object.bounds(size)
            wanted = tuple((g, model.object.bounds(s)[1]) for g, s in objects)
            specs = [str(rule) for rule in schedule.rules]
            asked = expectation(model, wanted)
            if case.driver.streams:
                asked = of_a_stream(asked, model, schedule)
            seen = Seen(asked, outcome, from_part(sink, first), facts, length, specs)
            seen = replace(seen, total=size, harmed=bool(schedule.backends))
            judgement = judge(replace(seen, findings=run_all(seen)))
        return Result(case, judgement, outcome, facts, evidence, sink.runs)

    def _perform(self, case: Case, schedule: Schedule, stage: Stage, key: str) -> tuple[Outcome, Evidence]:
        """The driver's runs behind an armed injector."""
        place, model = self.place, case.scenario.model
        authority = place.authority() if model.tls else None
        plan = Plan(
            place.running.upstream,
            schedule,
            place.store.operation,
            case.variant.size,
            act=stage.act,
            looks=model.direction == "upload",
            tls=authority.context if authority else None,
            listen_port=place.running.listen_port,
            raw=place.store.raw,
            path=place.running.path,
        )
        # Where clients look at one port only, cases take turns.
        with place.turn if plan.listen_port else contextlib.nullcontext():
            return self._behind(place.injector.open(plan), case, stage, key, authority)

    def _behind(
        self, session: Session, case: Case, stage: Stage, key: str, authority: Authority | None
    ) -> tuple[Outcome, Evidence]:
        """The driver's runs behind an open session, which ends with them."""
        place, model = self.place, case.scenario.model
        if authority and session.bundle:
            authority = replace(authority, bundle=session.bundle)
        try:
            upload = model.direction == "upload"
            ask = place.running.upload_access if upload else place.running.access
            access = stage.access = ask(key, session.url)
            env = {**access.env, **(authority.env if authority else {})}
            headers = {"Authorization": TOKEN} if access.kind == "http" else {}
            job = Job(stage.dest, access.kind, access.url, access.native, env, headers=headers)
            if model.object.part:
                first, length = model.object.bounds(case.variant.size)
                job = replace(job, first=first, length=length)
            if upload:
                job = replace(
                    job, size=case.variant.size, part_size=_part_size(place.store, case.variant.size)
                )
                job = replace(job, again=model.process.runs > 1)
            outcome = stage.run(
                self.process,
                job,
                model.deadline,
                session.note,
                lambda: process_for(case.driver, self.place.scratch.parent),
            )
        finally:
            evidence = session.close()
        return replace(outcome, error=presentable(outcome.error, access.env)), evidence

    def _trouble(self, outcome: Outcome, key: str) -> Judgement | None:
        """What the store has to do with it: no driver is blamed for one that is dead or deaf."""
        store = self.place.store.id
        if not self.place.running.alive():
            return Judgement(Verdict.HARNESS_ERROR, "harness", f"store {store} died during the case")
        if outcome.said == "hang":
            self.place.running.stat(key)  # raises StoreDied
        return None
