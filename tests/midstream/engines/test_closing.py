"""The end of a session of the embedded injector, whatever its connections are about."""

from __future__ import annotations

import socket
from typing import Any

from midstream._schedule import Schedule
from midstream.injectors import Plan
from midstream.injectors._relay import Relay
from midstream.injectors.embedded import EmbeddedSession, RunningEmbedded
from midstream.testing.injectors import operation


class Kept(EmbeddedSession):
    """Whoever comes gets a task that is cancelled before it begins; its relay is held elsewhere too."""

    def relay(self, client: Any) -> Relay:
        self.kept = super().relay(client)
        # Called back before the task that is about to be made has its first turn.
        self._loop.call_soon(lambda: [task.cancel() for task in self._open])
        return self.kept


def test_a_client_that_nobody_serves_yet() -> None:
    """Its connection ends with the session."""
    running = RunningEmbedded()
    plan = Plan(("127.0.0.1", 9), Schedule([]), operation)
    try:
        session = running.begin(lambda: Kept(running._loop, plan))
        with socket.create_connection(("127.0.0.1", int(session.url.rpartition(":")[2])), 10) as client:
            while not hasattr(session, "kept"):
                pass  # accepted soon
            session.close()
            assert client.recv(1) == b""
    finally:
        running.stop()
