"""A run from the command line: names resolved, campaign started, progress shown, reports written."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from midstream._campaign import Campaign, Matrix
from midstream._catalog import read_scenarios, scenario_folder
from midstream._errors import HarnessError, SetupError, UsageError
from midstream._registry import load, members
from midstream._runner import Result
from midstream._scenario import Loaded, select
from midstream._xfail import KnownFailures
from midstream.drivers import Driver
from midstream.drivers._spec import require, resolve
from midstream.injectors import Injector
from midstream.reports import Report, RunInfo
from midstream.stores import Store


def _scenarios(globs: Sequence[str], folder: Path | None) -> list[Loaded]:
    """The selected scenarios; files that no glob names are not even read."""
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--scenario-dir {folder}: no such folder")
    paths = sorted((folder or scenario_folder()).rglob("*.toml"))
    plain = [g for g in globs if re.fullmatch(r"[a-z0-9-]+", g)]
    if globs and len(plain) == len(globs) and {p.stem for p in paths} >= set(plain):
        paths = [p for p in paths if p.stem in plain]
    if not paths:
        raise UsageError(f"--scenario-dir {folder}: no .toml file below it")
    return select(read_scenarios(paths), globs)


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
) -> Matrix:
    """Resolve names to what is run; raises UsageError or SetupError."""
    chosen: list[tuple[Driver, str]] = []
    for spec in dict.fromkeys(drivers):
        driver = resolve(spec)
        chosen.append((driver, require(driver).version))
    store_members: list[Store] = _available("stores", stores)
    injector_members: list[Injector] = _available("injectors", injectors)
    return Matrix(_scenarios(globs, folder), chosen, store_members, injector_members, seed)


def one_case(
    spec: str, driver: str, store: str, injector: str, seed: int, *, folder: Path | None = None
) -> Matrix:
    """The matrix of a replay: one case. Raises UsageError."""
    found = re.fullmatch(r"([a-z0-9-]+)(?:\[(.*)\])?", spec, re.DOTALL)
    if not found:
        raise UsageError(f"replay {spec!r}: use SCENARIO or SCENARIO[name=value;...]")
    whole = matrix([found[1]], [driver], [store], [injector], seed, folder=folder)
    loaded = whole.scenarios[0]
    pairs = [part.partition("=") for part in (found[2] or "").split(";") if part]
    if not pairs and loaded.model.vary:
        first = next(loaded.variants(seed))
        raise UsageError(f"replay {spec!r}: say which case, as in {loaded.id}[{first.name}]")
    whole.only = loaded.variant({k: v for k, _, v in pairs})
    return whole


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from None


def execute(
    matrix: Matrix,
    *,
    out: Path,
    jobs: int,
    xfail: Path | None,
    version: str,
    plain: bool,
    wire: bool = False,
) -> int:
    """Run a matrix, write every report, print the outcome; the exit status."""
    known = KnownFailures.read(xfail) if xfail else None
    _prepare(out)
    total = matrix.count()
    info = RunInfo(version, matrix.seed, total, out)
    reports: list[Report] = [member() for _, member in members("reports")]
    screen = _screen(plain, total)
    summary: dict[tuple[str, str, str], Counter[str]] = {}

    def on_result(result: Result) -> None:
        record = result.record()
        for report in reports:
            report.case(record, result.evidence_record)
        key = (record["driver"], record["store"], record["injector"])
        summary.setdefault(key, Counter())[record["verdict"]] += 1
        screen.case(record)
        if wire:
            for line in wire_lines(result):
                screen.line(line)

    campaign = Campaign(matrix, on_result, jobs=jobs, known=known)
    try:
        for report in reports:
            report.begin(info)
        interrupted = False
        try:
            campaign.run()
        except KeyboardInterrupt:
            interrupted = True
        for report in reports:
            report.end(dict(campaign.tally.verdicts))
    except OSError as error:
        raise HarnessError(f"--out {out}: {error.strerror or error}") from error
    finally:
        screen.close()
    screen.table(summary)
    if interrupted:
        screen.line(f"interrupted after {sum(campaign.tally.verdicts.values())} of {total} cases")
    screen.line(f"report: {out / 'index.html'}  (results.json, junit.xml and cases/ beside it)")
    return 130 if interrupted else campaign.tally.exit_status


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
            case _:
                text = f"{e.kind} {d}"
        lines.append(f"  {e.at:9.4f} s  {text}")
    lines.append(f"  driver said: {result.outcome.said} {result.outcome.error}".rstrip())
    return lines


class _Plain:
    """Lines as they come: what is unexpected, then the totals."""

    def __init__(self, total: int) -> None:
        self._total = total

    def line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def case(self, record: dict[str, Any]) -> None:
        if not record["level"] and record["expected"] and self._total > 1:
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
    return [head, *detail, f"    {record['replay']}"]


class _Rich(_Plain):
    """A terminal: a live bar, then a table in colour."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
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
        from rich.table import Table

        colours = {"pass": "green", "clean_failure": "green", "restarted": "yellow", "harness_error": "magenta"}
        quiet = {"observed", "not_applicable", "not_reached"}
        table = Table("driver", "store", "injector", "verdicts")
        for (driver, store, injector), verdicts in summary.items():
            cells = [
                f"[{colours.get(v, 'dim' if v in quiet else 'red')}]{v} {n}[/]" for v, n in sorted(verdicts.items())
            ]
            table.add_row(driver, store, injector, "  ".join(cells))
        self._console.print(table)


def _screen(plain: bool, total: int) -> _Plain:
    return _Plain(total) if plain or not sys.stdout.isatty() else _Rich(total)

