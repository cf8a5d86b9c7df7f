"""Gateways with one sin each, before the store and read by a client that trusts the framing it is given.

midstream run --driver py:tests/saboteurs/gateways.py:ends_cleanly --store origin
"""

from __future__ import annotations

import http.client
import threading
from typing import Any

from midstream.drivers.gateway import fetch
from reknit import Options, ReknitError
from reknit.gateway import Gateway
from reknit.gateway._handler import _AT_ONCE, Handler
from reknit.gateway._head import fields

ORDINARY = Options(backoff_base=0.005, backoff_cap=0.2, idle_timeout=2.0, connect_timeout=5.0)


class EndsCleanly(Handler):
    """Sends the last chunk of a body whose store has dropped it (h2o/h2o PR 1490)."""

    def _deliver(self, decision: Any, about: Any, body: Any) -> None:
        head = [(n, v) for n, v in fields(decision, *about) if n != "Content-Length"]
        self._begin(decision.status, [*head, ("Transfer-Encoding", "chunked")])
        try:
            for block in body.blocks(decision.part.size(about[0].total)):
                self._write(block, chunked=True)
        except ReknitError:
            pass
        self.wfile.write(b"0\r\n\r\n")


class ServesTheFragment(Handler):
    """Keeps what came of a dropped body, and serves it to the next as whole (squid-cache/squid PR 528)."""

    def _fetch(self, url: str) -> None:
        kept = self.server.__dict__.get(self.path)
        if kept is None:
            super()._fetch(url)
            return
        self._begin(200, [("Content-Length", str(len(kept)))])
        self.wfile.write(kept)

    def _deliver(self, decision: Any, about: Any, body: Any) -> None:
        self._begin(decision.status, fields(decision, *about))
        self.close_connection = True
        came = b""
        try:
            for block in body.blocks(decision.part.size(about[0].total)):
                self._write(block, chunked=False)
                came += bytes(block)
        except ReknitError:
            self._ending(_AT_ONCE)
        self.server.__dict__[self.path] = came


def through(handler: type[Handler], job: Any, options: Options, tries: int = 1) -> None:
    """The object, by way of a gateway of that kind."""
    store, _, name = job.native.rpartition("/")
    kind = type("Sinner", (Gateway,), {"handler": handler})
    with kind(f"{store}/", options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            for left in reversed(range(tries)):
                try:
                    return fetch(f"{server.url}{name}", job)
                except (OSError, http.client.HTTPException):
                    if not left:
                        raise
        finally:
            server.shutdown()
            thread.join()


def keeps_the_rules(job: Any) -> None:
    """The gateway itself, which is caught nowhere."""
    through(Handler, job, ORDINARY)


def ends_cleanly(job: Any) -> None:
    through(EndsCleanly, job, ORDINARY)


def serves_the_fragment(job: Any) -> None:
    through(ServesTheFragment, job, ORDINARY, tries=2)
