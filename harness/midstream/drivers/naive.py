"""The loops that everybody writes first. They are here to be caught.

The download asks for the rest and appends whatever comes; it looks at no status, no Content-Range, no
validator and no digest. The upload sends an open file, and after a failure sends it again as it then is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from midstream.drivers import Job, PythonDriver

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5


class Naive(PythonDriver):
    id: str = "naive"
    summary: str = "plain requests loops that append whatever comes; meant to be caught"
    directions: frozenset[str] = frozenset({"download", "upload"})

    def version(self) -> str:
        import importlib.metadata

        return importlib.metadata.version("requests")

    def load(self) -> None:
        import requests  # noqa: F401

    def _session(self) -> requests.Session:
        import requests

        session = requests.Session()
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
        return session

    def upload(self, job: Job) -> None:
        import requests

        assert job.source
        session = self._session()
        with job.source.open("rb") as source:
            for attempt in range(ATTEMPTS):
                try:
                    session.put(job.url, data=source, headers=job.headers, timeout=job.idle_timeout)
                    return
                except requests.RequestException:
                    if attempt == ATTEMPTS - 1:
                        raise

    def download(self, job: Job) -> None:
        import requests

        session = self._session()
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
