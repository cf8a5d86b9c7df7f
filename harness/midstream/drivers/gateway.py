"""`reknit serve` in front of the store, used by a client that knows nothing of resuming.

Whatever is healed is healed inside the gateway; what cannot be healed has to reach the client as an end that
it cannot take for a whole body, or as an answer to its PUT that is no success.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from midstream._processes import die_with_parent
from midstream.drivers import Job, PythonDriver
from midstream.drivers._receiving import receiving
from midstream.drivers._sending import part_size, store_settings


class Gateway(PythonDriver):
    id: str = "gateway"
    summary: str = "`reknit serve` before the store, used by a plain client that neither resumes nor retries"
    parts: bool = True
    streams: bool = True
    directions: frozenset[str] = frozenset({"download", "upload"})

    def version(self) -> str:
        return importlib.metadata.version("midstream")

    def load(self) -> None:
        import reknit.cli
        import reknit.gateway  # noqa: F401

    def download(self, job: Job) -> None:
        with serving(*self._arguments(job)) as url:
            fetch(f"{url}{_name(job)}", job)

    def upload(self, job: Job) -> None:
        arguments = [*self._arguments(job), "--writable", "--part-size", str(part_size(job))]
        arguments += ["--journal", str(job.dest.parent)]
        for setting in store_settings(job, "tus").items():
            arguments += ["--setting", "=".join(setting)]
        with serving(*arguments) as url:
            send(f"{url}{_name(job)}", job)

    def _arguments(self, job: Job) -> list[str]:
        store = job.native.removesuffix(_name(job))
        arguments = ["--store", store, "--connect-timeout", "5", "--backoff-base", "0.005"]
        arguments += ["--idle-timeout", f"{job.idle_timeout:g}", "--quiet"]
        for header in job.headers.items():
            arguments += ["--header", ": ".join(header)]
        return arguments


def _name(job: Job) -> str:
    return job.native.rpartition("/")[2]


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """`reknit serve` with these arguments, as a process of its own; gives its URL.

    Forked, so that it need not be imported anew for each of thousands of cases.
    """
    heard, said = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(said, arguments))
    process.start()
    os.close(said)
    try:
        with os.fdopen(heard) as lines:
            url = lines.readline().strip()
        if not url:
            process.join()
            raise RuntimeError(f"reknit serve did not start: exit status {process.exitcode}")
        yield url
    finally:
        process.terminate()
        process.join()


def _serve(out: int, arguments: tuple[str, ...]) -> None:
    from reknit.__main__ import main

    die_with_parent(signal.SIGKILL)  # a driver that is killed is one of a gateway that is
    os.dup2(out, 1)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.argv = ["reknit", "serve", *arguments]
    main()


def fetch(url: str, job: Job) -> None:
    """One GET. The framing of the answer is all that tells whether its body is whole."""
    host = urlsplit(url)
    last = "" if job.length is None else job.first + job.length - 1
    part = {"Range": f"bytes={job.first}-{last}"} if job.first or job.length is not None else {}
    connection = http.client.HTTPConnection(host.hostname or "", host.port)
    connection.request("GET", host.path, headers=part)
    answer = connection.getresponse()
    if answer.status != (206 if part else 200):
        raise RuntimeError(f"status {answer.status}: {answer.read(200).decode().strip()}")
    with receiving(job) as sink:
        shutil.copyfileobj(answer, sink, 1 << 16)
        if answer.length:  # http.client does not complain when it is read in pieces
            raise http.client.IncompleteRead(b"", answer.length)
    connection.close()


def send(url: str, job: Job) -> None:
    """One PUT. A source that ends before its length ends the request unfinished."""
    assert job.source
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port)
    with job.source.open("rb") as source:
        size = job.size if job.source.is_fifo() else os.fstat(source.fileno()).st_size
        assert size is not None
        connection.putrequest("PUT", host.path)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # its answer says why
            while block := source.read(min(size, 1 << 16)):
                connection.send(block)
                size -= len(block)
            if size:
                connection.close()
                raise RuntimeError(f"the source ended {size} bytes early")
        answer = connection.getresponse()
        said = answer.read(200).decode().strip()
    connection.close()
    if answer.status not in (201, 204):
        raise RuntimeError(f"status {answer.status}: {said}")


MEMBER = Gateway()
