"""moto's server takes one request at a time, and waits for no body meanwhile."""

from __future__ import annotations

import io
import threading
from typing import Any

from midstream.stores._moto_server import OneAtATime


def test_two_requests_are_never_served_at_once() -> None:
    """Whichever thread comes, the application is in one call only; an answer that fails gives the turn on."""
    inside, most = [0], [0]

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.001)
        inside[0] -= 1
        if environ["fail"]:
            raise ValueError
        return [environ["wsgi.input"].read()]

    served, got = OneAtATime(application), []

    def ask(number: int) -> None:
        body = b"%d" % number
        environ = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "fail": number % 5 == 0}
        try:
            got.extend(served(environ, None))
        except ValueError:
            got.append(b"failed")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert sorted(got) == sorted([b"failed"] * 4 + [b"%d" % n for n in range(20) if n % 5])


def test_a_body_that_stalls_holds_up_nobody() -> None:
    """While one body is still coming, another request is served."""
    coming = threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert coming.wait(30)
            return super().read(size)

    served = OneAtATime(lambda environ, start_response: [environ["wsgi.input"].read()])
    got: list[bytes] = []
    slow = {"CONTENT_LENGTH": "3", "wsgi.input": Slow(b"abc")}
    thread = threading.Thread(target=lambda: got.extend(served(slow, None)))
    thread.start()
    assert served({"wsgi.input": io.BytesIO(b"")}, None) == [b""]
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(b"xyz")}
    assert served(chunked, None) == [b"xyz"]
    coming.set()
    thread.join()
    assert got == [b"abc"]
