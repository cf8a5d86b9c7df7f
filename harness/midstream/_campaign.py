"""Many cases: the matrix, the lanes that work through it, and what holds them together.

Each lane is a thread with driver processes of its own; stores and the injector are shared. Cases are handed
out lazily and reported in their order, whichever lane was faster, so equal seeds give equal reports. Before
the first case of a driver on a store, the control case without faults must pass there.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from midstream._errors import UsageError
from midstream._grounds import Grounds
from midstream._runner import Case, Result
from midstream._scenario import Loaded, Variant, applies
from midstream._verdict import FINE, Verdict
from midstream._workers import DriverProcess, process_for
from midstream._xfail import KnownFailures
from midstream.drivers import Driver
from midstream.injectors import Injector
from midstream.stores import Store

# These say nothing about whether a driver is right, so they neither confirm nor refute a known failure.
SILENT = frozenset({Verdict.OBSERVED, Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED})
PROVES_NOTHING = SILENT - {Verdict.OBSERVED}


class _Stopped(Exception):
    """The run is ending; there is nothing more for a lane to do."""


@dataclass
class Matrix:
    """What a run covers."""

    scenarios: Sequence[Loaded]
    drivers: Sequence[tuple[Driver, str]]  # with their versions
    stores: Sequence[Store]
    injectors: Sequence[Injector]
    seed: int = 0
    only: Variant | None = None  # replay: this case and no other
    folder: str = ""  # where the scenario files are, when they are not the bundled ones
    quick: bool = False  # the first case of each scenario alone

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
                        if loaded.model.direction not in driver.directions:
                            continue
                        for variant in self.variants(loaded):
                            yield Case(
                                loaded, variant, driver, version, store, injector.id, self.seed, self.folder
                            )

    def variants(self, loaded: Loaded) -> Iterator[Variant]:
        """Those of a scenario that are run."""
        if self.only:
            return iter([self.only])
        return islice(loaded.variants(self.seed), 1 if self.quick else None)

    def counts(self) -> Counter[str]:
        """How many cases each driver has; one that was asked for and has none is there with 0."""
        counts = Counter({driver.id: 0 for driver, _ in self.drivers})
        counts.update(case.driver.id for case in self.cases())
        return counts


@dataclass
class Tally:
    """What the exit status and the summary are made of."""

    verdicts: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    harness: int = 0

    def add(self, result: Result) -> None:
        self.verdicts[result.judgement.verdict.value] += 1
        if result.judgement.level == "harness":
            self.harness += 1
        elif not result.expected:
            self.broken += 1

    @property
    def idle(self) -> bool:
        """Whether not one case met its fault: as if nothing had been selected, and no success."""
        return bool(self.verdicts) and self.verdicts.keys() <= PROVES_NOTHING

    @property
    def exit_status(self) -> int:
        return 3 if self.harness else 1 if self.broken else 2 if self.idle else 0


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
        self._grounds = Grounds({injector.id: injector for injector in matrix.injectors})
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._processes: list[DriverProcess] = []
        self._warm: dict[str, DriverProcess] = {}

    def run(self) -> Tally:
        """Work through the matrix. Raises what a lane could not go on after; cleans up in any case."""
        lanes: list[threading.Thread] = []
        try:
            first = next(self.matrix.cases(), None)
            if first is None:
                raise UsageError("nothing to run: no selected scenario is meant for the stores and drivers")
            self._warm = {first.driver.id: self._process(first.driver)}  # imports while the store starts
            self._grounds.place(first.store, first.injector)
            for i in range(self._jobs):
                lanes.append(threading.Thread(target=self._lane, name=f"lane-{i}"))
                lanes[-1].start()
            for lane in lanes:
                while lane.is_alive():
                    lane.join(0.5)  # short, so that Ctrl-C is heard
        finally:
            # In this order: a lane whose driver is killed here must already know that it is not to report.
            with self._lock:
                self._stop.set()
                processes = list(self._processes)
            for process in processes:
                process.kill()
            for lane in lanes:
                lane.join(10)
            for process in processes:
                process.close()
            self._grounds.close()
        if self._failure:
            raise self._failure
        return self.tally

    def _process(self, driver: Driver) -> DriverProcess:
        with self._lock:
            if self._stop.is_set():
                raise _Stopped
            if warm := self._warm.pop(driver.id, None):
                return warm
            process = process_for(driver, self._grounds.folder)
            self._processes.append(process)
            return process

    # --- lanes

    def _lane(self) -> None:
        process: DriverProcess | None = None
        running = ""
        try:
            while not self._stop.is_set():
                with self._lock:
                    item = next(self._source, None)
                if item is None:
                    return
                number, case = item
                if process is None or running != case.driver.id:
                    if process:
                        process.close()
                    process, running = self._process(case.driver), case.driver.id
                result = self._judged(self._grounds.run(case, process))
                with self._order:
                    if self._stop.is_set():
                        return  # its driver may have been killed by us
                    self._deliver(number, result)
        except _Stopped:
            return
        except BaseException as error:
            with self._order:
                if not self._stop.is_set():
                    self._failure = self._failure or error
                    self._stop.set()

    def _judged(self, result: Result) -> Result:
        """Hold a result against what is expected of it."""
        if result.judgement.level == "harness" or result.judgement.verdict in SILENT:
            return result
        known = self._known.match(result.case)
        if known is None:
            return replace(result, expected=not result.judgement.breaks_must)
        verdict = result.judgement.verdict
        if verdict in FINE:
            note = f"listed as a known failure, but passes: {known.reason}"
            return replace(result, expected=False, note=note)
        if known.verdict not in (None, verdict.value):
            return replace(result, expected=False, note=f"known to fail as {known.verdict}: {known.reason}")
        return replace(result, expected=True, note=f"known failure: {known.reason}")

    def _deliver(self, number: int, result: Result) -> None:
        heapq.heappush(self._waiting, (number, result))
        while self._waiting and self._waiting[0][0] == self._next:
            _, ready = heapq.heappop(self._waiting)
            self._next += 1
            self._report(ready)
            self.tally.add(ready)
