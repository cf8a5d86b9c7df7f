"""Plain PUT and files, over real sockets: exact bytes or nothing, whatever happens to the request."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from typer.testing import CliRunner

from reknit import (
    CallerError,
    Exhausted,
    Integrity,
    Options,
    Refused,
    SourceError,
    cli,
    upload,
)
from reknit._errors import StoreFault
from reknit._source import Held, open_source
from reknit._upload_events import Piece
from reknit._upload_journal import About, UploadJournal
from reknit.stores._lines import Lines

DATA = bytes(range(256)) * 5000


@dataclass
class Shelf:
    """Keeps what is PUT. `script` says what becomes of each PUT in turn:

    cut@N       reset after N bytes of the body
    lost        stored, and the answer lost
    early NNN   status NNN as soon as the head is there; the body is never read
    NNN         status NNN after the body
    fewer       201, and one byte less is kept
    100         an interim response before the body is read
    mute        201, and no word to an announced body
    417         no announced body, for which there is no script
    """

    script: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    digest: bool = False
    mute: bool = False
    connections: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' * bool(self.tls)}://127.0.0.1:{self.listener.getsockname()[1]}/object"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as lines:
            while head := self._head(lines):
                if not self._answer(connection, lines, head):
                    return

    @staticmethod
    def _head(lines) -> list[str]:
        head = []
        try:
            while (line := lines.readline()) not in (b"\r\n", b""):
                head.append(line.decode().strip())
        except OSError:
            return []
        return head

    def _answer(self, connection: socket.socket, lines, head: list[str]) -> bool:
        method, path, _ = head[0].split()
        fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}
        self.asked.append(method)
        self.heads.append("\n".join(head))
        if method == "HEAD":
            return self._say(connection, *self._shown(path))
        step = self.script.pop(0) if self.script else "201"
        if step.startswith("early"):
            self._say(connection, f"{step[6:]} Early", "Content-Length: 0\r\nConnection: close\r\n")
            return not lines.read(1 << 30)  # until the client has enough of it
        if step == "100":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            step = "201"
        size = int(fields["content-length"])
        if "expect" in fields and step == "417":
            return self._say(
                connection, "417 Expectation Failed", "Content-Length: 0\r\nConnection: close\r\n"
            )
        if "expect" in fields and step != "mute":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        step = "201" if step == "mute" else step
        at = int(step[4:]) if step.startswith("cut@") else size
        body = lines.read(at)
        if step.startswith("cut@"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
            return False
        if len(body) < size:
            return False
        if step in ("201", "lost", "fewer"):
            self.objects[path] = body[: size - (step == "fewer")]
            if step == "lost":
                return False
            step = "201"
        return self._say(connection, f"{step} Said")

    def _shown(self, path: str) -> tuple[str, str]:
        if self.mute:
            return "405 No", ""
        if path not in self.objects:
            return "404 None", ""
        data = self.objects[path]
        extra = f"Content-Length: {len(data)}\r\n"
        if self.digest:
            extra += f"Repr-Digest: sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:\r\n"
        return "200 OK", extra

    @staticmethod
    def _say(connection: socket.socket, status: str, extra: str = "") -> bool:
        extra = extra or "Content-Length: 0\r\n"
        connection.sendall(f"HTTP/1.1 {status}\r\n{extra}\r\n".encode())
        return True


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """One server, closed afterwards."""
    server = Shelf()
    yield server
    server.listener.close()


@pytest.fixture
def source(tmp_path):
    """A file with DATA in it."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def test_put_and_look(shelf, source, fast) -> None:
    """One PUT, one HEAD, over one connection; the size is what proves it here."""
    report = upload(source, shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}
    assert shelf.asked == ["PUT", "HEAD"]
    assert shelf.connections == 1
    assert (report.bytes, report.requests, report.resent, report.verified) == (len(DATA), 2, 0, None)


def test_a_digest_is_verified(shelf, source, fast) -> None:
    """What the store says of the object is compared with the source."""
    shelf.digest = True
    assert upload(source, shelf.url, options=fast).verified == "sha256 (repr-digest)"


def test_a_digest_that_is_known_goes_along(shelf, source, fast) -> None:
    """RFC 9530 §3: so that the server may refuse what was damaged on the way. A CRC has no name there."""
    sha256, crc32 = hashlib.sha256(DATA), f"{zlib.crc32(DATA):08x}"
    upload(source, shelf.url, options=replace(fast, expect=f"sha256:{sha256.hexdigest()}"))
    assert f"\nRepr-Digest: sha-256=:{b64encode(sha256.digest()).decode()}:\n" in f"{shelf.heads[0]}\n"
    upload(source, shelf.url, options=replace(fast, expect=f"crc32:{crc32}"))
    assert "Repr-Digest" not in shelf.heads[2]


