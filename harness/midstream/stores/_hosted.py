"""Starting a server that is a part: its binary in a process of ours, or its image by docker."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from midstream._container import Container
from midstream._errors import SetupError
from midstream._parts import Endpoint, Found, find
from midstream._processes import READY_SECONDS, ServerProcess, free_port
from midstream.stores._daemon import answers
from midstream.stores._elsewhere import RunningS3Elsewhere
from midstream.stores._s3 import Keys, RunningS3
from midstream.stores._starting import own_folder


class _Contained:
    """A container as much as a `ServerProcess` as stores ask of one."""

    def __init__(
        self,
        found: Found,
        arguments: Sequence[str],
        env: Mapping[str, str],
        ready: str,
        fill: Path | None,
        folder: Path,
    ) -> None:
        port = free_port()
        if fill:
            fill.write_text(fill.read_text().replace("{port}", str(port)))
        self.ready = {"port": port}
        self.pid = 0  # it is no process of ours
        command = [word.replace("{port}", str(port)) for word in arguments]
        self._container = Container(found, command, env, [folder])
        deadline = time.monotonic() + READY_SECONDS
        while not answers(port, ready):
            if time.monotonic() > deadline or not self._container.alive():
                said = self._container.tail()
                self._container.stop()
                raise SetupError(f"{found.part}: the container of {found.what} did not get ready{said}")
            time.sleep(0.05)

    def alive(self) -> bool:
        return self._container.alive()

    def stop(self) -> None:
        self._container.stop()


def launch(
    found: Found,
    folder: Path,
    arguments: Sequence[str],
    env: Mapping[str, str],
    ready: str,
    fill: Path | None = None,
) -> ServerProcess:
    """Start a part's server, which owns `folder`; `{port}` in arguments and `fill` is its port.

    The folder is removed when that fails.
    """
    try:
        if found.how == "docker":
            return cast(ServerProcess, _Contained(found, arguments, env, ready, fill, folder))
        daemon = ["-m", "midstream.stores._daemon", "--owned", str(folder), "--ready", ready]
        daemon += ["--fill", str(fill), "--"] if fill else ["--"]
        return ServerProcess(found.part, [*daemon, found.what, *arguments], folder / "log", env)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def start_s3(
    name: str,
    folder: Path,
    keys: Keys,
    arguments: Callable[[Path], Sequence[str]],
    env: Mapping[str, str],
    ready: str,
    check: Callable[[Path], str] = lambda _: "",
) -> RunningS3:
    """Start an S3 server however it can be had, with its bucket. Raises SetupError.

    `check` says why the server could not keep its data in a folder, "" when it can.
    """
    found = find(name).require()
    own = own_folder(name, folder)
    if found.how == "attach":
        return attach_s3(name, found, own)
    if lack := check(own):
        own.rmdir()
        raise SetupError(f"{name}: {lack}; give a data folder on ext4 or xfs")
    for sub in ("data", "home", "versions"):
        (own / sub).mkdir()
    # HOME: neither reads nor leaves anything in the user's
    server = launch(found, own, arguments(own), {**env, "HOME": str(own / "home")}, ready)
    running = RunningS3(name, server, own, keys, found.version)
    try:
        running.create_bucket()
    except BaseException:
        running.stop()
        raise
    return running


def attach_s3(name: str, found: Found, folder: Path) -> RunningS3:
    """Use one that runs already."""
    variables = list(found.env.values())
    endpoint = Endpoint.parse(f"the address of {name}", found.what)
    try:
        return RunningS3Elsewhere(name, endpoint, Keys(*variables), folder, version=found.version)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
