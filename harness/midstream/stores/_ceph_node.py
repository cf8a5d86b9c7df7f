"""A Ceph of one monitor and one OSD, in a network of its own.

    python -m midstream.stores._ceph_node --data FOLDER [--owned FOLDER]

A client learns the OSD's address from the monitor, and both refuse a client that has come to another address
than their own: nothing can stand between them under another port. So the daemons have a loopback interface to
themselves (a network namespace), and what listens at their ports outside is we: the monitor's port leads to
it at once, the OSD's is left for an injector, which gets to the OSD by a socket with a path.

Prints one line of JSON, {"port", "osd"}, the two ports outside. FOLDER/ceph.conf is for clients, FOLDER/osd
leads to the OSD, and FOLDER/orders takes commands to be run in there: a line of JSON with the arguments of
`rbd`, then its input; back comes its output, then a line with its status and what it said.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from midstream._processes import announce, die_with_parent
from midstream.stores._daemon import Ended, Keeper

POOL = "rbd"
STEP_SECONDS = 60.0  # for one command of the set-up; the slowest takes 1.5 s
STREAM = 1 << 18
PORTS = 8  # that an OSD binds: four, with room
_NEWUSER, _NEWNET = 0x10000000, 0x40000000  # clone(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)

# No authentication: nobody gets in but by the ports outside, which are this machine's own.
CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
bluestore_block_size = 4294967296
osd_memory_target = 1073741824
mon_data_avail_crit = 1
mon_data_avail_warn = 1
run_dir = {data}/run
admin_socket =
pid_file =
log_file =
log_to_stderr = false
mon_data = {data}/mon
osd_data = {data}/osd-data
[osd]
ms_bind_port_min = {osd}
ms_bind_port_max = {last}
"""


