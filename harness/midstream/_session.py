"""A run from the command line: names resolved, campaign started, progress shown, reports written."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midstream import _calibration
from midstream._campaign import PROVES_NOTHING, Campaign, Matrix, Tally
from midstream._catalog import read_scenarios, scenario_folder
from midstream._errors import HarnessError, SetupError, UsageError
from midstream._registry import load, members
from midstream._runner import CONTROLS, Result
from midstream._scenario import Loaded, parse_values, schedule_of, select
from midstream._verdict import Verdict
from midstream._xfail import KnownFailures
from midstream.drivers import Driver
from midstream.drivers._spec import require, resolve
from midstream.injectors import Injector
from midstream.reports import Report, RunInfo
from midstream.stores import Store


def _scenarios(globs: Sequence[str], folder: Path | None, quick: bool) -> list[Loaded]:
    """The selected scenarios, or the `quick` ones of them; files that no glob names are not even read."""
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--scenario-dir {folder}: no such folder")
    paths = sorted((folder or scenario_folder()).rglob("*.toml"))
    plain = [g for g in globs if re.fullmatch(r"[a-z0-9-]+", g)]
    if globs and len(plain) == len(globs) and {p.stem for p in paths} >= set(plain):
        paths = [p for p in paths if p.stem in plain]
    if not paths:
        raise UsageError(f"--scenario-dir {folder}: no .toml file below it")
    chosen = select(read_scenarios(paths), globs)
    if quick and not (chosen := [loaded for loaded in chosen if loaded.model.quick]):
        raise UsageError("--quick: no selected scenario has `quick = true`")
    return chosen


def _available(family: str, ids: Iterable[str]) -> list[Any]:
    """Members by id, each usable here; raises SetupError with the hint for one that is not."""
    found = []
    for name in dict.fromkeys(ids):
        member = load(family, name)
        a = member.available()
        if not a.available:
            raise SetupError(f"{family[:-1]} {name}: {a.reason}; {a.hint}")
        found.append(member)
    return found


def matrix(
    globs: Sequence[str],
    drivers: Sequence[str],
    stores: Sequence[str],
    injectors: Sequence[str],
    seed: int,
    *,
    folder: Path | None = None,
    control: Loaded | None = None,
    quick: bool = False,
) -> Matrix:
    """Resolve names to what is run, or to a control case; raises UsageError or SetupError."""
    chosen: list[tuple[Driver, str]] = []
    for spec in dict.fromkeys(drivers):
        driver = resolve(spec)
        chosen.append((driver, require(driver).version))
    store_members: list[Store] = _available("stores", stores)
    injector_members: list[Injector] = _available("injectors", injectors)
    place = "" if folder is None else str(folder)
    scenarios = [control] if control else _scenarios(globs, folder, quick)
    return Matrix(scenarios, chosen, store_members, injector_members, seed, folder=place, quick=quick)


def one_case(
    spec: str, driver: str, store: str, injector: str, seed: int, *, folder: Path | None = None
) -> Matrix:
    """The matrix of a replay: one case. Raises UsageError."""
    found = re.fullmatch(r"([a-z0-9-]+)(?:\[(.*)\])?", spec, re.DOTALL)
    if not found:
        raise UsageError(f"replay {spec!r}: use SCENARIO or SCENARIO[name=value;...]")
    control = CONTROLS.get(found[1]) if folder is None else None
    whole = matrix([found[1]], [driver], [store], [injector], seed, folder=folder, control=control)
    loaded = whole.scenarios[0]
    values = parse_values(found[2] or "")
    if not values and loaded.model.vary:
        first = next(loaded.variants(seed))
        raise UsageError(f"replay {spec!r}: say which case, as in {loaded.id}[{first.name}]")
    whole.only = loaded.variant(values)
    schedule_of(whole.only)
    return whole


@contextmanager
def _own(out: Path) -> Iterator[None]:
    """The folder, made, writable, and nobody else's until the run is over. Raises UsageError."""
    folder = -1
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe = out / ".writable"
            probe.touch()
            probe.unlink()
        except BlockingIOError:
            raise UsageError(
                f"--out {out}: another run writes there; give each a folder of its own"
            ) from None
        except OSError as error:
            raise UsageError(f"--out {out}: {error.strerror}") from None
        yield
    finally:
        if folder >= 0:
            os.close(folder)


