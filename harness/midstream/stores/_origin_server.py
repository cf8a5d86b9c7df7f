"""The origin's process: HTTP/1.1 over asyncio, keep-alive and pipelining.

    python -m midstream.stores._origin_server [--host 127.0.0.1] [--port 0] [--dir FOLDER] [--secret WORD]

Prints one line of JSON, {"port", "control"}, when it listens. Below the `control` path, which only the reader
of that line knows, or who chose the secret in it, objects are made and looked at: POST put, delete, limit,
shorten; GET stat, read, keys, uploads, made.
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


async def serve(host: str, port: int, root: Path | None, secret: str) -> None:
    control = f"/_control/{secret or secrets.token_hex(8)}"
    application = Application(Objects(root), control)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(application), host, port, backlog=512)
    announce(port=server.sockets[0].getsockname()[1], control=control)
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._origin_server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret", default="", metavar="WORD", help="of the control path, instead of chance")
    parser.add_argument("--dir", type=Path, help="serve the files below this folder")
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)
    try:
        asyncio.run(serve(options.host, options.port, options.dir, options.secret))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
