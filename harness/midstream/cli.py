"""The command line. Commands parse, call the layers below, print; they decide nothing.

Exit status: 0 everything as expected, 1 a driver broke a MUST, 2 usage or set-up, 3 harness error, 130 on
Ctrl-C. Libraries are imported where they are used: the start of a one-case run is measured.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import signal
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from midstream._errors import MidstreamError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Cuts a store's connection at exactly the byte you name, and proves whether a driver put the object "
    "back together.",
)

DEFAULT_STORES = ("origin", "moto", "swift", "swift-s3")
OUT = Path("midstream-out")
AT_A_TIME = min(2 * (os.cpu_count() or 2), 64)  # a case waits for longer than it computes


class ListKind(StrEnum):
    scenarios = "scenarios"
    drivers = "drivers"
    stores = "stores"
    injectors = "injectors"
    faults = "faults"
    checks = "checks"
    reports = "reports"
    properties = "properties"


def version() -> str:
    return importlib.metadata.version("midstream")


class NobodyReads(Exception):
    """The reader of our output has gone (`| head`); from here on, output goes nowhere."""


def say(text: str = "") -> None:
    """One line to standard output. Raises NobodyReads."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Not passed on as it is: Typer would end with status 1, which blames a driver.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise NobodyReads from None


def fail(text: object, status: int) -> NoReturn:
    """One line to standard error, and the exit status."""
    sys.stderr.write(f"midstream: {' '.join(str(text).split())}\n")
    raise SystemExit(status)


