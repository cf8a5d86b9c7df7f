"""The command line. Exit status: 0 done, 1 failed for the reason printed, 2 usage, 130 interrupted."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from reknit import (
    CallerError,
    Exhausted,
    Options,
    Progress,
    Refused,
    ReknitError,
    Report,
    SinkError,
    download,
    open_stream,
    upload,
)
from reknit._url import shown

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

# What several commands are told.
Url = Annotated[
    str, typer.Argument(help="http(s)://…, s3://bucket/key, swift://container/object, file:///path")
]
Idle = Annotated[float, typer.Option(help="Seconds the network may stay silent.")]
Connect = Annotated[float, typer.Option(help="Seconds to wait for a connection.")]
Attempts = Annotated[int, typer.Option(help="How often to try again in a row without a new byte.")]
Backoff = Annotated[float, typer.Option(help="Seconds before the first retry, at most.")]
Expect = Annotated[str | None, typer.Option(help="The digest it must have, like sha256:…")]
Verify = Annotated[bool, typer.Option(help="Verify the digest the store offers.")]
Headers = Annotated[list[str] | None, typer.Option(help="One more header for http, 'Name: value'.")]
Settings = Annotated[list[str] | None, typer.Option(help="A setting of the store, NAME=VALUE.")]
Bar = Annotated[bool, typer.Option(help="Show a progress bar on a terminal.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
PartSize = Annotated[int, typer.Option(help="Bytes of a part, where an object goes in parts.")]
Journal = Annotated[Path | None, typer.Option(help="The folder of the records of uploads under way.")]


STDOUT = "-"  # and ./- is a file


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reknit {importlib.metadata.version('midstream')}")
        raise typer.Exit


@app.callback()
def _reknit(
    version: Annotated[  # its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Transfers that survive dropped connections."""


@app.command()
def get(
    url: Url,
    dest: Annotated[
        str, typer.Argument(help="The file to write, which appears whole or not at all; - for stdout.")
    ],
    first: Annotated[int, typer.Option(help="The first byte wanted of the object.")] = 0,
    length: Annotated[int | None, typer.Option(help="How many bytes are wanted; all when not given.")] = None,
    parallel: Annotated[int, typer.Option(help="How many ranges to fetch at once, of a large object.")] = 1,
    idle_timeout: Idle = 30.0,
    connect_timeout: Connect = 10.0,
    attempts: Attempts = 6,
    backoff_base: Backoff = 0.5,
    expect: Expect = None,
    verify: Verify = True,
    header: Headers = None,
    store: Settings = None,
    progress: Bar = True,
    quiet: Quiet = False,
) -> None:
    """Download URL to DEST, continuing what an earlier run left behind."""
    with _told(url, lambda: "" if dest == STDOUT else _kept_beside(Path(dest))):
        if dest == STDOUT and parallel > 1:
            raise CallerError("--parallel needs a file to write to, not -")
        options = Options(
            parallel=parallel,
            idle_timeout=idle_timeout,
            connect_timeout=connect_timeout,
            attempts=attempts,
            backoff_base=backoff_base,
            expect=expect,
            verify=verify,
            headers=_pairs("--header", header, ":"),
            store=_pairs("--store", store, "="),
        )
        with _bar(progress and not quiet) as show:
            if dest == STDOUT:
                report = _to_stdout(url, first, length, options, show)
            else:
                report = download(url, dest, first=first, length=length, options=options, progress=show)
    if not quiet:
        typer.echo(
            f"{dest}: {report.bytes} bytes in {report.seconds:.1f} s, {report.resumes} resumed, "
            f"{report.restarts} restarted, {_verified(report.verified, report.unverified)}",
            err=dest == STDOUT,
        )


def _to_stdout(
    url: str,
    first: int,
    length: int | None,
    options: Options,
    progress: Callable[[Progress], None] | None,
) -> Report:
    """What was written cannot be taken back: the exit status tells whether it is the object."""
    with (
        open_stream(url, first=first, length=length, options=options, progress=progress) as stream,
        open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as out,  # keeps nothing for the exit
    ):
        while block := stream.read(options.buffer):
            view = memoryview(block)
            try:
                while view:
                    view = view[out.write(view) :]
            except OSError as error:
                raise SinkError(f"cannot write to standard output: {error.strerror}", error) from error
        return stream.report()


def _verified(digests: str | None, why_not: str = "") -> str:
    return f"{digests or 'no digest'} verified{f' ({why_not})' if why_not else ''}"


def _kept_beside(dest: Path) -> str:
    """What a download left for the next, and how to be rid of it; "" for nothing."""
    from reknit import resume as left_behind  # what only a failure needs

    if not (size := left_behind.kept(dest)):
        return ""
    clean = shlex.join(["reknit", "resume", "--clean", str(dest.parent)])
    return f"{size} bytes are kept: run the same command again to continue, or `{clean}` to remove them"


def _kept_in_store(url: str, journal: Path | None) -> str:
    """What an upload left for the next; "" for nothing."""
    from reknit import resume as left_behind

    found = [o for o in left_behind.uploads(journal) if o.url == shown(url) and o.state == "resumable"]
    return "what is stored is kept: run the same command again to continue" if found else ""


@contextmanager
def _told(url: str, kept: Callable[[], str] = lambda: "") -> Generator[None, None, None]:
    """Ends the command with the reason and the status of what went wrong, and `kept`: what is left, and
    how to go on."""
    try:
        yield
    except CallerError as error:
        _fail(str(error), 2)
    except Exhausted as error:
        _fail(f"{error}\n{kept() or 'nothing is kept: the same command begins anew'}", 1)
    except Refused as error:
        _fail(f"{shown(url)}: {error}\n{kept()}".rstrip(), 1)
    except ReknitError as error:
        _fail(f"{error}\n{kept()}".rstrip(), 1)
    except KeyboardInterrupt:
        _fail(f"interrupted; {kept() or 'nothing is kept'}", 130)


