"""A part that runs by docker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midstream._errors import SetupError
from midstream._parts import PARTS, Found, docker_client

LABEL = "midstream"


class Container:
    """A part's image, running: on the host's network, so that it listens where its command tells it to.

    It is labelled with the process that started it; what a crash has left is removed by whoever is next.
    """

    def __init__(
        self,
        found: Found,
        command: Sequence[str],
        env: Mapping[str, str],
        mounts: Sequence[Path] = (),
        client: Any = None,
    ) -> None:
        self._client = client or docker_client()
        self._stopped = False
        _remove_stale(self._client)
        try:
            self._container = self._client.containers.run(
                found.what,
                list(command),
                detach=True,
                entrypoint=[entry] if (entry := PARTS[found.part].entry) else None,
                environment=dict(env),
                labels={LABEL: str(os.getpid())},
                network_mode="host",
                user=f"{os.getuid()}:{os.getgid()}",
                volumes={str(path): {"bind": str(path), "mode": "rw"} for path in mounts},
            )
        except Exception as error:
            self._client.close()
            raise SetupError(f"{found.part}: docker cannot run {found.what}: {error}") from error

    def alive(self) -> bool:
        if self._stopped:
            return False
        try:
            self._container.reload()
        except Exception:  # the daemon has gone, or someone has removed it
            return False
        return bool(self._container.status in ("created", "running"))

    def tail(self) -> str:
        """The end of what it wrote, as the end of a message."""
        try:
            said = self._container.logs(tail=4).decode("utf-8", "replace")
        except Exception:  # as in `alive`
            return ""
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return ": " + " | ".join(lines)[-600:] if lines else ""

    def stop(self) -> None:
        """Remove it with its volumes. May be called twice."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._container.remove(force=True, v=True)
        except Exception as error:
            if type(error).__name__ != "NotFound":
                raise SetupError(f"a container could not be removed: {error}") from error
        finally:
            self._client.close()


def _remove_stale(client: Any) -> None:
    """Remove containers of ours whose owner has ended without doing so."""
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        owner = container.labels.get(LABEL, "")
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            container.remove(force=True, v=True)
