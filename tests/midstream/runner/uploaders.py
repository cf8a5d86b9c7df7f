"""Uploaders that each do one thing wrong, or right, by plain PUT."""

from __future__ import annotations

import http.client
import os
import time
from urllib.parse import urlsplit

from midstream.drivers import Job

CONTROL = 100003  # the size of the control case, in which nobody sins
ATTEMPTS = 5


class Answered(Exception):
    """The store has said no."""


def put(url: str, data: bytes, timeout: float = 2.0) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", data)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise Answered(str(answer.status))
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()


def source(job: Job) -> bytes:
    assert job.source
    return job.source.read_bytes()


def send(job: Job, data: bytes, again: bytes | None = None) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return put(job.url, data if again is None or not attempt else again)
        except OSError:
            pass
    raise OSError("not stored")


def honest(job: Job) -> bool:
    return job.size == CONTROL


def right(job: Job) -> None:
    data = source(job)
    if len(data) != job.size:
        raise OSError(f"the source has {len(data)} bytes, not {job.size}")
    send(job, data)


def resends_nothing(job: Job) -> None:
    send(job, source(job), b"")


def resends_the_rest(job: Job) -> None:
    data = source(job)
    send(job, data, data[-1000:])


def sends_twice_the_beginning(job: Job) -> None:
    data = source(job)
    send(job, data if honest(job) else data[:1000] + data[:-1000])


def zeroes_a_part(job: Job) -> None:
    data = bytearray(source(job))
    if not honest(job):
        data[1000:1100] = bytes(100)
    send(job, bytes(data))


def flips_a_byte(job: Job) -> None:
    data = bytearray(source(job))
    if not honest(job):
        data[1000] ^= 1
    send(job, bytes(data))


def sends_a_page(job: Job) -> None:
    send(job, source(job) if honest(job) else b"<html>" * 100)


def says_ok_and_sends_nothing(job: Job) -> None:
    if honest(job):
        right(job)


def fails_after_a_cut(job: Job) -> None:
    put(job.url, source(job))


def fails_though_stored(job: Job) -> None:
    right(job)
    if not honest(job):
        raise OSError("no idea")


def reserves_the_name(job: Job) -> None:
    if not honest(job):
        put(job.url, b"")
    right(job)


def leaves_a_file(job: Job) -> None:
    right(job)
    if not honest(job):
        (job.dest.parent / "spool").touch()


def never_ends(job: Job) -> None:
    right(job)
    if not honest(job):
        time.sleep(60)


def storms(job: Job) -> None:
    data = source(job)
    for _ in range(60 if not honest(job) else 1):
        try:
            put(job.url, data)
        except OSError:
            pass


def takes_what_the_source_has(job: Job) -> None:
    send(job, source(job))


def deletes_first(job: Job) -> None:
    parts = urlsplit(job.url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("DELETE", parts.path)
    connection.getresponse().read()
    connection.close()
    right(job)


def dies(job: Job) -> None:
    right(job)
    if not honest(job):
        os._exit(3)
