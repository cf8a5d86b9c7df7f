"""The loop that everybody writes first: retry, ask for the rest, append whatever comes.

It is here to be caught. It looks at no status, no Content-Range, no validator and no digest.
"""

from __future__ import annotations

import os

from midstream.drivers import Job, PythonDriver

ATTEMPTS = 5


class Naive(PythonDriver):
    id: str = "naive"
    summary: str = "a plain requests loop that appends whatever comes; meant to be caught"

    def version(self) -> str:
        import importlib.metadata

        return importlib.metadata.version("requests")

    def load(self) -> None:
        import requests  # noqa: F401

    def download(self, job: Job) -> None:
        import requests

        session = requests.Session()
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
        job.dest.touch()
        for attempt in range(ATTEMPTS):
            have = job.dest.stat().st_size
            headers = {**job.headers, "Range": f"bytes={have}-"} if have else dict(job.headers)
            try:
                with (
                    session.get(job.url, headers=headers, stream=True, timeout=job.idle_timeout) as answer,
                    job.dest.open("ab") as sink,
                ):
                    for piece in answer.iter_content(65536):
                        sink.write(piece)
                return
            except requests.RequestException:
                if attempt == ATTEMPTS - 1:
                    raise


MEMBER = Naive()