@app.command()
def serve(
    store_url: Annotated[
        str, typer.Option("--store", help="The prefix to serve: s3://bucket/prefix/, file:///folder/, …")
    ],
    listen: Annotated[str, typer.Option(help="Where to listen, HOST:PORT.")] = "127.0.0.1:0",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen for other machines, too. There is no login.")
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name that requests may be for, where a proxy stands before it."),
    ] = None,
    writable: Annotated[bool, typer.Option("--writable", help="Let clients put objects.")] = False,
    part_size: PartSize = 8 << 20,
    journal: Journal = None,
    idle_timeout: Annotated[float, typer.Option(help="Seconds the store may stay silent.")] = 30.0,
    connect_timeout: Connect = 10.0,
    attempts: Attempts = 6,
    backoff_base: Backoff = 0.5,
    header: Headers = None,
    setting: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")] = False,
) -> None:
    """Serve the objects below a store URL over HTTP; drops of the store are healed behind it."""
    from reknit import gateway  # what nobody else needs

    try:
        options = Options(
            idle_timeout=idle_timeout,
            connect_timeout=connect_timeout,
            attempts=attempts,
            backoff_base=backoff_base,
            headers=_pairs("--header", header, ":"),
            store=_pairs("--setting", setting, "="),
            part_size=part_size,
            journal=journal,
            buffer=256 << 10,
        )
        where = gateway.address(listen, allow_remote=allow_remote)
        server = gateway.Gateway(
            store_url,
            options,
            where,
            writable=writable,
            hosts=host or (),
            log=lambda line: None if quiet else typer.echo(line, err=True),
        )
    except CallerError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"cannot listen on {listen}: {error.strerror}", 1)
    gateway.until_told(server, lambda: typer.echo(server.url))


@app.command()
def put(
    source: Annotated[str, typer.Argument(help="The file to store; - reads standard input.")],
    url: Url,
    idle_timeout: Idle = 30.0,
    connect_timeout: Connect = 10.0,
    attempts: Attempts = 6,
    backoff_base: Backoff = 0.5,
    size: Annotated[
        int | None,
        typer.Option(help="The bytes SOURCE must have: a pipe that ends early looks like any other."),
    ] = None,
    expect: Expect = None,
    verify: Verify = True,
    part_size: PartSize = 8 << 20,
    parallel: Annotated[int, typer.Option(help="How many parts to send at once, of a large object.")] = 1,
    keep: Annotated[
        bool, typer.Option(help="Leave what is stored for a later run when the store keeps failing.")
    ] = False,
    journal: Journal = None,
    header: Headers = None,
    store: Settings = None,
    progress: Bar = True,
    quiet: Quiet = False,
) -> None:
    """Store SOURCE at URL, continuing what an earlier run left behind."""
    with _told(url, lambda: _kept_in_store(url, journal)):
        options = Options(
            idle_timeout=idle_timeout,
            connect_timeout=connect_timeout,
            attempts=attempts,
            backoff_base=backoff_base,
            expect=expect,
            verify=verify,
            part_size=part_size,
            parallel=parallel,
            keep=keep,
            journal=journal,
            headers=_pairs("--header", header, ":"),
            store=_pairs("--store", store, "="),
        )
        with _bar(progress and not quiet) as show:
            given = sys.stdin.buffer if source == "-" else source
            report = upload(given, url, size=size, options=options, progress=show)
    if not quiet:
        typer.echo(
            f"{shown(url)}: {report.bytes} bytes in {report.seconds:.1f} s, {report.reused} reused, "
            f"{report.resent} sent again, {_verified(report.verified)}"
        )


@app.command()
def resume(
    folder: Annotated[
        Path, typer.Argument(help="Where downloads were to be written.", exists=True, file_okay=False)
    ] = Path(),
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove downloads that no process works on.")
    ] = False,
    journal: Journal = None,
) -> None:
    """List what interrupted transfers left: downloads in FOLDER, and uploads."""
    from reknit import resume as left_behind  # what nobody else needs

    with _told(""):
        found = [*left_behind.find(folder), *left_behind.uploads(journal)]
        gone = left_behind.clean(folder) if clean else []
    for one in found:
        removed = any(one.path == other.path for other in gone)
        of = "?" if one.total is None else one.total
        typer.echo(
            f"{'removed' if removed else one.state}  {one.usable} of {of} bytes  {_ago(one.age)}  "
            f"{one.name or 'upload'}  {one.url or 'unknown'}{f' at {one.at}' if one.at else ''}"
            f"{f'  ({one.why})' if one.why else ''}"
        )
    if not found:
        typer.echo("nothing is left behind")


def _ago(seconds: float) -> str:
    size, unit = next(
        ((n, u) for n, u in ((86400, "days"), (3600, "h"), (60, "min")) if seconds >= n), (1, "s")
    )
    return f"{seconds // size:.0f} {unit} ago"


def _pairs(option: str, given: list[str] | None, separator: str) -> dict[str, str]:
    pairs = [text.partition(separator) for text in given or []]
    for name, found, _ in pairs:
        if not found or not name.strip():
            raise CallerError(f"{option} {name!r}: not NAME{separator}VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"reknit: {message}", err=True)
    raise typer.Exit(status)


@contextmanager
def _bar(wanted: bool) -> Generator[Callable[[Progress], None] | None, None, None]:
    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    from rich import progress as bars

    columns = (
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.description}"),
    )
    with bars.Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def show(now: Progress) -> None:
            note = f"{now.resumes} resumed" if now.resumes else ""
            bar.update(task, completed=now.done, total=now.total, description=note)

        yield show
