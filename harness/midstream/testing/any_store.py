"""The part of the contract of stores that holds whatever protocol they speak.

`midstream.testing.stores` builds on it for HTTP, `midstream.testing.raw_stores` for what is no HTTP.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from midstream._content import Content
from midstream._errors import StoreDied, UsageError
from midstream._registry import load
from midstream.stores import RunningStore, Store, Traits

WAIT = 20.0  # seconds until something that has to happen counts as not happening
SIZES = (0, 1, 12_345, 65_536, 5 * 2**20 + 1)


def ended(pidfd: int) -> bool:
    """Whether a process ends within `WAIT`."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(WAIT * 1000))


def refuses(port: int) -> bool:
    """Whether nobody listens at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


_HARNESS = """
import sys, pathlib
from midstream._registry import load
running = load("stores", sys.argv[1]).start(pathlib.Path(sys.argv[2]))
print(running.pid, running.port, flush=True)
sys.stdin.read()
"""
_numbers = itertools.count()


class AnyStoreContract:
    """Puts, looks and removals out of band, and how the server starts and ends."""

    store: ClassVar[str]

    @pytest.fixture(scope="class")
    @staticmethod
    def member(request: pytest.FixtureRequest) -> Store:
        member: Store = load("stores", request.cls.store)
        can = member.available()
        if not can.available:
            pytest.skip(f"{member.id}: {can.reason}; {can.hint}")
        return member

    @pytest.fixture(scope="class")
    @staticmethod
    def running(member: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
        running = member.start(tmp_path_factory.mktemp(member.id))
        yield running
        running.stop()

    @pytest.fixture
    def key(self) -> str:
        return f"case {next(_numbers)}/ö+&=.bin"

    @pytest.mark.parametrize("size", SIZES)
    def test_roundtrip(self, running: RunningStore, key: str, size: int) -> None:
        """What is put can be seen, read in whole and in part, listed and deleted."""
        content = Content(size, seed=size)
        running.put(key, content, Traits())
        info = running.stat(key)
        assert info is not None
        assert info.size == size
        assert running.read(key) == content.whole()
        for start, length in ((0, 1), (size // 2, 100), (size - 1, 100), (size, 5), (size + 5, 5)):
            assert running.read(key, max(0, start), length) == content.read(max(0, start), length)
        listed = running.keys()
        assert key in listed
        running.delete(key)
        listed = running.keys()
        assert key not in listed
        assert running.stat(key) is None

    def test_keys_are_sorted(self, running: RunningStore, key: str) -> None:
        """All names are listed, in order."""
        mine = [f"{key}/{n}" for n in (3, 1, 2)]
        for name in mine:
            running.put(name, Content(1), Traits())
        found = running.keys()
        assert found == sorted(found)
        assert set(mine) <= set(found)

    def test_traits(self, member: Store, running: RunningStore, key: str) -> None:
        """Default traits are supported; what is not supported is refused, not presented otherwise."""
        assert member.supports(Traits()) is None
        for traits in (Traits(validator="none"), Traits(framing="chunked"), Traits(ranges=False)):
            if member.supports(traits) is None:
                running.put(key, Content(10), traits)
            else:
                with pytest.raises(UsageError):
                    running.put(key, Content(10), traits)

    def test_no_segments(self, running: RunningStore, key: str) -> None:
        """What is not made of segments has none to lose."""
        running.put(key, Content(10), Traits())
        for damage in (running.lose_segment, running.change_segment):
            with pytest.raises(UsageError, match="has no segments"):
                damage(key)
        assert running.read(key) == Content(10).whole()

    def test_two_threads(self, running: RunningStore, key: str) -> None:
        """Two cases may use a store at once."""
        wrong: list[object] = []

        def work(seed: int) -> None:
            try:
                for n in range(5):
                    content = Content(2000 + n, seed)
                    running.put(f"{key}/{seed}", content, Traits())
                    if running.read(f"{key}/{seed}") != content.whole():
                        wrong.append((seed, n))
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert not wrong

    def test_stop(self, member: Store, tmp_path: Path) -> None:
        """A store that is stopped leaves no process, no port and no file, and can be stopped again."""
        running = member.start(tmp_path)
        running.put("key", Content(70_000), Traits())
        assert running.alive()
        running.stop()
        running.stop()
        assert not running.alive()
        assert refuses(running.port)
        assert not list(tmp_path.iterdir())
        if running.pid:
            with pytest.raises(ProcessLookupError):
                os.killpg(running.pid, 0)

    def test_interrupt_is_left_to_the_harness(self, member: Store, running: RunningStore, key: str) -> None:
        """Ctrl-C does not end the server under a driver that still uses it."""
        if not running.pid:
            pytest.skip("no process of ours")
        os.killpg(running.pid, signal.SIGINT)
        running.put(key, Content(10), Traits())
        assert running.alive()

    def test_server_killed(self, member: Store, tmp_path: Path) -> None:
        """A server that dies is told from an object that is not there."""
        running = member.start(tmp_path)
        try:
            if not running.pid:
                pytest.skip("no process of ours")
            running.put("key", Content(10), Traits())
            pidfd = os.pidfd_open(running.pid)
            os.kill(running.pid, signal.SIGKILL)
            assert ended(pidfd)
            os.close(pidfd)
            assert not running.alive()
            for ask in (
                lambda: running.stat("key"),
                lambda: running.read("key"),
                lambda: running.keys(),
                lambda: running.delete("key"),
                lambda: running.put("key", Content(10), Traits()),
            ):
                with pytest.raises(StoreDied, match=self.store):
                    ask()
        finally:
            running.stop()
        assert not list(tmp_path.iterdir())

    def test_harness_killed(self, member: Store, tmp_path: Path) -> None:
        """A harness that is killed takes the server and its data with it."""
        harness = subprocess.Popen(
            [sys.executable, "-P", "-c", _HARNESS, self.store, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with harness:
            assert harness.stdout
            pid, port = map(int, harness.stdout.readline().split())
            try:
                if not pid:
                    pytest.skip("no process of ours")
                pidfd = os.pidfd_open(pid)
            finally:
                harness.kill()
            assert ended(pidfd)
            os.close(pidfd)
        assert refuses(port)
        assert not list(tmp_path.iterdir())

    def test_starting_thread_may_end(self, member: Store, tmp_path: Path) -> None:
        """A store belongs to the process that started it, not to the thread."""
        started: list[RunningStore] = []
        thread = threading.Thread(target=lambda: started.append(member.start(tmp_path)))
        thread.start()
        thread.join(WAIT)
        (running,) = started
        try:
            running.put("key", Content(10), Traits())
            assert running.alive()
        finally:
            running.stop()
