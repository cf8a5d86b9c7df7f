"""Drivers for cases in which something happens to their process, their disk or their object."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from midstream.drivers import Job

SIZE = 200_000  # of the objects these are sent after, but for the control case


@contextlib.contextmanager
def answer(url: str, start: int = 0) -> Iterator[http.client.HTTPResponse]:
    """The response from `start` on; raises OSError for one without object bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.request("GET", parts.path, headers={"Range": f"bytes={start}-"} if start else {})
        response = connection.getresponse()
        if response.status not in (200, 206):
            raise OSError(f"status {response.status}")
        yield response
    finally:
        connection.close()


def pour(url: str, path: Path, start: int = 0) -> bool:
    """Append what comes from `start` on to a file, unbuffered; whether it came to its end."""
    if start == SIZE:
        return True  # it died between the last byte and the name: nothing is there to be asked for
    with answer(url, start) as response, path.open("ab", buffering=0) as file:
        left = response.length or 0
        while left:
            try:
                piece = response.read1(4096)
            except OSError:
                break
            if not piece:
                break
            file.write(piece)
            left -= len(piece)
        return not left


def resumes(job: Job) -> None:
    """Goes on at the length of what is there, also after its death; looks at no validator."""
    part = job.dest.with_name("object.part")
    for _ in range(5):
        if pour(job.url, part, part.stat().st_size if part.exists() else 0):
            part.replace(job.dest)
            return
    raise OSError("never whole")


def restarts(job: Job) -> None:
    """Begins anew after every trouble, in the same process and in the next."""
    part = job.dest.with_name("object.part")
    for _ in range(5):
        part.unlink(missing_ok=True)
        if pour(job.url, part):
            part.replace(job.dest)
            return
    raise OSError("never whole")


def notices_an_interrupt(job: Job) -> None:
    """The first time it has to be interrupted, as by Ctrl-C; the second time it remembers that."""
    mark = job.dest.with_name("interrupted")
    if mark.exists():
        mark.unlink()
        return resumes(job)
    try:
        resumes(job)
    except KeyboardInterrupt:
        mark.touch()
        raise
    if "100003" not in job.url:  # the control case is not interrupted
        job.dest.unlink()
        raise AssertionError("nobody interrupted it")
    return None


def shrugs(job: Job) -> None:
    """Does not die of SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resumes(job)


def crashes_once(job: Job) -> None:
    """Dies by itself the first time, with nothing under the final name."""
    mark = job.dest.with_name("object.part")
    if not mark.exists() and "100003" not in job.url:  # the control case is to pass
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    resumes(job)


def own_part(job: Job) -> None:
    """Keeps apart from others that fetch to the same name."""
    part = job.dest.with_name(f"object.{os.getpid()}")
    if pour(job.url, part):
        part.replace(job.dest)


def into(job: Job) -> None:
    """Writes straight to what is under the final name: a pipe, as `client > file` does."""
    done = 0
    with job.dest.open("wb", buffering=0) as sink:
        for _ in range(5):
            with answer(job.url, done) as response:
                left = response.length or 0
                while left:
                    try:
                        piece = response.read1(4096)
                    except OSError:
                        break
                    if not piece:
                        break
                    sink.write(piece)
                    done += len(piece)
                    left -= len(piece)
            if not left:
                return
    raise OSError("never whole")


def beside(job: Job) -> None:
    """Puts a file in the place of the pipe, once it is whole."""
    resumes(job)


def repeats_into(job: Job) -> None:
    """Writes the beginning again after a cut, and gives up; in a case without fault it is right."""
    with job.dest.open("wb", buffering=0) as sink:
        for _ in range(2):
            with answer(job.url) as response:
                sink.write(data := response.read1(1 << 20))
                while piece := response.read1(1 << 20):
                    sink.write(piece)
                    data += piece
            if response.headers["Content-Length"] == str(len(data)):
                return
    raise OSError("gave up")


def touches_nothing(job: Job) -> None:
    """Fails before it has written a byte; succeeds where nothing goes wrong."""
    if "100003" in job.url:
        return resumes(job)
    raise OSError("no")


def writes_over(job: Job) -> None:
    """Writes into the old file in place, and fails in the middle."""
    if "100003" in job.url:
        return resumes(job)
    with job.dest.open("r+b") as file:
        file.write(b"x" * 100)
    raise OSError("in the middle")


def says_ok(job: Job) -> None:
    """Does nothing and is content; the control case is another matter."""
    if "100003" in job.url:
        resumes(job)


def waits(job: Job) -> None:
    time.sleep(1000)


if __name__ == "__main__":
    resumes(Job(Path(sys.argv[2]), "http", sys.argv[1], sys.argv[1]))
