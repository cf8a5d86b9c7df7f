"""moto's S3 server in a process of its own.

    python -m midstream.stores._moto_server [--port 0]

Prints one line of JSON, {"port"}, when it listens.
"""

from __future__ import annotations

import argparse
import io
import os
import threading
from pathlib import Path
from typing import Any

from midstream._processes import announce, guard
from midstream.stores._s3 import SMALL_PART


class OneAtATime:
    """Serves requests of several threads one after the other: moto's objects are not made for two at once,
    and a replacement that meets another is an error 500.

    The body of a request is read before its turn comes, so that a client that stalls holds up nobody.
    """

    def __init__(self, application: Any) -> None:
        self._application, self._turn = application, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if size:
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(size))
        elif "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            return self._application(environ, start_response)  # ends by itself: it cannot be read ahead
        with self._turn:
            return self._application(environ, start_response)


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
        "127.0.0.1", options.port, OneAtATime(application), threaded=True, request_handler=MotoRequestHandler
    )
    announce(port=server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
