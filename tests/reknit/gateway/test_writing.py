"""Objects put through the gateway: whole or not at all, and continued where a client was cut off."""

from __future__ import annotations

import base64
import hashlib
import socket
from itertools import product

import pytest

from reknit import Options, upload
from reknit.gateway._intake import Append, Refusal, append, boolean, creation, integer
from reknit.gateway._spool import TakenOver, Upload, Uploads

DATA = bytes(range(256)) * 4000
PART = "application/partial-upload"


@pytest.fixture
def gate(tmp_path, front):
    """A gateway that may be written through, before a folder; `stored` reads what is in it."""
    (tmp_path / "in").mkdir()
    found = front((tmp_path / "in").as_uri(), writable=True)
    found.stored = lambda name: (tmp_path / "in" / name).read_bytes()
    found.names = lambda: sorted(path.name for path in (tmp_path / "in").iterdir())
    return found


def test_put(gate) -> None:
    """201 and the entity tag for a new object, 204 for one that was there; GET has it."""
    status, headers, _ = gate.get("/object", "PUT", DATA)
    assert (status, headers["etag"]) == (201, gate.get("/object", "HEAD")[1]["etag"])
    assert gate.stored("object") == DATA
    assert gate.get("/object", "PUT", b"other")[0] == 204
    assert gate.get("/object")[2] == b"other"
    assert gate.get("/empty", "PUT", b"")[0] == 201
    assert gate.stored("empty") == b""


def test_put_in_chunks(gate) -> None:
    """Content of unknown length, with a trailer."""
    wire = b"PUT /object HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    came, _ = gate.say(wire + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
    assert came.startswith(b"HTTP/1.1 201 ")
    assert gate.stored("object") == b"abcde"


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Length: 9\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_a_fragment_is_not_stored(gate, content: bytes) -> None:
    """A client that goes away in mid-content, or frames it wrongly, leaves what was there."""
    gate.get("/object", "PUT", b"before")
    with gate.connect() as line:
        line.sendall(b"PUT /object HTTP/1.1\r\nHost: localhost\r\n" + content)
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
    assert gate.stored("object") == b"before"
    assert gate.names() == ["object"]


def test_conditions_and_digests(gate) -> None:
    """If-None-Match: * creates only, If-Match replaces one version only; a wrong digest keeps it out."""
    md5 = base64.b64encode(hashlib.md5(b"new").digest()).decode()
    assert gate.get("/object", "PUT", b"new", If_Match="*")[0] == 412
    assert gate.get("/object", "PUT", b"new", If_None_Match="*", Content_MD5=md5)[0] == 201
    assert gate.get("/object", "PUT", b"other", If_None_Match="*")[0] == 412
    tag = gate.get("/object", "HEAD")[1]["etag"]
    assert gate.get("/object", "PUT", b"wrong", Content_MD5=md5)[0] == 400
    assert gate.get("/object", "PUT", b"wrong", Repr_Digest=f"md5=:{md5}:")[0] == 400
    assert gate.stored("object") == b"new"
    assert gate.get("/object", "PUT", b"newer", If_Match=tag)[0] == 204
    assert gate.get("/object", "PUT", b"newest", If_Match=tag)[0] == 412
    assert gate.stored("object") == b"newer"


def test_requests_that_are_no_upload(gate, tmp_path, front) -> None:
    """A part, no length, another coding, the prefix, what leads elsewhere, and a read-only gateway."""
    assert gate.get("/object", "PUT", b"x", Content_Range="bytes 0-0/2")[0] == 400
    assert gate.say(b"PUT /object HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n")[0][9:12] == b"411"
    assert gate.get("/object", "PUT", Transfer_Encoding="gzip")[0] == 501
    assert gate.get("/", "PUT", b"x")[0] == 404
    assert gate.get("/%2e%2e/object", "PUT", b"x")[0] == 400
    assert gate.get("/object", "PATCH", b"x")[0] == 405
    assert gate.get("/.uploads/nothing", "PATCH", b"x")[0] == 404
    assert gate.get("/.uploads/nothing", "PUT", b"x")[0] == 400
    assert gate.names() == []
    assert front(tmp_path.as_uri()).get("/object", "PUT", b"x")[0] == 405


def test_resumed_where_it_was_cut(gate) -> None:
    """Cut off in its content, a client learns of the offset and sends the rest; then the object is there."""
    status, headers, _ = gate.get("/object", "PUT", b"", Upload_Complete="?0", Upload_Length=str(len(DATA)))
    assert (status, headers["upload-complete"], headers["upload-offset"]) == (201, "?0", "0")
    place = headers["location"]
    with gate.connect() as line:
        line.sendall(
            b"PATCH %s HTTP/1.1\r\nHost: [::1]\r\nContent-Type: %s\r\nUpload-Offset: 0\r\n"
            b"Upload-Complete: ?1\r\nContent-Length: %d\r\n\r\n"
            % (place.encode(), PART.encode(), len(DATA))
            + DATA[:5000]
        )
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
    status, headers, _ = gate.get(place, "HEAD")
    assert (status, headers["upload-complete"], headers["upload-offset"]) == (204, "?0", "5000")
    assert headers["upload-length"] == str(len(DATA))
    assert gate.names() == []
    wrong = gate.get(place, "PATCH", b"x", Content_Type=PART, Upload_Offset="4999", Upload_Complete="?0")
    assert (wrong[0], wrong[1]["upload-offset"]) == (409, "5000")
    status, headers, _ = gate.get(
        place, "PATCH", DATA[5000:], Content_Type=PART, Upload_Offset="5000", Upload_Complete="?1"
    )
    assert (status, headers["upload-complete"]) == (201, "?1")
    assert gate.stored("object") == DATA
    assert gate.get(place, "HEAD")[1]["upload-complete"] == "?1"  # for whom the answer was lost
    assert gate.get(place, "DELETE")[0] == 204
    assert gate.get(place, "HEAD")[0] == 404
    assert gate.stored("object") == DATA


