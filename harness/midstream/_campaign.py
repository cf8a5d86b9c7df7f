"""Many cases: the matrix, the lanes that work through it, and what holds them together.

Each lane is a thread with driver processes of its own; stores and the injector are shared. Cases are handed
out lazily and reported in their order, whichever lane was faster, so equal seeds give equal reports. Before
the first case of a driver on a store, the control case without faults must pass there.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from midstream._errors import MidstreamError, SetupError, UsageError
from midstream._runner import CONTROL, Case, Place, Result, Runner, without
from midstream._scenario import Loaded, Variant, applies
from midstream._schedule import Schedule
from midstream._verdict import FINE, Verdict
from midstream._workers import DriverProcess, process_for
from midstream._xfail import KnownFailures
from midstream.drivers import Driver
from midstream.injectors import Injector, RunningInjector
from midstream.stores import RunningStore, Store


@dataclass
class Matrix:
    """What a run covers."""

    scenarios: Sequence[Loaded]
    drivers: Sequence[tuple[Driver, str]]  # with their versions
    stores: Sequence[Store]
    injectors: Sequence[Injector]
    seed: int = 0
    only: Variant | None = None  # replay: this case and no other

    def cases(self) -> Iterator[Case]:
        """Every case, in a fixed order."""
        for driver, version in self.drivers:
            for store in self.stores:
                if store.kind not in driver.kinds:
                    continue
                for injector in self.injectors:
                    for loaded in self.scenarios:
                        if self.only is None and not applies(loaded, store.id, store.kind):
                            continue
                        for variant in [self.only] if self.only else loaded.variants(self.seed):
                            yield Case(loaded, variant, driver, version, store, injector.id, self.seed)

    def count(self) -> int:
        return sum(1 for _ in self.cases())


@dataclass
class Tally:
    """What the exit status and the summary are made of."""

    verdicts: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    harness: int = 0
    surprises: int = 0

    def add(self, result: Result) -> None:
        self.verdicts[result.judgement.verdict.value] += 1
        if result.judgement.level == "harness":
            self.harness += 1
        elif not result.expected:
            self.broken += 1

    @property
    def exit_status(self) -> int:
        return 3 if self.harness else 1 if self.broken else 0


class Campaign:
    """Runs a matrix. `report` is called with each result, in order, from one thread at a time."""

    def __init__(
        self,
        matrix: Matrix,
        report: Callable[[Result], None],
        *,
        jobs: int = 2,
        known: KnownFailures | None = None,
    ) -> None:
        self.matrix = matrix
        self.tally = Tally()
        self._report = report
        self._jobs = jobs
        self._known = known or KnownFailures([])
        self._source = enumerate(matrix.cases())
        self._lock = threading.Lock()  # hands out cases
        self._order = threading.Lock()  # reports results
        self._waiting: list[tuple[int, Result]] = []
        self._next = 0
        self._setup = threading.RLock()  # starts stores, runs controls
        self._places: dict[tuple[str, str], Place] = {}
        self._injectors: dict[str, RunningInjector] = {}
        self._controls: dict[tuple[str, str, str], str] = {}
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._processes: list[DriverProcess] = []
        self.folder = Path(tempfile.mkdtemp(prefix="midstream-"))

    def run(self) -> Tally:
        """Work through the matrix. Raises what a lane could not go on after; cleans up in any case."""
        lanes = []
        try:
            first = next(self.matrix.cases(), None)
            if first is None:
                raise UsageError("nothing to run: no selected scenario is meant for the selected stores and drivers")
            warm = self._process(first.driver)  # its imports overlap with the start of the store
            self._place(first)
            lanes = [
                threading.Thread(target=self._lane, args=(warm if i == 0 else None,), name=f"lane-{i}")
                for i in range(self._jobs)
            ]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                while lane.is_alive():
                    lane.join(0.5)  # short, so that Ctrl-C is heard
        finally:
            self._stop.set()
            for process in self._processes:
                process.close()
            for lane in lanes:
                lane.join(10)
            self._clean_up()
        if self._failure:
            raise self._failure
        return self.tally

    def _clean_up(self) -> None:
        for injector in self._injectors.values():
            injector.stop()
        for place in self._places.values():
            place.running.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _process(self, driver: Driver) -> DriverProcess:
        process = process_for(driver, self.folder)
        with self._lock:
            self._processes.append(process)
        return process

    # --- lanes

    def _lane(self, warm: DriverProcess | None) -> None:
        processes: dict[str, DriverProcess] = {}
        try:
            while not self._stop.is_set():
                with self._lock:
                    item = next(self._source, None)
                if item is None:
                    return
                number, case = item
                if case.driver.id not in processes:
                    for old in processes.values():
                        old.close()
                    processes = {case.driver.id: warm or self._process(case.driver)}
                    warm = None
                result = self._case(case, processes[case.driver.id])
                self._deliver(number, result)
        except BaseException as error:
            if not self._stop.is_set():
                self._failure = self._failure or error
                self._stop.set()

    def _case(self, case: Case, process: DriverProcess) -> Result:
        place = self._place(case)
        injector = next(i for i in self.matrix.injectors if i.id == case.injector)
        if reason := injector.carries(Schedule.parse(case.variant.faults)):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        runner = Runner(place, process)
        return self._judged(runner.run(case, self._control(case, runner)))

    def _control(self, case: Case, runner: Runner) -> str:
        """How the control case ended; run once per driver, store and injector."""
        key = (case.driver.id, case.store.id, case.injector)
        with self._setup:
            if key not in self._controls:
                control = replace(case, scenario=CONTROL, variant=next(CONTROL.variants(case.seed)))
                judged = runner.run(control).judgement
                fine = judged.verdict is Verdict.PASS
                self._controls[key] = (
                    "pass" if fine else f"{judged.verdict.value}: {judged.diagnosis}"
                )
            return self._controls[key]

    def _judged(self, result: Result) -> Result:
        """Hold a result against what is expected of it."""
        known = self._known.match(result.case, result.judgement.verdict)
        if result.judgement.level == "harness":
            return result
        if known is None:
            return replace(result, expected=not result.judgement.breaks_must)
        if result.judgement.verdict in FINE:
            return replace(result, expected=False, note=f"listed as a known failure, but passes: {known.reason}")
        if known.verdict not in (None, result.judgement.verdict.value):
            return replace(result, expected=False, note=f"known to fail as {known.verdict}: {known.reason}")
        return replace(result, expected=True, note=f"known failure: {known.reason}")

    def _deliver(self, number: int, result: Result) -> None:
        with self._order:
            heapq.heappush(self._waiting, (number, result))
            while self._waiting and self._waiting[0][0] == self._next:
                _, ready = heapq.heappop(self._waiting)
                self._next += 1
                self.tally.add(ready)
                self._report(ready)

    # --- places

    def _place(self, case: Case) -> Place:
        """The started store and injector of a case; a store that has died is started again."""
        key = (case.store.id, case.injector)
        with self._setup:
            place = self._places.get(key)
            if place and not place.running.alive():
                place.running.stop()
                del self._places[key]
                place = None
            if place is None:
                if case.injector not in self._injectors:
                    injector = next(i for i in self.matrix.injectors if i.id == case.injector)
                    self._injectors[case.injector] = injector.start()
                store = self._start_store(case.store)
                scratch = self.folder / f"sinks-{case.store.id}-{case.injector}"
                scratch.mkdir(exist_ok=True)
                place = Place(case.store, store, self._injectors[case.injector], scratch)
                self._places[key] = place
            return place

    def _start_store(self, store: Store) -> RunningStore:
        folder = Path(tempfile.mkdtemp(prefix=f"{store.id}-", dir=self.folder))
        try:
            return store.start(folder)
        except MidstreamError:
            raise
        except OSError as error:
            raise SetupError(f"store {store.id} cannot start: {error}") from error

