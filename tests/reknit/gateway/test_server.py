"""The gateway over sockets: what is healed, what is reset, and what it does not let itself be talked into."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

from reknit import CallerError, Options

DATA = bytes(range(256)) * 40
FAST = Options(backoff_base=0, idle_timeout=5, connect_timeout=5, attempts=2)
ONE = b"GET /object HTTP/1.%d\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_page_that_was_made_to_mean_us(tmp_path, front, method) -> None:
    """DNS rebinding: the browser of this machine says whose page it shows, and nothing is read or written."""
    (tmp_path / "object").write_bytes(DATA)
    request = (
        b"%s /object HTTP/1.1\r\nHost: evil.example:80\r\nContent-Length: 3\r\n\r\nabc" % method.encode()
    )
    came, _ = front(tmp_path.as_uri(), writable=True).say(request)
    assert came.startswith(b"HTTP/1.1 421 ")
    assert DATA[:100] not in came
    assert (tmp_path / "object").read_bytes() == DATA
    named = front(tmp_path.as_uri(), writable=True, hosts=["Evil.example"])
    assert b"421" not in named.say(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))[0][:12]


@pytest.fixture
def folder(tmp_path, front):
    """A gateway before a folder with one object, `object`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "object").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    return front((tmp_path / "in").as_uri())


def test_whole_part_and_head(folder) -> None:
    """GET, HEAD, one range from either end, and past the end."""
    status, headers, body = folder.get("/object")
    assert (status, headers["content-length"], headers["accept-ranges"]) == (200, str(len(DATA)), "bytes")
    assert body == DATA
    assert folder.get("/object", "HEAD")[1]["etag"] == headers["etag"]
    assert folder.get("/object", "HEAD")[2] == b""
    status, part, body = folder.get("/object", Range="bytes=100-199")
    assert (status, part["content-range"], part["etag"]) == (206, "bytes 100-199/10240", headers["etag"])
    assert body == DATA[100:200]
    assert folder.get("/object", Range="bytes=-5")[2] == DATA[-5:]
    assert folder.get("/object", Range="bytes=10239-999999")[2] == DATA[-1:]
    status, past, body = folder.get("/object", Range="bytes=10240-")
    assert (status, past["content-range"], body) == (416, "bytes */10240", b"")
    assert folder.get("/object", Range="bytes=0-1,4-5")[::2] == (200, DATA)


def test_conditions(folder) -> None:
    """The version that was told holds or does not."""
    tag = folder.get("/object")[1]["etag"]
    assert folder.get("/object", If_None_Match=tag)[::2] == (304, b"")
    assert folder.get("/object", If_Match='"other"')[::2] == (412, b"")
    assert folder.get("/object", If_Match='"other"', Range="bytes=99999-")[0] == 412
    assert folder.get("/object", If_Match=tag)[::2] == (200, DATA)
    assert folder.get("/object", If_Range=tag, Range="bytes=5-")[::2] == (206, DATA[5:])
    assert folder.get("/object", If_Range='"other"', Range="bytes=5-")[::2] == (200, DATA)
    assert folder.get("/object", If_Range='"other"', Range="bytes=99999-")[::2] == (200, DATA)


@pytest.mark.parametrize(
    "path", ["/", "/link", "/absent", "/object/below", "/..%2fsecret", "/../secret", "//h/x"]
)
def test_what_is_not_below_the_prefix(folder, path) -> None:
    """Absent, or out of reach: never the file beside the folder, by dots or by a link."""
    status, _, body = folder.get(path)
    assert status in (400, 404)
    assert b"secret" not in body