def test_told_of_its_resource_at_once(gate) -> None:
    """A client of the draft's version hears of the upload resource in a 104, before it has sent anything."""
    with gate.connect() as line:
        line.sendall(
            b"PUT /object HTTP/1.1\r\nHost: [::1]\r\nUpload-Complete: ?1\r\n"
            b"Upload-Draft-Interop-Version: 8\r\nContent-Length: 3\r\n\r\n"
        )
        head = line.recv(1000)
        assert head.startswith(b"HTTP/1.1 104 ")
        assert b"Location: /.uploads/" in head
        line.sendall(b"abc")
        assert line.recv(1000).startswith(b"HTTP/1.1 201 ")
    assert gate.stored("object") == b"abc"


def test_reknit_uploads_through_it(gate, tmp_path) -> None:
    """The client of this package, by the IETF's draft and by a plain PUT."""
    (tmp_path / "source").write_bytes(DATA)
    for kind in ("ietf", "put"):
        options = Options(backoff_base=0, keep=False, store={"upload": kind})
        report = upload(tmp_path / "source", f"{gate.server.url}{kind}", options=options)
        assert report.bytes == len(DATA)
        assert gate.stored(kind) == DATA


def test_the_store_fails(origin, say, front) -> None:
    """The client is told of no success that the store has not confirmed."""
    origin.then = lambda asked: say(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
    gate = front(origin.url("/"), Options(backoff_base=0, attempts=1), writable=True)
    assert gate.get("/object", "PUT", b"abc")[0] == 502
    origin.then = lambda asked: say(b"HTTP/1.1 403 secret\r\nContent-Length: 0\r\n\r\n")
    status, _, body = gate.get("/object", "PUT", b"abc")
    assert (status, b"secret" in body) == (502, False)


# -- the pure part -----------------------------------------------------------------------------------------


def test_creations() -> None:
    """Every combination of completeness, announced length and content's length."""
    for complete, length, content in product((None, "?0", "?1", "x"), (None, 0, 5, 9), (None, 0, 5)):
        headers = {} if complete is None else {"upload-complete": complete}
        headers |= {} if length is None else {"upload-length": str(length)}
        found = creation(headers, content)
        whole = complete != "?0"
        clash = (
            length is not None and content is not None and (content != length if whole else content > length)
        )
        if clash:
            assert isinstance(found, Refusal)
        else:
            known = length if length is not None else content if whole else None
            assert found == Append(whole, known), (complete, length, content)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "text/plain"}, 1, 415),
        ({"upload-offset": ""}, 1, 400),
        ({"upload-complete": "yes"}, 1, 400),
        ({"upload-offset": "4"}, 1, 409),
        ({"upload-offset": "6"}, 1, 409),
        ({}, 6, 400),  # beyond the length that was announced
        ({"upload-complete": "?1"}, 4, 400),  # or short of it
        ({"upload-length": "11"}, 1, 400),
    ],
)
def test_appends_that_are_refused(headers: dict[str, str], content: int, status: int) -> None:
    """Type, fields, offset and lengths have to agree with what is there."""
    good = {"content-type": PART, "upload-offset": "5", "upload-complete": "?0"}
    assert append(good, 5, 5, 10, stored=False) == Append(False, 10)
    found = append({**good, **headers}, content, 5, 10, stored=False)
    assert isinstance(found, Refusal)
    assert found.status == status
    refused = append(good, 0, 5, 10, stored=True)
    assert isinstance(refused, Refusal)


def test_fields() -> None:
    """Structured fields with parameters, and what is none."""
    assert [boolean(v) for v in ("?1", " ?0 ;a=1", "1", "", None)] == [True, False, None, None, None]
    assert [integer(v) for v in ("12", "3;x", "-1", "1.5", "9" * 16, None)] == [12, 3, None, None, None, None]


def test_one_writer_at_a_time() -> None:
    """Whoever asks last writes; the one before cannot any more."""
    uploads = Uploads()
    held = Upload("key", {}, None)
    name = uploads.add(held)
    first, second = held.take_over(), held.take_over()
    held.write(second, b"abc")
    with pytest.raises(TakenOver):
        held.write(first, b"late")
    assert held.offset == 3
    assert uploads.get(name) is held
    held.touched -= 1e9
    assert uploads.get(uploads.add(Upload("other", {}, None))) is not None
    assert uploads.get(name) is None
    assert held.file.closed


def test_a_line_for_each_request(tmp_path, front) -> None:
    """What was stored and what was refused: one line each, with the status that was told."""
    gate = front(tmp_path.as_uri(), writable=True)
    gate.say(b"PUT /new HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
    gate.say(b"PUT /new HTTP/1.1\r\nHost: [::1]\r\nIf-None-Match: *\r\nContent-Length: 3\r\n\r\nabc")
    gate.say(b"DELETE /new HTTP/1.1\r\nHost: [::1]\r\n\r\n")
    gate.say(b"GET /n\x1bw HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    gate.say(b"nonsense\r\n\r\n")
    lines = [gate.log.get(timeout=30) for _ in range(5)]
    assert lines[0] == "PUT /new 201: 3 bytes, 0 sent again"
    assert lines[1] == "PUT /new 412: the condition does not hold"
    assert [line.split(":")[0] for line in lines[2:4]] == ["DELETE /new 405", "GET /n?w 421"]
    assert " 400: " in lines[4]
    assert gate.log.empty()