def announced(shelf: Shelf) -> list[bool]:
    """Whether each PUT was."""
    return ["\nExpect: 100-continue" in head for head in shelf.heads if head.startswith("PUT")]


def test_a_large_body_is_announced(shelf, tmp_path, fast) -> None:
    """RFC 9110 §10.1.1: one that is refused for its head is not sent at all; a small one is just sent."""
    (tmp_path / "s").write_bytes(DATA[:1000])
    upload(tmp_path / "s", shelf.url, options=fast)
    (tmp_path / "s").write_bytes(DATA)
    given: list[int] = []
    shelf.script = ["early 507"]
    with pytest.raises(Refused, match="507"):
        upload(tmp_path / "s", shelf.url, options=fast, progress=lambda now: given.append(now.done))
    assert max(given, default=0) == 0
    upload(tmp_path / "s", shelf.url, options=fast)
    assert announced(shelf) == [False, True, True]
    assert shelf.objects == {"/object": DATA}


def test_a_server_that_wants_no_announcement(shelf, source, fast) -> None:
    """Refused by 417, it is sent without one; without a word, after a while, and the next one at once."""
    shelf.script = ["417"]
    upload(source, shelf.url, options=fast)
    assert announced(shelf) == [True, False]
    assert shelf.objects == {"/object": DATA}
    shelf.heads.clear()
    shelf.script = ["mute", "lost"]
    lines = Lines(fast)
    for _ in range(2):
        body = Held(open_source(source), Piece(1, 0, len(DATA), last=True))
        with contextlib.suppress(StoreFault):
            lines.ask("PUT", shelf.url, {}, None, body)
    lines.close()
    assert announced(shelf) == [True, False]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sizes(shelf, tmp_path, fast, size) -> None:
    """Nothing, a byte, a block, and one more."""
    (tmp_path / "s").write_bytes(b"x" * size)
    upload(tmp_path / "s", shelf.url, options=fast)
    assert shelf.objects["/object"] == b"x" * size


@pytest.mark.parametrize("script", [["cut@0"], ["cut@70000"], ["503"], ["cut@1000", "500", "cut@9"], ["100"]])
def test_resent_from_its_first_byte(shelf, source, fast, script) -> None:
    """P41, B131: whatever was sent before, all of it is sent again."""
    shelf.script = list(script)
    upload(source, shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}


def test_a_lost_answer_is_decided_by_a_digest(shelf, source, fast) -> None:
    """P45 for PUT: the object is there and proved, so it is not sent again."""
    shelf.digest, shelf.script = True, ["lost"]
    report = upload(source, shelf.url, options=fast)
    assert shelf.asked == ["PUT", "HEAD"]
    assert report.verified == "sha256 (repr-digest)"


def test_a_lost_answer_without_a_digest_costs_the_bytes(shelf, source, fast) -> None:
    """An object of the same size may be another one."""
    shelf.script = ["lost"]
    upload(source, shelf.url, options=fast)
    assert shelf.asked == ["PUT", "HEAD", "PUT", "HEAD"]


@pytest.mark.parametrize("status", [413, 404, 507])
def test_an_early_answer_is_read(shelf, tmp_path, fast, status) -> None:
    """RFC 9112 §9.5: the answer that comes while we send is the reason, not the broken pipe after it."""
    (tmp_path / "big").write_bytes(bytes(32 << 20))
    shelf.script = [f"early {status}"]
    with pytest.raises(Refused, match=str(status)):
        upload(tmp_path / "big", shelf.url, options=fast)
    assert shelf.objects == {}
    assert shelf.asked == ["PUT"]


def test_an_early_503_is_met_again_later(shelf, source, fast) -> None:
    """The same for an answer that may be asked again."""
    shelf.script = ["early 503"]
    upload(source, shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}


def test_gives_up(shelf, source, fast) -> None:
    """As often as the options say."""
    shelf.script = ["500"] * 9
    with pytest.raises(Exhausted, match="4 failures: status 500"):
        upload(source, shelf.url, options=fast)
    assert shelf.asked == ["PUT"] * 4


def test_fewer_bytes_kept(shelf, source, fast) -> None:
    """P42: what the store has is compared with the source, also when it said 201."""
    shelf.script = ["fewer"]
    upload(source, shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}
    shelf.script = ["fewer"] * 9
    with pytest.raises(Integrity, match="1279999 bytes, not 1280000"):
        upload(source, shelf.url, options=fast)