def enter_own_network() -> None:
    """A network namespace with loopback alone; in a user namespace of one's own where one is not root.

    Raises OSError where the system does not allow it. The process must have no second thread yet.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_NEWNET if uid == 0 else _NEWNET | _NEWUSER):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot have a network namespace: {os.strerror(number)}")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


class Node(Keeper):
    """The two daemons, and the process that lets others in."""

    def __init__(self, data: Path, folder: Path | None) -> None:
        super().__init__(folder)
        self._data = data
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._gate = 0
        # Outside, before the network is left: one listens, the other only keeps its port.
        self._outside = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.mon: int = self._outside.getsockname()[1]
        self.osd: int = self._kept.getsockname()[1]

    def start(self) -> None:
        """Make a cluster and wait until it takes objects. Raises Ended and OSError."""
        data, fsid, osd = self._data, str(uuid.uuid4()), str(uuid.uuid4())
        for sub in ("mon", "osd-data", "run"):
            (data / sub).mkdir(parents=True)
        ports = {"mon": self.mon, "osd": self.osd, "last": self.osd + PORTS}
        (data / "ceph.conf").write_text(CONF.format(fsid=fsid, data=data, **ports))
        enter_own_network()
        address = f"[v2:127.0.0.1:{self.mon}]"
        monmap = str(data / "monmap")
        self._step("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._step(*self._with_conf("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap))
        self._daemon("ceph-mon", "-i", "a", "-f")
        self._step(*self._with_conf("ceph", "osd", "new", osd))
        # Without the same uuid the OSD never comes up.
        self._step(*self._with_conf("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd))
        self._daemon("ceph-osd", "-i", "0", "-f")
        self._step(*self._with_conf("ceph", "osd", "pool", "create", POOL, "8"))
        self._step(*self._with_conf("rbd", "pool", "init", POOL))  # comes back when the pool takes objects
        self._open_gate()

    def _with_conf(self, command: str, *arguments: str) -> list[str]:
        return [command, "-c", str(self._data / "ceph.conf"), *arguments]

    def _step(self, *command: str) -> None:
        self.look(0)
        process = self._spawn(command)
        deadline = time.monotonic() + STEP_SECONDS
        try:
            while (status := process.poll()) is None:
                if time.monotonic() > deadline:
                    raise Ended(f"{command[0]}: not done after {STEP_SECONDS:.0f} s")
                self._check()
                self.look(0.05)
        finally:
            process.kill()
            process.wait()
        if status:
            raise Ended(f"{' '.join(command)} failed with status {status}")

    def _daemon(self, command: str, *arguments: str) -> None:
        self._daemons[command] = self._spawn(self._with_conf(command, *arguments))

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # into the log
            process_group=0,
            preexec_fn=functools.partial(die_with_parent, signal.SIGKILL, self.libc),
        )

    def _open_gate(self) -> None:
        """Part with a process that lets others in."""
        listening = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        os.chdir(self._data)  # the path of a socket must be short
        for sock, name in zip(listening, ("osd", "orders"), strict=True):
            sock.bind(name)
            sock.listen(64)
        leader = os.getpid()
        self._gate = os.fork()
        if self._gate:
            for sock in (*listening, self._outside):
                sock.close()
            return
        try:
            os.setpgid(0, 0)
            die_with_parent(signal.SIGKILL, self.libc)
            if os.getppid() != leader:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            asyncio.run(Gate(self._data, self.mon, self.osd).serve(self._outside, *listening))
        finally:
            os._exit(1)

    def _check(self) -> None:
        for name, process in self._daemons.items():
            if process.poll() is not None:
                raise Ended(f"{name} has ended with status {process.returncode}")
        if self._gate and os.waitpid(self._gate, os.WNOHANG)[0]:
            self._gate = 0
            raise Ended("the gate has ended")

    def run(self) -> None:
        """Serve until nobody wants it any more. Raises Ended when one of the processes ends."""
        while True:
            self._check()
            self.look(None)

    def kill(self) -> None:
        for pid in [process.pid for process in self._daemons.values()] + [self._gate] * bool(self._gate):
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self._daemons.values():
            process.wait()


class Gate:
    """What lets others in: bytes to the daemons' ports, and commands."""

    def __init__(self, data: Path, mon: int, osd: int) -> None:
        self._data, self._mon, self._osd = data, mon, osd

    async def serve(self, mon: socket.socket, osd: socket.socket, orders: socket.socket) -> None:
        """Until the process is killed."""
        pass_mon = functools.partial(self._pass, self._mon)
        pass_osd = functools.partial(self._pass, self._osd)
        servers = [
            await asyncio.start_server(pass_mon, sock=mon),
            await asyncio.start_unix_server(pass_osd, sock=osd),
            await asyncio.start_unix_server(self._order, sock=orders),
        ]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    async def _pass(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, whose ends are passed on in both directions."""
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        both = (_pump(reader, inner_writer), _pump(inner_reader, writer))
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, inner_writer):
            end.close()

    async def _order(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arguments: list[str] = json.loads(await reader.readline())
        process = await asyncio.create_subprocess_exec(
            "rbd",
            "-c",
            str(self._data / "ceph.conf"),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        _, _, said = await asyncio.gather(
            _pump(reader, process.stdin), _pump(process.stdout, writer, end=False), process.stderr.read()
        )
        result = {"status": await process.wait(), "said": said.decode("utf-8", "replace")}
        writer.write(b"\n" + json.dumps(result).encode())
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: bool = True) -> None:
    """All bytes of one direction, then its end; what cannot be passed on any more ends the other, too."""
    try:
        while data := await reader.read(STREAM):
            writer.write(data)
            await writer.drain()
        if end and writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._ceph_node")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    parser.add_argument("--probe", action="store_true", help="only see whether a network can be had")
    options = parser.parse_args()
    if options.probe:
        enter_own_network()
        return
    node = Node(options.data, options.owned)
    try:
        node.start()
        announce(port=node.mon, osd=node.osd)
        node.run()
    except (Ended, OSError) as error:
        sys.stderr.write(f"{error}\n")
        node.end(1)


if __name__ == "__main__":
    main()