def test_many_requests_on_one_connection(folder) -> None:
    """Answers of every kind keep the connection, and its framing."""
    connection = http.client.HTTPConnection(*folder.server.server_address, timeout=30)
    connection.connect()
    line = connection.sock
    for path, headers, status in [
        ("/object", {}, 200),
        ("/absent", {}, 404),
        ("/object", {"Range": "bytes=1-2"}, 206),
        ("/object", {"If-Match": '"x"'}, 412),
        ("/object", {"Range": "bytes=99999-"}, 416),
        ("/%2e%2e/x", {}, 400),
        ("/object", {}, 200),
    ]:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
        assert connection.sock is line
    connection.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET http://h/object HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET /object HTTP/1.1\r\n\r\n", 400),
        (b"GET /object HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n", 400),
        (b"GET /object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /object HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /object HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        (
            b"GET /object HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            400,
        ),
        (b"GET /object HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /object\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /object HTTP/3.0\r\n\r\n", 505),
        (b"DELETE /object HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"CONNECT other:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_requests_with_two_meanings(folder, request_, status) -> None:
    """A proxy's request, a doubtful frame, an old or unknown version: one answer, and the line is closed."""
    close = request_.replace(b"Host: localhost\r\n", b"Host: localhost\r\nConnection: close\r\n")
    came, _ = folder.say(close)
    assert came.startswith(b"HTTP/1.1 %d " % status)
    assert came.count(b"HTTP/1.1") == 1
    assert DATA[:100] not in came
    assert b"Python" not in came


def test_drops_do_not_show(origin, whole, say, front) -> None:
    """Three drops of the store, by FIN and RST: downstream is one response, whole, with the store's words."""
    md5 = hashlib.md5(DATA).digest().hex()
    extra = f"Content-Type: image/x\r\nX-Secret: s\r\nRepr-Digest: md5=:{_base64(md5)}:\r\n"
    drops = [(1, "fin"), (5000, "rst"), (1, "rst")]

    def answer(asked: str):
        wire = whole(DATA, asked, extra=extra)
        head = wire.index(b"\r\n\r\n") + 4
        if drops:
            kept, end = drops.pop(0)
            return say(wire[: head + kept], end)
        return say(wire)

    origin.then = answer
    gate = front(origin.url("/"), FAST)
    status, headers, body = gate.get("/object")
    assert (status, headers["etag"], headers["content-type"]) == (200, '"a"', "image/x")
    assert headers["repr-digest"] == f"md5=:{_base64(md5)}:"
    assert "x-secret" not in headers
    assert body == DATA
    assert [asked.lower().count('if-range: "a"') for asked in origin.asked] == [0, 1, 1, 1]
    assert gate.line() == "GET /object 200: 10240 bytes, 3 resumed"


def _base64(hexadecimal: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_what_cannot_be_healed_is_reset(origin, whole, say, front, framing, version) -> None:
    """A store that is gone for good: the connection is reset, with a length, chunked or close-delimited."""
    if framing == "length":
        first = say(whole(DATA)[:-1000])
    else:
        head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "a"\r\n\r\n'
        first = say(head + b"1000\r\n" + DATA[:4096] + b"\r\n")
    origin.script = [first]
    origin.then = lambda asked: say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    came, error = front(origin.url("/"), FAST).say(ONE % version)
    assert isinstance(error, ConnectionResetError)
    assert b"\r\n0\r\n\r\n" not in came


def test_a_changed_object_is_reset(origin, whole, say, front) -> None:
    """No byte of another version follows the first."""
    origin.script = [say(whole(DATA)[:-1000])]
    origin.then = lambda asked: say(whole(bytes(len(DATA)), "", etag='"b"'))
    came, error = front(origin.url("/"), FAST).say(ONE % 1)
    assert isinstance(error, ConnectionResetError)
    assert bytes(500) not in came


def test_a_wrong_digest_is_reset(origin, whole, say, front) -> None:
    """All bytes came, and are not the object: the last of them stay here."""
    origin.then = lambda asked: say(whole(DATA, asked, extra="Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n"))
    gate = front(origin.url("/"), FAST)
    came, error = gate.say(ONE % 1)
    assert isinstance(error, ConnectionResetError)
    assert len(came) < len(DATA)
    assert "reset after" in gate.line()


def test_errors_before_the_head_are_answers(origin, say, front) -> None:
    """404 stays 404; a store that refuses or fails is a bad gateway, in words without its own."""
    gate = front(origin.url("/"), FAST)
    for told, status in ((404, 404), (410, 410), (401, 502), (403, 502), (500, 502), (400, 502)):
        origin.then = lambda asked, told=told: say(b"HTTP/1.1 %d x\r\nContent-Length: 6\r\n\r\nsecret" % told)
        found, _, body = gate.get("/object")
        assert found == status
        assert b"secret" not in body
        assert gate.get("/object", "HEAD")[::2] == (status, b"")


def test_no_head_method(origin, whole, say, front) -> None:
    """A store that knows no HEAD is asked by GET."""
    origin.then = lambda asked: (
        say(b"HTTP/1.1 405 x\r\nContent-Length: 0\r\n\r\n")
        if asked.startswith("HEAD")
        else say(whole(DATA, asked))
    )
    gate = front(origin.url("/"), FAST)
    assert gate.get("/object", "HEAD")[1]["content-length"] == str(len(DATA))
    assert gate.get("/object", Range="bytes=-3")[2] == DATA[-3:]
    assert gate.get("/object", If_None_Match='"a"')[0] == 304


def test_unknown_size(origin, say, front) -> None:
    """A store without lengths: chunked to HTTP/1.1, to the end of the connection for HTTP/1.0."""
    head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "a"\r\n\r\n'
    origin.then = lambda asked: say(head + b"5\r\nhello\r\n0\r\n\r\n")
    gate = front(origin.url("/"), FAST)
    assert gate.get("/object")[2] == b"hello"
    assert gate.get("/object", Range="bytes=1-2")[::2] == (200, b"hello")
    came, error = gate.say(ONE % 0)
    assert error is None
    assert came.endswith(b"\r\n\r\nhello")


def test_credentials_stay_here(origin, whole, say, front) -> None:
    """What a client sends is not for the store, and what the store is sent is not for the client."""
    origin.then = lambda asked: say(whole(DATA, asked, extra="Set-Cookie: c\r\nWWW-Authenticate: w\r\n"))
    options = Options(headers={"Authorization": "Bearer ours"})
    gate = front(origin.url("/"), options)
    _, headers, _ = gate.get("/object", Authorization="Bearer theirs", Cookie="theirs")
    assert "Bearer ours" in origin.asked[0]
    assert "theirs" not in origin.asked[0]
    assert not {"set-cookie", "www-authenticate", "authorization"} & set(headers)
    assert "Bearer" not in gate.line()


def test_a_slow_reader_holds_nobody(tmp_path, front) -> None:
    """While one does not read, another is served; when the first reads on, it gets all."""
    data = os.urandom(1 << 20) * 16
    (tmp_path / "object").write_bytes(data)
    gate = front(tmp_path.as_uri())
    with gate.connect() as slow:
        slow.sendall(b"GET /object HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        came = slow.recv(100)
        assert gate.get("/object")[2] == data
        while block := slow.recv(1 << 20):
            came += block
    assert came.endswith(data[-1000:])
    assert len(came) - came.index(b"\r\n\r\n") - 4 == len(data)


def test_too_many(tmp_path, front) -> None:
    """Beyond its room it says so, and room comes back."""
    (tmp_path / "object").write_bytes(DATA)
    gate = front(tmp_path.as_uri(), connections=1)
    with gate.connect() as first:
        first.sendall(ONE % 1)
        assert first.recv(12) == b"HTTP/1.1 200"
        came, _ = gate.say(ONE % 1)
        assert came.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in came
    for _ in range(1000):
        if gate.get("/object")[0] == 200:
            break
    else:
        pytest.fail("room did not come back")


def test_a_client_that_leaves(tmp_path, front) -> None:
    """It is noted, and nothing else happens."""
    (tmp_path / "object").write_bytes(bytes(16 << 20))
    gate = front(tmp_path.as_uri())
    with gate.connect() as client:
        client.sendall(ONE % 1)
        client.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (tmp_path / "other").write_bytes(DATA)
    assert gate.get("/other")[2] == DATA


def test_bad_stores(front, tmp_path) -> None:
    """A URL or setting that cannot work is said at once."""
    for url in ("nothing", "gopher://h/", "http://h/?q=1", "s3:///"):
        with pytest.raises(CallerError):
            front(url)
    with pytest.raises(CallerError):
        front("s3://bucket/", Options(store={"colour": "blue"}))


def command(*arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "reknit", "serve", *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command(tmp_path, number) -> None:
    """Its URL is the first line, each request a line of the log, and a signal its good end."""
    (tmp_path / "object").write_bytes(DATA)
    with command("--store", tmp_path.as_uri()) as child:
        url = child.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=30)
        connection.request("GET", "/object")
        assert connection.getresponse().read() == DATA
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out) == (0, "")
        assert err == "GET /object 200: 10240 bytes, 0 resumed\n"
        connection.close()


ENDS = """
import os, signal, sys, threading
from reknit.gateway._server import until_told

sys.setswitchinterval(1e-6)

class Nothing:
    def serve_forever(self): pass
    shutdown = server_close = serve_forever

def spin(turns):
    for _ in range(turns): pass
    os.kill(os.getpid(), signal.SIGTERM)

for turns in range(8000):
    until_told(Nothing(), lambda: threading.Thread(target=spin, args=(turns % 300,)).start())
print("ended")
"""


def test_a_signal_at_any_moment() -> None:
    """Also one that comes just as it begins to wait for it."""
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_killed_in_a_body(tmp_path) -> None:
    """SIGKILL in mid-body, close-delimited as HTTP/1.0 has it: still no clean end."""
    origin_listens = socket.create_server(("127.0.0.1", 0))

    def endless() -> None:
        line, _ = origin_listens.accept()
        line.recv(1 << 16)
        line.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "a"\r\n\r\n5\r\nhello\r\n')
        released.wait(30)
        line.close()

    released = threading.Event()
    threading.Thread(target=endless, daemon=True).start()
    with command("--store", f"http://127.0.0.1:{origin_listens.getsockname()[1]}/") as child:
        port = int(child.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(b"GET /object HTTP/1.0\r\n\r\n")
            came = b""
            while b"hello" not in came:
                came += line.recv(1 << 16)
            child.kill()
            with pytest.raises(ConnectionResetError):
                line.recv(1 << 16)
    released.set()
    origin_listens.close()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--store nonsense", 2),
        ("", 2),
        ("--store http://127.0.0.1/ --listen 0.0.0.0:0", 2),
        ("--store http://127.0.0.1/ --listen 80", 2),
        ("--store http://127.0.0.1/ --setting x", 2),
        ("--store s3://b/ --setting colour=blue", 2),
        ("--store http://127.0.0.1/ --listen 127.0.0.1:{taken}", 1),
    ],
)
def test_bad_usage(arguments, status) -> None:
    """2 for what cannot work as it was said, 1 for an address that is not to be had, with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = arguments.format(taken=taken.getsockname()[1]).split()
        with command(*words) as child:
            out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (status, "")
    assert err
    assert "Traceback" not in err