def test_head_not_allowed(shelf, source, fast) -> None:
    """Who may write and not read has the word of the store alone."""
    shelf.mute = True
    assert upload(source, shelf.url, options=fast).verified is None


def test_new_credentials(shelf, source, fast) -> None:
    """P27: renewed once, and the bytes sent again with them."""
    shelf.script = ["early 401"]
    fresh = iter([{"Authorization": "new"}])
    upload(source, shelf.url, options=replace(fast, renew=lambda: next(fresh)))
    assert ["Authorization: new" in head for head in shelf.heads] == [False, True, True]
    shelf.script = ["401", "401"]
    with pytest.raises(Refused, match="401"):
        upload(source, shelf.url, options=replace(fast, renew=lambda: {"Authorization": "newer"}))


class Stream(io.RawIOBase):
    """Cannot be sought; ends, or breaks."""

    def __init__(self, data: bytes, error: OSError | None = None) -> None:
        self.data, self.error = io.BytesIO(data), error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        got = self.data.read(min(len(buffer), 70_000))
        if not got and self.error:
            raise self.error
        buffer[: len(got)] = got
        return len(got)


def test_a_stream_is_spooled(shelf, fast) -> None:
    """P41: what cannot be read twice is sent twice all the same."""
    shelf.script = ["cut@100000"]
    upload(Stream(DATA), shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}


def test_a_stream_that_breaks_is_no_object(shelf, fast) -> None:
    """P42, B136: nothing is sent of a source that errs."""
    with pytest.raises(SourceError, match="gone wrong"):
        upload(Stream(DATA, OSError("gone wrong")), shelf.url, options=fast)
    assert shelf.asked == []


def test_a_file_object_from_its_position(shelf, source, fast) -> None:
    """It is read from where it stands, and neither closed nor moved."""
    shelf.script = ["cut@10"]
    with source.open("rb") as file:
        file.seek(1000)
        upload(file, shelf.url, options=fast)
        assert file.tell() == 1000
    assert shelf.objects == {"/object": DATA[1000:]}
    held = io.BytesIO(DATA)
    held.seek(7)
    upload(held, shelf.url, options=fast)
    assert (shelf.objects["/object"], held.tell(), held.closed) == (DATA[7:], 7, False)


@pytest.mark.parametrize("how", ["shrinks", "grows", "is written to", "is replaced", "is removed"])
def test_a_source_that_changes(shelf, tmp_path, fast, how) -> None:
    """P42, B137: not published, and the error says what happened to it."""
    path = tmp_path / "s"
    path.write_bytes(bytes(8 << 20))
    changed = []

    def change(now) -> None:
        if changed or not now.done:
            return
        changed.append(how)
        if how == "shrinks":
            os.truncate(path, 4 << 20)
        elif how == "grows":
            with path.open("ab") as file:
                file.write(b"more")
        elif how == "is written to":
            os.utime(path, ns=(1, 1))
        elif how == "is replaced":
            (tmp_path / "other").write_bytes(bytes(8 << 20))
            (tmp_path / "other").replace(path)
        else:
            path.unlink()

    with pytest.raises(SourceError, match=r"shrunk|changed|replaced|removed"):
        upload(path, shelf.url, options=fast, progress=change)
    assert changed
    assert shelf.objects == {}


def test_sources_that_are_none(shelf, tmp_path, fast) -> None:
    """What cannot be read is named; what is no source is the caller's error."""
    with pytest.raises(SourceError, match=r"cannot read .*nowhere: No such file"):
        upload(tmp_path / "nowhere", shelf.url, options=fast)
    with pytest.raises(SourceError, match="directory"):
        upload(tmp_path, shelf.url, options=fast)
    with pytest.raises(CallerError, match="not a source"):
        upload(io.StringIO("text"), shelf.url, options=fast)
    with pytest.raises(CallerError, match="upload is put, ietf or tus"):
        upload(tmp_path, shelf.url, options=replace(fast, store={"upload": "nonsense"}))
    assert shelf.asked == []


def test_the_expected_digest(shelf, source, fast) -> None:
    """A source that is not what the caller says is not sent."""
    right = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    upload(source, shelf.url, options=replace(fast, expect=right))
    with pytest.raises(SourceError, match="sha256"):
        upload(source, shelf.url, options=replace(fast, expect="sha256:" + "0" * 64))
    assert shelf.asked == ["PUT", "HEAD"]


