"""The origin's process: HTTP/1.1 over asyncio, keep-alive and pipelining.

    python -m midstream.stores._origin_server [--port 0] [--dir FOLDER]

Prints one line of JSON, {"port", "control"}, when it listens. Below the `control` path, which only the reader
of that line knows, objects are made and looked at: POST put, delete, limit, shorten; GET stat, read, keys,
uploads, made.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import secrets
from pathlib import Path

from midstream._processes import announce, guard
from midstream.stores._origin_application import Application
from midstream.stores._origin_http import Connection
from midstream.stores._origin_objects import Objects


async def serve(port: int, root: Path | None) -> None:
    control = f"/_control/{secrets.token_hex(8)}"
    application = Application(Objects(root), control)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(application), "127.0.0.1", port, backlog=512)
    announce(port=server.sockets[0].getsockname()[1], control=control)
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._origin_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir", type=Path, help="serve the files below this folder")
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)
    try:
        asyncio.run(serve(options.port, options.dir))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
