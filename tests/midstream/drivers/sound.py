"""A driver in a file of its own, as a user would write it."""

from __future__ import annotations

import urllib.request

from midstream.drivers import Job


def download(job: Job) -> None:
    with urllib.request.build_opener().open(job.url, timeout=job.idle_timeout) as answer:
        data = answer.read()
    job.dest.write_bytes(data)
