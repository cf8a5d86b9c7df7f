"""moto's S3 server in a process of its own.

    python -m midstream.stores._moto_server [--port 0]

Prints one line of JSON, {"port"}, when it listens.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from midstream._processes import announce, guard
from midstream.stores._s3 import SMALL_PART


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m midstream.stores._moto_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--owned", type=Path, metavar="FOLDER", help="end with stdin, and remove FOLDER then")
    options = parser.parse_args()
    guard(options.owned is not None, options.owned)
    os.environ["S3_UPLOAD_PART_MIN_SIZE"] = str(SMALL_PART)  # read when it is imported

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    application.get_application({"HTTP_HOST": "127.0.0.1", "PATH_INFO": "/", "REQUEST_METHOD": "GET"})
    server = make_server(
        "127.0.0.1", options.port, application, threaded=True, request_handler=MotoRequestHandler
    )
    announce(port=server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
