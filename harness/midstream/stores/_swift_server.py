"""A real Swift in one process: proxy, account, container and object server, one device, one replica.

    python -m midstream.stores._swift_server --data FOLDER --user ACCOUNT:USER ... --key KEY [--port 0]

Prints one line of JSON, {"port", "control"}, when it listens; the port speaks Swift's own API, v1
authentication at /auth/v1.0 and S3. A POST to the `control` path, which only the reader of that line knows,
makes the tokens of the user in X-Auth-User invalid, or without that everybody's but that in X-Auth-Token.
FOLDER has to be on a file system with user xattrs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from midstream._processes import announce, guard
from midstream.stores._s3 import SMALL_PART
from midstream.stores._swift_parts import Application, Memory, log_to_stderr, with_control, with_memory

DEVICE = "sdb1"
SEND_BUFFER = 128 * 1024
BACKENDS = ("account", "container", "object")
SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = midstream
swift_hash_path_suffix = midstream

[storage-policy:0]
name = one
default = yes
"""


def settings(data: Path) -> dict[str, str]:
    """The configuration all four servers share."""
    return {
        "swift_dir": str(data / "etc"),
        "devices": str(data / "devices"),
        "recon_cache_path": str(data),
        "mount_check": "false",
        "disable_fallocate": "true",
        "fallocate_reserve": "0",
        "account_autocreate": "true",
        "allow_account_management": "true",
        # A driver may be held for long by a fault, and nobody retries an update that was given up.
        "client_timeout": "600",
        "node_timeout": "60",
        "container_update_timeout": "60",
        "conn_timeout": "5",
        "log_level": "ERROR",
        "log_address": "/nonexistent",
        "log_custom_handlers": f"{log_to_stderr.__module__}.{log_to_stderr.__name__}",
    }


def prepare(data: Path) -> None:
    """Lay out the folder and make Swift read its configuration from there."""
    (data / "etc").mkdir(parents=True)
    (data / "devices" / DEVICE / "tmp").mkdir(parents=True)
    (data / "etc" / "swift.conf").write_text(SWIFT_CONF)
    from swift.common import constraints, storage_policy, utils

    utils.set_swift_dir(str(data / "etc"))
    utils.validate_hash_conf()
    constraints.reload_constraints()
    storage_policy.reload_storage_policies()


def write_ring(data: Path, kind: str, port: int) -> None:
    """A ring of one device, which the backend of this kind serves at this port."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    address = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": DEVICE, "meta": "", **address})
    builder.rebalance()
    builder.get_ring().save(str(data / "etc" / f"{kind}.ring.gz"))


def backend(kind: str, conf: dict[str, str]) -> Application:
    module = importlib.import_module({"object": "swift.obj"}.get(kind, f"swift.{kind}") + ".server")
    made: Application = module.app_factory(conf)
    return made


S3API = {"s3_acl": "false", "location": "us-east-1", "auth_pipeline_check": "false"}


def proxy(conf: dict[str, str], users: Sequence[str], key: str, control: str) -> Application:
    """The proxy server in the pipeline Swift's own sample configuration recommends, innermost first."""
    accounts = {f"user_{user.replace(':', '_')}": f"{key} .admin" for user in users}
    pipeline: list[tuple[str, dict[str, str]]] = [
        ("symlink", {}),
        ("versioned_writes", {"allow_versioned_writes": "true", "allow_object_versioning": "true"}),
        ("dlo", {}),
        ("slo", {"allow_async_delete": "false"}),  # nobody here would delete the segments later
        ("copy", {}),
        ("tempauth", accounts),
        ("tempurl", {}),
        ("s3api.s3api", {**S3API, "min_segment_size": str(SMALL_PART)}),
        ("bulk", {}),
        ("listing_formats", {}),
    ]
    from swift.proxy.server import Application as Proxy

    application: Application = Proxy(conf)
    for module, options in pipeline:
        application = middleware(module, conf, options)(application)
    memory = Memory()
    application = with_memory(application, memory)
    for module in ("healthcheck", "gatekeeper", "catch_errors"):
        application = middleware(module, conf, {})(application)
    return with_control(application, memory, control)


def middleware(module: str, conf: dict[str, str], options: dict[str, str]) -> Any:
    found = importlib.import_module(f"swift.common.middleware.{module}")
    return found.filter_factory(conf, **options)


def leave_the_disk_alone() -> None:
    """Wait for no disk: the data never outlives the process, and a put takes a third less."""
    from eventlet import tpool

    def at_once(fd: object) -> None:
        """Take what has been written for stored."""

    os.fsync = os.fdatasync = at_once
    warnings.filterwarnings("ignore", "Zero threads in tpool")
    tpool.set_num_threads(0)  # threads are there to wait for disks


def serve(data: Path, users: Sequence[str], key: str, port: int) -> None:
    import eventlet
    from eventlet import wsgi
    from swift.common.wsgi import SwiftHttpProtocol

    prepare(data)
    sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in BACKENDS}
    for kind, socket in sockets.items():
        write_ring(data, kind, socket.getsockname()[1])
    conf = settings(data)
    applications = {kind: backend(kind, conf) for kind in BACKENDS}
    control = f"/_control/{secrets.token_hex(8)}"
    applications["proxy"] = proxy(conf, users, key, control)
    sockets["proxy"] = eventlet.listen(("127.0.0.1", port), backlog=512)
    # Little under way means that a change to a large object meets a response that is still being made.
    sockets["proxy"].setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
    silent = logging.getLogger("midstream.swift")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    servers = [
        eventlet.spawn(
            wsgi.server, sockets[kind], application, silent, protocol=SwiftHttpProtocol, log_output=False
        )
        for kind, application in applications.items()
    ]
    eventlet.sleep(0)
    announce(port=sockets["proxy"].getsockname()[1], control=control)
    for server in servers:
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._swift_server")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--user", action="append", required=True, metavar="ACCOUNT:USER")
    parser.add_argument("--key", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)  # its thread has to be a real one: before eventlet
    import eventlet

    eventlet.monkey_patch()
    leave_the_disk_alone()
    serve(options.data, options.user, options.key, options.port)


if __name__ == "__main__":
    main()