def run_cli() -> None:
    """The entry point: every error on purpose becomes one line and its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
    except MidstreamError as error:
        fail(error, error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    except NobodyReads:
        raise SystemExit(128 + signal.SIGPIPE) from None
    except Exception as error:
        # Typer's errors of usage have no one home: some versions bring click along, others depend on it.
        if callable(message := getattr(error, "format_message", None)):
            if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
                raise SystemExit(2) from None
            where = getattr(getattr(error, "ctx", None), "command_path", "midstream")
            text = str(message()).replace("Value error, ", "")  # of the library that checks, no user's word
            fail(f"{text} (see `{where} --help`)", 2)
        # Ours, whatever it is: status 1 would blame a driver.
        traceback.print_exc()
        fail(f"internal error: {type(error).__name__}: {error}", 3)
    raise SystemExit(status)


@app.callback(invoke_without_command=True)
def _main(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        say(f"midstream {version()}")
        raise typer.Exit


# Typer reads these from the signature; they are shared by the commands that run cases.
Drivers = Annotated[
    list[str] | None,
    typer.Option(
        "--driver", help="A driver's id, 'cmd:COMMAND with {url} and {dest}', or py:MODULE:FUNCTION."
    ),
]
Stores = Annotated[
    list[str] | None, typer.Option("--store", help="A store's id (default: the embedded ones).")
]
Injectors = Annotated[list[str] | None, typer.Option("--injector", help="An injector's id.")]
Seed = Annotated[
    int, typer.Option(help="Chooses sampled offsets and the objects' bytes; equal seeds, equal runs.")
]
Jobs = Annotated[
    int, typer.Option("-j", "--jobs", min=1, max=64, help="Cases at a time (default: twice the cores).")
]
Out = Annotated[Path, typer.Option(help="Folder for results.json, junit.xml, index.html and cases/.")]


@app.command()
def run(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help="Scenario ids or globs (default: all).")
    ] = None,
    driver: Drivers = None,
    store: Stores = None,
    injector: Injectors = None,
    seed: Seed = 0,
    jobs: Jobs = AT_A_TIME,
    out: Out = OUT,
    xfail: Annotated[Path | None, typer.Option(help="Known failures with reasons (TOML).")] = None,
    scenario_dir: Annotated[
        Path | None,
        typer.Option(help="Run the scenario files below this folder instead of the bundled ones."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="One case of each of the most telling scenarios, on origin if no store is named."
        ),
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines even on a terminal.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only the totals, no line for each failure.")
    ] = False,
) -> None:
    """Run scenarios against drivers and stores, and write the report."""
    from midstream import _session

    matrix = _session.matrix(
        scenarios or [],
        driver or ["reknit"],
        store or (["origin"] if quick else list(DEFAULT_STORES)),
        injector or ["embedded"],
        seed,
        folder=scenario_dir,
        quick=quick,
    )
    status = _session.execute(
        matrix, out=out, jobs=jobs, xfail=xfail, version=version(), plain=plain, quiet=quiet
    )
    raise SystemExit(status)


@app.command()
def replay(
    spec: Annotated[
        str, typer.Argument(help="SCENARIO or SCENARIO[name=value;...], as a case's replay line has it.")
    ],
    driver: Annotated[str, typer.Option(help="The driver.")] = "reknit",
    store: Annotated[str, typer.Option(help="The store.")] = "origin",
    injector: Annotated[str, typer.Option(help="The injector.")] = "embedded",
    seed: Seed = 0,
    out: Out = OUT / "replay",
    scenario_dir: Annotated[Path | None, typer.Option(help="Where the scenario file is.")] = None,
) -> None:
    """Run exactly one case again and show what happened on the wire."""
    from midstream import _session

    matrix = _session.one_case(spec, driver, store, injector, seed, folder=scenario_dir)
    status = _session.execute(matrix, out=out, jobs=1, xfail=None, version=version(), plain=True, wire=True)
    raise SystemExit(status)


@app.command("list")
def list_(
    what: Annotated[ListKind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of objects.")] = False,
    out: Out = OUT,
) -> None:
    """List scenarios, properties, or the members of a family."""
    from midstream import _listing

    rows = _listing.rows(what.value, out)
    if as_json:
        say(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for row in rows:
        say(_listing.line(what.value, row))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of objects.")] = False,
    out: Annotated[
        Path, typer.Option(help="Folder of the reports; what calibrate measured is looked for below it.")
    ] = OUT,
) -> None:
    """Say what can be used here, in which version, how exact it is, and what to do about the rest."""
    from midstream import _listing

    rows = _listing.doctor(out)
    if as_json:
        say(json.dumps(rows, indent=1))
        return
    for row in rows:
        mark = "ok     " if row["available"] else "missing"
        tail = f"{row['version']} {row['how']}".strip() if row["available"] else row["hint"]
        calibration = f"; {row['calibration']}" if row["available"] and row["calibration"] else ""
        say(f"{mark} {row['family']:<10} {row['id']:<14} {tail}{calibration}")


@app.command()
def install(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Parts: minio, versitygw, gridfs, tusd, toxiproxy, mitmproxy, glance; others: in words."
        ),
    ],
) -> None:
    """Bring servers and engines into the cache, built from their published source."""
    from midstream import _install

    _install.install(names, say)


@app.command()
def calibrate(
    injector: Annotated[
        list[str] | None, typer.Option("--injector", help="An injector's id (default: all that are here).")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=100_000, help="Trials of each ending.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of the table.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for calibration.json and calibration.md.")] = OUT
    / "calibration",
    docs: Annotated[
        Path | None, typer.Option(help="A file whose calibration table is written anew, between its markers.")
    ] = None,
) -> None:
    """Measure how exact each injector is here, the latency it adds and its throughput."""
    from midstream import _calibrate, _calibration, _registry

    here = [name for name, kind in _registry.members("injectors") if kind.available().available]

    def tell(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"{text}\n")

    found = _calibrate.calibrate(injector or here, trials, tell)
    _calibration.write(found, out)
    if docs:
        _calibration.put_into(docs, _calibration.markdown(found))
    say(json.dumps(found.as_json(), indent=1) if as_json else _calibration.markdown(found))
    _calibration.check(found)


@app.command()
def proxy(
    upstream: Annotated[
        str,
        typer.Option(help="http://HOST:PORT of the server behind the proxy; tcp:// for another protocol."),
    ],
    fault: Annotated[list[str] | None, typer.Option(help="A fault line; may be given several times.")] = None,
    listen: Annotated[
        str, typer.Option(help="127.0.0.1:PORT to listen on (0: a free port).")
    ] = "127.0.0.1:0",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name outside this machine that may be the upstream.")
    ] = None,
) -> None:
    """Stand before a server and let faults fire: a plain faulty proxy for a browser or curl."""
    from midstream import _proxy

    # Blocked before any thread starts and before the URL is out: from then on a signal is waited for, and
    # none can come between a look and the wait.
    endings = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)

    def tell(text: str) -> None:
        try:
            say(text)
        except NobodyReads:
            pass  # the proxy goes on

    told = _proxy.Told(fault or [], tell)
    session, injector = _proxy.open_proxy(upstream, listen, allow_host or [], told)
    try:
        tell(session.url)
        signal.sigwait(endings)
    finally:
        session.close()
        injector.stop()
    told.end()


@app.command()
def schema() -> None:
    """Print the JSON Schema of a scenario file."""
    from midstream._model import json_schema

    say(json.dumps(json_schema(), indent=2))
