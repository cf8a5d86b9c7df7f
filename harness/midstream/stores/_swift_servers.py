"""A Swift as it is deployed: proxy, account, container and three object servers, each a process of its own.

    python -m midstream.stores._swift_servers --data FOLDER --user ACCOUNT:USER ... --key KEY

Prints one line of JSON when all listen: {"port", "control"} as `_swift_server` does, and {"orders",
"secret"}: at the port `orders` a line `SECRET kill N` ends object server N (0, 1 or 2) as a crash would,
`SECRET start N` starts it again, and `SECRET revive N` does so with an empty disk, as after a repair; the
answer is `ok` when it is done.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from midstream._processes import announce, die_with_parent
from midstream.stores import _swift_server as one
from midstream.stores._daemon import Ended, Keeper
from midstream.stores._swift_parts import Application

REPLICAS = 3
ZONES = tuple(f"object{n}" for n in range(REPLICAS))
SERVERS = ("account", "container", *ZONES, "proxy")
# An object server that is back is asked again at once; which one is read from first is no matter of chance.
SETTINGS = {
    # However often the proxy failed, a server that is back is asked: what comes next must find all three.
    "error_suppression_limit": "1000000",
    "conn_timeout": "1",
    "sorting_method": "affinity",
    "read_affinity": ", ".join(f"r1z{zone}={zone}" for zone in range(1, REPLICAS + 1)),
}


def kind(server: str) -> str:
    return server.rstrip("012")


def device(server: str) -> str:
    return server if server in ZONES else one.DEVICE


def write_ring(data: Path, name: str, servers: Sequence[str], ports: dict[str, int]) -> None:
    """A ring in which each of the servers keeps one replica on a device of its own."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=4, replicas=len(servers), min_part_hours=0)
    for number, server in enumerate(servers):
        at = {"ip": "127.0.0.1", "port": ports[server]}
        again = {"replication_ip": "127.0.0.1", "replication_port": ports[server]}
        where = {"id": number, "region": 1, "zone": number + 1, "device": device(server)}
        builder.add_dev({**where, **at, **again, "weight": 1.0, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(data / "etc" / f"{name}.ring.gz"))


def listen(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=512)


class Cluster(Keeper):
    """All the servers; any but an object server that ends takes the others with it."""

    def __init__(self, data: Path, users: Sequence[str], key: str, folder: Path | None) -> None:
        super().__init__(folder)
        self._data = data
        self._pids: dict[str, int] = {}
        self._control = f"/_control/{secrets.token_hex(8)}"
        self._secret = secrets.token_hex(16)
        self._orders = listen()
        one.prepare(data)
        for zone in ZONES:
            (data / "devices" / zone / "tmp").mkdir(parents=True)
        sockets = {server: listen() for server in SERVERS}
        # Little under way means that a change to a large object meets a response that is still being made.
        sockets["proxy"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, one.SEND_BUFFER)
        self._ports: dict[str, int] = {server: s.getsockname()[1] for server, s in sockets.items()}
        for name, servers in (("account", ["account"]), ("container", ["container"]), ("object", ZONES)):
            write_ring(data, name, servers, self._ports)
        conf = {**one.settings(data), **SETTINGS}
        self._make: dict[str, Callable[[], Application]] = {
            "proxy": lambda: one.proxy(conf, users, key, self._control),
            **{name: lambda name=name: one.backend(name, conf) for name in one.BACKENDS},  # type: ignore[misc]
        }
        import_servers()  # once, before the servers part
        for server in SERVERS:
            self._start(server, sockets.pop(server), list(sockets.values()))

    def _start(self, server: str, listening: socket.socket, others: Sequence[socket.socket]) -> None:
        """Part with a process that serves; what it listens at, nobody else keeps open."""
        leader = os.getpid()
        pid = os.fork()
        if pid:
            self._pids[server] = pid
            listening.close()
            return
        try:
            die_with_parent(signal.SIGKILL, self.libc)
            if os.getppid() != leader:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for other in (*others, self._orders):
                other.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            serve(self._make[kind(server)], listening)
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def announce(self) -> None:
        announce(
            port=self._ports["proxy"],
            control=self._control,
            orders=self._orders.getsockname()[1],
            secret=self._secret,
        )

    def run(self) -> None:
        """Serve until nobody wants it any more. Raises Ended when a server without a stand-in ends."""
        while True:
            if self.look(None, self._orders.fileno()):
                self._obey()
            for server, pid in list(self._pids.items()):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._pids[server]
                    if server not in ZONES:
                        raise Ended(f"the {server} server has ended")

    def _obey(self) -> None:
        asking, _ = self._orders.accept()
        with asking:
            asking.settimeout(5)
            try:
                words = asking.makefile("r").readline().split()
                if len(words) == 3 and secrets.compare_digest(words[0], self._secret):
                    orders = {"kill": self._lose, "start": self._begin, "revive": self._revive}
                    orders[words[1]](ZONES[int(words[2])])
                    asking.sendall(b"ok\n")
            except (OSError, ValueError, LookupError) as error:
                sys.stderr.write(f"order not carried out: {error!r}\n")

    def _lose(self, server: str) -> None:
        pid = self._pids.pop(server, 0)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _begin(self, server: str) -> None:
        if server not in self._pids:
            self._start(server, listen(self._ports[server]), [])

    def _revive(self, server: str) -> None:
        if server in self._pids:
            return
        disk = self._data / "devices" / server
        shutil.rmtree(disk)
        (disk / "tmp").mkdir(parents=True)
        self._begin(server)

    def kill(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)


def import_servers() -> None:
    import swift.account.server
    import swift.container.server
    import swift.obj.server
    import swift.proxy.server  # noqa: F401


def serve(make: Callable[[], Application], listening: socket.socket) -> None:
    """Be one of Swift's servers; as Swift does it, what blocks is made green after the parting."""
    import eventlet
    from eventlet import wsgi
    from eventlet.greenio import GreenSocket
    from swift.common.utils import monkey_patch
    from swift.common.wsgi import SwiftHttpProtocol

    monkey_patch()
    eventlet.hubs.use_hub()
    one.leave_the_disk_alone()
    silent = logging.getLogger("midstream.swift")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    wsgi.server(GreenSocket(listening), make(), silent, protocol=SwiftHttpProtocol, log_output=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._swift_servers")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--user", action="append", required=True, metavar="ACCOUNT:USER")
    parser.add_argument("--key", required=True)
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    cluster = Cluster(options.data, options.user, options.key, options.owned)
    cluster.announce()
    try:
        cluster.run()
    except Ended as error:
        sys.stderr.write(f"{error}\n")
        cluster.end(1)


if __name__ == "__main__":
    main()
