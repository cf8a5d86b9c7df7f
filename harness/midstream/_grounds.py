"""What cases share: started stores and injectors, and the proof that they work with a driver at all."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from midstream._content import Run
from midstream._errors import HarnessError, MidstreamError, SetupError
from midstream._processes import Janitor
from midstream._runner import CONTROL, CONTROL_UPLOAD, CONTROLS, Case, Place, Result, Runner, lacks, without
from midstream._scenario import schedule_of
from midstream._schedule import Schedule
from midstream._verdict import Verdict
from midstream._workers import DriverProcess
from midstream.injectors import Injector, RunningInjector
from midstream.stores import RunningStore, Store

ROOM = 2 << 30  # a few objects of the largest size per lane


@dataclass
class Control:
    """What is known of one control case.

    Only the bytes count: a driver that leaves a temporary file is told so in every case, which would not be
    if its control failed. Trouble of ours says nothing for good, so it is tried again, but not for ever.
    """

    answer: str = ""
    tries: int = 3

    @property
    def open(self) -> bool:
        return self.answer != "pass" and self.tries > 0

    def ended(self, result: Result) -> None:
        size = result.case.variant.size
        if result.outcome.said == "ok" and result.runs == (Run(0, size, 1),) and not result.facts.trouble:
            self.answer = "pass"
            return
        judgement = result.judgement
        told = f"{judgement.verdict.value}: {judgement.diagnosis}"
        if judgement.level == "harness":
            self.answer, self.tries = f"the control case without faults: {told}", self.tries - 1
        else:
            self.answer = f"the driver fails without any fault: {told}; see {result.case.replay}"
            self.tries = 0


def _quick_folder() -> str | None:
    """Where drivers write: in memory if there is room, since a driver that is right syncs every file.

    None is the usual place for temporary files; TMPDIR, where given, has the last word.
    """
    memory = Path("/dev/shm")
    try:
        roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOM
        if roomy and "TMPDIR" not in os.environ:
            return str(memory)
    except OSError:
        pass
    return None


class Grounds:
    """Starts each store and injector when a case first needs it, and ends them all; for several threads."""

    def __init__(self, injectors: Mapping[str, Injector]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="midstream-"))
        self._sinks = Path(tempfile.mkdtemp(prefix="midstream-", dir=_quick_folder()))
        self._janitor = Janitor(self.folder, self._sinks)
        self._kinds = injectors
        self._lock = threading.RLock()
        self._closing = False
        self._places: dict[tuple[str, str, bool], Place] = {}
        self._alone = threading.Lock()
        self._numbers = itertools.count(1)
        self._injectors: dict[str, RunningInjector] = {}
        self._controls: dict[tuple[str, str, str, str], Control] = {}

    def run(self, case: Case, process: DriverProcess) -> Result:
        """One case, its control before it where that has not run yet."""
        schedule = schedule_of(case.variant)
        if reason := next(filter(None, self._obstacles(case, schedule)), None):
            return without(case, Verdict.NOT_APPLICABLE, reason)
        # A control that is run by its name stands for itself: it is how to see why the others are not run.
        itself = CONTROLS.get(case.scenario.id) is case.scenario
        control = "pass" if itself else self._control(case, process)
        if not schedule.backends:
            return Runner(self.place(case.store, case.injector), process).run(case, control)
        with self._alone:
            place = self.place(case.store, case.injector, alone=True)
            result = Runner(place, process).run(case, control)
            if result.judgement.level == "harness":
                place.running.stop()  # who knows which of its servers run
            return result

    def _obstacles(self, case: Case, schedule: Schedule) -> Iterator[str | None]:
        """Why this injector, store or driver cannot take part in the case; None for each that can."""
        driver, store, model = case.driver, case.store, case.scenario.model
        yield self._kinds[case.injector].carries(schedule)
        yield self._unfit(case, schedule)
        if store.signed and any(rule.edits for rule in schedule.rules):
            yield f"{store.id} verifies signatures: a request cannot be edited on its way"
        if model.object.part and not driver.parts:
            yield f"{driver.id} fetches whole objects only"
        if model.upload.source == "pipe" and model.upload.ends and not driver.sizes:
            yield f"{driver.id} is not told the size: a pipe that ends early is a whole one to it"
        yield store.lacks_backends(schedule.backends)
        yield lacks(store, model)

    def _unfit(self, case: Case, schedule: Schedule) -> str | None:
        """Why a store that does not speak HTTP, or its injector, cannot take part in a scenario."""
        if not case.store.raw:
            return None
        if not self._kinds[case.injector].raw:
            return f"{case.injector} relays HTTP only, and {case.store.id} does not speak it"
        if case.scenario.model.tls:
            return "a store that does not speak HTTP has no TLS here"
        return schedule.needs_http()

    def _control(self, case: Case, process: DriverProcess) -> str:
        """How the control case ended; run once per driver, store and injector."""
        direction = case.scenario.model.direction
        key = (case.driver.id, case.store.id, case.injector, direction)
        with self._lock:
            known = self._controls.setdefault(key, Control())
            if known.open:
                scenario = CONTROL_UPLOAD if direction == "upload" else CONTROL
                control = replace(
                    case, scenario=scenario, variant=next(scenario.variants(case.seed)), folder=""
                )
                known.ended(Runner(self.place(case.store, case.injector), process).run(control))
            return known.answer

    def place(self, store: Store, injector: str, *, alone: bool = False) -> Place:
        """The started store and injector; a store that has died is started again.

        With `alone` it is one that no other case uses at the same time: a fault harms the store itself.
        """
        key = (store.id, injector, alone)
        with self._lock:
            if self._closing:
                raise HarnessError("the run is ending: nothing is started any more")
            place = self._places.get(key)
            if place and not place.running.alive():
                place.running.stop()
                del self._places[key]
                place = None
            if place is None:
                if injector not in self._injectors:
                    self._injectors[injector] = self._kinds[injector].start()
                # Each its own: cases may still be under way in the folder of a store that has died.
                scratch = self._sinks / f"{store.id}-{injector}-{next(self._numbers)}"
                scratch.mkdir()
                place = Place(store, self._start(store), self._injectors[injector], scratch)
                self._places[key] = place
            return place

    def _start(self, store: Store) -> RunningStore:
        folder = Path(tempfile.mkdtemp(prefix=f"{store.id}-", dir=self.folder))
        try:
            return store.start(folder)
        except MidstreamError:
            raise
        except OSError as error:
            raise SetupError(f"store {store.id} cannot start: {error}") from error

    def close(self) -> None:
        """End everything that was started; may be called twice.

        Not under the lock: a lane that is late may hold it, and must not start again what is ended here.
        """
        self._closing = True
        for injector in list(self._injectors.values()):
            injector.stop()
        for place in list(self._places.values()):
            place.running.stop()
        self._injectors.clear()
        self._places.clear()
        self._janitor.close()
        for folder in (self.folder, self._sinks):
            shutil.rmtree(folder, ignore_errors=True)
