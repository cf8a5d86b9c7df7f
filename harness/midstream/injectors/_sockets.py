"""Sockets under an event loop: waiting, moving bytes without copying them, and ending exactly.

Endings are the delicate part. A reset discards whatever the sender's kernel still holds, so it may only be
sent once the peer's kernel has acknowledged every byte (SIOCOUTQ is 0): closing with a zero linger right
after `send` loses bytes in about a third of all trials. And a close with unread data in the receive buffer
sends a reset where an orderly end was meant (RFC 2525 section 2.17), so an orderly end drains first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from midstream.injectors._tls import TlsSocket

    # The second has the calls of the first that are used here.
    Endpoint: TypeAlias = socket.socket | TlsSocket

SIOCOUTQ = 0x5411  # tcp(7): bytes in the send queue that are not yet acknowledged
TCP_ESTABLISHED, TCP_CLOSE = 1, 7  # tcp_states.h; the first byte of TCP_INFO
F_SETPIPE_SZ = 1031
PIPE_SIZE = 1 << 20
RECV = 256 * 1024
_MOVE, _NONBLOCK = 1, 2  # splice(2)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def wait(
    read: tuple[Endpoint, ...] = (),
    write: tuple[Endpoint, ...] = (),
    done: asyncio.Task[None] | None = None,
) -> None:
    """Return when one of the sockets is ready (or has failed: the next call on it tells) or a task is done.

    A loop knows one reader and one writer per descriptor: two tasks must never wait for the same direction of
    a socket, and none may close a socket that another waits on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        _wake(future)

    # By number: given a socket, the loop formats its addresses for an error message it does not need.
    readers, writers = [s.fileno() for s in read], [s.fileno() for s in write]
    if done:
        done.add_done_callback(wake)
    for number in readers:
        loop.add_reader(number, _wake, future)
    for number in writers:
        loop.add_writer(number, _wake, future)
    try:
        await future
    finally:
        for number in readers:
            loop.remove_reader(number)
        for number in writers:
            loop.remove_writer(number)
        if done:
            done.remove_done_callback(wake)


async def wait_for(
    seconds: float | None, read: tuple[Endpoint, ...] = (), done: asyncio.Task[None] | None = None
) -> bool:
    """Wait at most so long (None: without end); False when the time ran out."""
    try:
        async with asyncio.timeout(seconds):
            await wait(read, done=done)
    except TimeoutError:
        return False
    return True


def try_recv(sock: Endpoint, size: int) -> bytes | None:
    """Bytes, b"" at the end, None when nothing is there yet."""
    try:
        return sock.recv(size)
    except BlockingIOError:
        return None


async def recv(sock: Endpoint, size: int) -> bytes:
    while (data := try_recv(sock, size)) is None:
        await wait(read=(sock,))
    return data


def silent(sock: Endpoint) -> bool:
    """Whether the peer is there and says nothing; raises ConnectionError when the connection has failed.

    One that has spoken or ended its direction need not be watched further: it may be about to leave or may
    read on, which only the next send can tell.
    """
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


async def send_all(sock: Endpoint, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await wait(write=(sock,))


def unsent(sock: Endpoint) -> int:
    """Bytes the peer's kernel has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQ, bytes(4)))[0])


def failed(sock: Endpoint) -> bool:
    """Whether the connection is over for the kernel, whoever was told of the error."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def peer_has_left(sock: Endpoint) -> bool:
    """Whether the peer has ended its direction or the connection, found out without reading what it sent."""
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED)


async def delivered(sock: Endpoint) -> None:
    """Return when the peer's kernel holds every byte sent, or the connection has failed.

    Polled, since the kernel has no event for it: 50 microseconds at first, doubling up to 5 milliseconds, so
    that a peer that does not read costs nothing. Between two processes of one kernel (unix(7)) what was sent
    is in the other's queue already.
    """
    if isinstance(sock, socket.socket) and sock.family is socket.AF_UNIX:
        return
    pause = 50e-6
    while unsent(sock) and not failed(sock):
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5e-3)


async def reset(sock: Endpoint) -> None:
    """Deliver what was sent, then RST."""
    await delivered(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def half_close(sock: Endpoint, *, answer_data_with_reset: bool) -> None:
    """Deliver what was sent, then FIN; keep reading until the peer ends too.

    With `answer_data_with_reset`, data that arrives after the FIN is answered as if the server process had
    gone: the peer sees the end first and a reset on its next request. The reset waits until the FIN is
    acknowledged, since it would take the bytes before it along.
    """
    try:
        # What has arrived before the end was meant for the server; it is not answered by a reset. Not more
        # than a receive buffer holds, so that a peer that keeps sending does not keep us here.
        for _ in range(64):
            if not try_recv(sock, RECV):
                break
        sock.shutdown(socket.SHUT_WR)
        while await recv(sock, RECV):
            if answer_data_with_reset:
                await reset(sock)
                return
            await asyncio.sleep(0)  # a peer that never pauses must not stop the others
    except OSError:
        pass
    sock.close()


class Pipe:
    """A kernel pipe through which `splice` moves payload from one socket to another."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        try:
            fcntl.fcntl(self.write_end, F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # over the user's limit: the default size is slower, not wrong
        self.size = fcntl.fcntl(self.write_end, F_SETPIPE_SZ + 1)
        self.moved = 0  # bytes of the last `move` that reached the sink, also when it raised
        self.failed = False  # the source ended by an error

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)

    async def move(
        self, source: socket.socket, sink: socket.socket, room: int, *, watch: bool
    ) -> tuple[int, bool]:
        """Move up to `room` bytes; gives how many reached the sink and whether the source ended.

        Returns early only when the source has ended. Raises ConnectionError of the sink, with `watch` also
        while the source says nothing; an error of the source counts as its end and sets `failed`.
        """
        held, ended, turns = 0, False, 0
        self.moved = moved = 0
        while moved < room and not (ended and not held):
            progress = False
            want = min(self.size - held, room - moved - held)
            if want and not ended:
                try:
                    n = os.splice(source.fileno(), self.write_end, want, flags=_MOVE | _NONBLOCK)
                    ended, progress, held = not n, True, held + n
                except BlockingIOError:
                    pass
                except OSError:
                    ended = progress = self.failed = True
            if held:
                try:
                    n = os.splice(self.read_end, sink.fileno(), held, flags=_MOVE | _NONBLOCK)
                    progress, held, moved = True, held - n, moved + n
                    self.moved = moved
                except BlockingIOError:
                    pass
            turns += 1
            if not progress:
                if held:
                    await wait(write=(sink,))
                else:
                    await wait(read=(source, sink) if watch else (source,))
                    watch = watch and silent(sink)
            elif turns % 64 == 0 and moved < room:
                await asyncio.sleep(0)  # other connections have their turn
        return moved, ended