class Interrupted(KeyboardInterrupt):
    """A signal asked us to end; `status` is the exit status for that."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `Interrupted`, once: what follows must not disturb the clearing up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def handle(number: int, _: object) -> None:
        for n in numbers:
            signal.signal(n, signal.SIG_IGN)
        raise Interrupted(number)

    before = {n: signal.signal(n, handle) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Reports:
    """All reports as one. What goes wrong with them is about --out."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._members: list[Report] = [member() for _, member in members("reports")]

    def _each(self, act: Callable[[Report], None]) -> None:
        for report in self._members:
            try:
                act(report)
            except OSError as error:
                raise HarnessError(f"--out {self._info.out}: {error.strerror or error}") from error

    def begin(self) -> None:
        self._each(lambda report: report.begin(self._info))

    def case(self, record: dict[str, Any], result: Result) -> None:
        self._each(lambda report: report.case(record, result.evidence_record))

    def end(self, summary: dict[str, int]) -> None:
        self._each(lambda report: report.end(summary))

    def discard(self) -> None:
        for report in self._members:
            report.discard()


def execute(
    matrix: Matrix,
    *,
    out: Path,
    jobs: int,
    xfail: Path | None,
    version: str,
    plain: bool,
    quiet: bool = False,
    wire: bool = False,
) -> int:
    """Run a matrix, write every report, print the outcome; the exit status."""
    known = KnownFailures.read(xfail) if xfail else None
    counts = matrix.counts()
    total = counts.total()
    if not total:
        raise UsageError("nothing to run: no selected scenario is meant for the selected stores and drivers")
    if idle := [driver for driver, count in counts.items() if not count]:
        where = ", ".join(store.id for store in matrix.stores)
        raise UsageError(
            f"nothing to run for --driver {idle[0]}: no selected scenario is meant for it on {where}"
        )
    with _own(out), interruptible():
        return _execute(
            matrix, out, total, min(jobs, total), known, version, _screen(plain, total, quiet), wire
        )


def _info(matrix: Matrix, out: Path, total: int, version: str) -> RunInfo:
    known = _calibration.read(out)
    versions = {injector.id: injector.available().version for injector in matrix.injectors}
    where = _calibration.where(known) if known else ""
    return RunInfo(version, matrix.seed, total, out, _calibration.rows(known, versions), where)


def _execute(
    matrix: Matrix,
    out: Path,
    total: int,
    jobs: int,
    known: KnownFailures | None,
    version: str,
    screen: _Plain,
    wire: bool,
) -> int:
    reports = _Reports(_info(matrix, out, total, version))
    summary: dict[tuple[str, str, str], Counter[str]] = {}
    obstacles: dict[tuple[str, str, str], Counter[str]] = {}

    def on_result(result: Result) -> None:
        record = result.record()
        reports.case(record, result)
        key = (record["driver"], record["store"], record["injector"])
        summary.setdefault(key, Counter())[record["verdict"]] += 1
        if record["verdict"] == Verdict.NOT_APPLICABLE:
            obstacles.setdefault(key, Counter())[record["diagnosis"]] += 1
        screen.case(record)
        if wire:
            for line in wire_lines(result):
                screen.line(line)

    tally, interrupted = Tally(), 0
    try:
        reports.begin()
        try:
            campaign = Campaign(matrix, on_result, jobs=jobs, known=known)
            tally = campaign.tally
            campaign.run()
        except Interrupted as signalled:
            interrupted = signalled.status
        finally:
            # Also when the run cannot go on: what was found out until then is whole and valid.
            reports.end(dict(tally.verdicts))
    finally:
        reports.discard()
        screen.close()
    screen.table(summary)
    for text in nothing_proved(summary, obstacles):
        screen.line(text)
    if interrupted:
        screen.line(f"interrupted after {sum(tally.verdicts.values())} of {total} cases")
    screen.line(f"report: {out / 'index.html'}  (results.json, junit.xml and cases/ beside it)")
    return interrupted or tally.exit_status


def nothing_proved(
    summary: Mapping[tuple[str, str, str], Counter[str]],
    obstacles: Mapping[tuple[str, str, str], Counter[str]],
) -> list[str]:
    """Who took part in no case at all, and mostly why: a row of zeros must not look like a success."""
    lines = []
    for (driver, store, injector), verdicts in summary.items():
        if verdicts.keys() <= PROVES_NOTHING:
            if Verdict.NOT_REACHED.value in verdicts:
                text = "no fault was met (`midstream replay` shows the requests that were made)"
            else:
                [(why, _)] = obstacles[driver, store, injector].most_common(1)
                text = f"no case applies ({why})"
            lines.append(f"nothing was proved about {driver} on {store} through {injector}: {text}")
    return lines