def test_a_file(tmp_path, source, fast) -> None:
    """It appears whole, and nothing is left beside it."""
    (tmp_path / "to").mkdir()
    report = upload(source, f"file://{tmp_path}/to/dest", options=fast)
    assert (tmp_path / "to" / "dest").read_bytes() == DATA
    assert os.listdir(tmp_path / "to") == ["dest"]  # noqa: PTH208
    assert report.bytes == len(DATA)


def test_a_file_that_cannot_be_written(tmp_path, source, fast) -> None:
    """The reason is the system's own; an old file stays as it was."""
    with pytest.raises(Refused, match="No such file"):
        upload(source, f"file://{tmp_path}/no/dest", options=fast)
    with pytest.raises(Refused, match="not a regular file"):
        upload(source, f"file://{tmp_path}", options=fast)
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    with pytest.raises(SourceError):
        upload(Stream(b"x", OSError("broken")), f"file://{dest}", options=fast)
    assert dest.read_bytes() == b"old"


def test_options_that_make_no_sense() -> None:
    """Parts of nothing."""
    with pytest.raises(CallerError, match="part_size must be above zero"):
        Options(part_size=0)


def test_the_expected_size(shelf, source, fast) -> None:
    """B136: a stream that ended early looks like any other, but for its size."""
    with pytest.raises(SourceError, match="has 1279999 bytes, not 1280000"):
        upload(Stream(DATA[:-1]), shelf.url, size=len(DATA), options=fast)
    assert shelf.asked == []
    upload(Stream(DATA), shelf.url, size=len(DATA), options=fast)
    assert shelf.objects == {"/object": DATA}


def put(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "reknit", "put", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)


def test_the_command(shelf, source) -> None:
    """0 and one line; - reads standard input, and a size that is not met ends with 1 and the reason."""
    done = put(source, shelf.url)
    assert (done.returncode, done.stderr, shelf.objects["/object"]) == (0, b"", DATA)
    assert b"1280000 bytes" in done.stdout
    quiet = put("-", shelf.url, "--quiet", "--size", 3, given=b"abc")
    assert (quiet.returncode, quiet.stdout, shelf.objects["/object"]) == (0, b"", b"abc")
    short = put("-", shelf.url, "--size", 3, given=b"ab")
    assert (short.returncode, shelf.objects["/object"]) == (1, b"abc")
    assert b"has 2 bytes, not 3" in short.stderr
    assert b"Traceback" not in short.stderr


def test_the_command_fails(shelf, source) -> None:
    """1 for what the store, the network or the source did; 2 for usage. How to go on, if that makes sense."""
    shelf.script = ["403", "503", "503"]
    refused = put(source, shelf.url)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.endswith(b"the store answered status 403\n")
    busy = put(source, shelf.url, "--attempts", 1, "--backoff-base", 0)
    assert (busy.returncode, b"503" in busy.stderr, b"again to" in busy.stderr) == (1, True, False)
    missing = put(source.with_name("missing"), shelf.url)
    assert (missing.returncode, b"No such file" in missing.stderr) == (1, True)
    for usage in ((source,), (source, "gopher://x/y"), (source, shelf.url, "--part-size", 0)):
        wrong = put(*usage)
        assert (wrong.returncode, b"Traceback" in wrong.stderr) == (2, False)
    nowhere = put(source, "rbd:pool/image")
    assert nowhere.returncode == 2


@pytest.mark.parametrize("begun", [True, False])
def test_the_command_is_interrupted(shelf, source, tmp_path, monkeypatch, begun) -> None:
    """130, and what is kept is what the journal knows of in the store."""

    def interrupted(*_: object, **__: object) -> None:
        if begun:
            record = UploadJournal(tmp_path / "journal", About("x", shelf.url, len(DATA), 5 << 20))
            record.session("begun")
            record.close(keep=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "upload", interrupted)
    command = ["put", str(source), shelf.url, "--journal", str(tmp_path / "journal")]
    result = CliRunner().invoke(cli.app, command)
    kept = "what is stored is kept: run the same command again to continue" if begun else "nothing is kept"
    assert (result.exit_code, result.stderr) == (130, f"reknit: interrupted; {kept}\n")


def test_over_tls(tmp_path, fast, monkeypatch) -> None:
    """The same through TLS, where what comes early is seen once sending fails."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    shelf = Shelf(["cut@70000"], tls=context)
    upload(io.BytesIO(DATA), shelf.url, options=fast)
    assert shelf.objects == {"/object": DATA}
    shelf.script = ["early 403"]
    with pytest.raises(Refused, match="403"):
        upload(io.BytesIO(DATA), shelf.url, options=fast)
    shelf.listener.close()