def wire_lines(result: Result) -> list[str]:
    """The evidence of a case, one line an event, for a reader."""
    lines = [f"  schedule: {line}" for line in result.case.variant.faults]
    for e in result.evidence.events:
        d = e.data
        match e.kind:
            case "request":
                rng = next((f" {n}: {v}" for n, v in d["fields"] if n.lower() == "range"), "")
                text = f"request {e.exchange}: {d['method']} {d['target']}{rng}"
            case "response":
                base = "" if d["base"] is None else f", from object byte {d['base']}"
                text = f"response {e.exchange}: {d['status']} by the {d['by']}{base}"
            case "fault":
                text = f"FAULT {d['spec']} after {d['body']} body bytes"
            case "sent":
                text = f"sent {e.exchange}: {d['body']} body bytes, {d['end']}"
            case "connection":
                text = f"connection {e.connection}"
            case "received":
                whole = "" if d["length"] is None else f" of {d['length']}"
                text = f"received {e.exchange}: {d['body']}{whole} body bytes"
            case "client-left":
                text = f"connection {e.connection}: the driver left"
            case "unfired":
                text = f"did not fire: {d['spec']} (request {e.exchange}: its place was {d['why']})"
            case "note" | "window":
                text = d.get("text") or d["state"]
            case _:
                text = " ".join([e.kind, *(f"{name}={value}" for name, value in d.items())])
        lines.append(f"  {e.at:9.4f} s  {text}")
    lines.append(f"  driver said: {result.outcome.said} {result.outcome.error}".rstrip())
    return [printable(line) for line in lines]


class _Plain:
    """Lines as they come: what is unexpected, then the totals."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self._total = total
        self._quiet = quiet

    def line(self, text: str) -> None:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output has gone; the reports are still wanted.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def case(self, record: dict[str, Any]) -> None:
        dull = not record["level"] and record["expected"] and self._total > 1
        if dull or (self._quiet and record["level"] != "harness"):
            return
        for text in case_lines(record):
            self.line(text)

    def table(self, summary: dict[tuple[str, str, str], Counter[str]]) -> None:
        for (driver, store, injector), verdicts in summary.items():
            counts = ", ".join(f"{v} {n}" for v, n in sorted(verdicts.items()))
            self.line(f"{driver} on {store} through {injector}: {counts}")

    def close(self) -> None:
        pass


def case_lines(record: dict[str, Any]) -> list[str]:
    """A case that needs attention, with the line that replays it."""
    note = f"  ({record['note']})" if record["note"] else ""
    head = f"{record['verdict']:<17} {record['id']}{note}"
    detail = [f"    {record['diagnosis']}"] if record["diagnosis"] else []
    return [printable(line) for line in (head, *detail, f"    {record['replay']}")]


def printable(text: str) -> str:
    """Text of any origin on one line of a terminal: control characters as escapes."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


class _Rich(_Plain):
    """A terminal: a live bar, then a table in colour."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        super().__init__(total, quiet)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("cases"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def case(self, record: dict[str, Any]) -> None:
        super().case(record)
        self._progress.update(self._task, advance=1, description=record["id"][:60])

    def close(self) -> None:
        self._progress.stop()

    def table(self, summary: dict[tuple[str, str, str], Counter[str]]) -> None:
        from rich.markup import escape
        from rich.table import Table

        colours = dict.fromkeys(("pass", "clean_failure"), "green")
        colours |= dict.fromkeys(("observed", "not_applicable", "not_reached"), "dim")
        colours |= {"restarted": "yellow", "harness_error": "magenta"}
        table = Table("driver", "store", "injector", "verdicts")
        for (driver, store, injector), verdicts in summary.items():
            cells = [f"[{colours.get(v, 'red')}]{v} {n}[/]" for v, n in sorted(verdicts.items())]
            table.add_row(escape(driver), store, injector, "  ".join(cells))
        self._console.print(table)


def _screen(plain: bool, total: int, quiet: bool) -> _Plain:
    return _Plain(total, quiet) if plain or not sys.stdout.isatty() else _Rich(total, quiet)
