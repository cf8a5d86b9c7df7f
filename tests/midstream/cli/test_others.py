"""`midstream proxy`, `list`, `doctor`, `schema`, and the command itself."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.midstream.cli.conftest import Box

from midstream import _proxy
from midstream._errors import UsageError
from midstream._evidence import Event
from midstream._proxy import listen_port, resolve_upstream

BODY = bytes(range(256)) * 40


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url: str) -> bytes:
    with urllib.request.build_opener().open(url, timeout=10) as answer:
        data: bytes = answer.read()
    return data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_proxy(box: Box, upstream: str, number: signal.Signals) -> None:
    """Its URL first, then each fault that fired, and when a signal ends it (status 0) each that did not."""
    faults = ["--fault", "GET#1 cut@1000", "--fault", "GET#2 status@head:503"]
    faults += ["--fault", "PUT cut@1000", "--fault", "GET#3 cut@1000000000"]
    process = box.start("proxy", "--upstream", upstream, *faults)
    assert process.stdout
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with pytest.raises(http.client.IncompleteRead) as cut:
        fetch(url)
    assert len(cut.value.partial) == 1000
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetch(url)
    assert fetch(url) == BODY
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert [line.partition(" (")[0] for line in out.splitlines()] == [
        "fired: GET#1 cut@1000:fin",
        "fired: GET#2 status@head:503",
        "never fired: PUT cut@1000",
        "never fired: GET#3 cut@1000000000",
    ]
    assert out.splitlines()[2].endswith(" (nothing matched it)")
    assert out.splitlines()[3].endswith(" (its position was not reached)")
    assert box.leftovers() == []


def test_proxy_of_an_upstream_that_is_down() -> None:
    """A fault that met no response because there was no upstream is not said to have matched nothing."""
    lines: list[str] = []
    told = _proxy.Told(["GET cut@5", "PUT cut@5"], lines.append)
    told.heed(
        Event("upstream-failed", 0.0, 1, 1, {"reason": "the store does not accept connections: refused"})
    )
    told.heed(Event("unfired", 0.0, 1, 1, {"rule": 1}))
    told.end()
    assert lines == [
        "trouble: the store does not accept connections: refused",
        "never fired: GET cut@5 (the upstream did not answer)",
        "never fired: PUT cut@5 (its position was not reached)",
    ]


def test_no_such_list(box: Box) -> None:
    """What can be listed, in plain words."""
    done = box("list", "nosuch")
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith("midstream: Invalid value for 'what': 'nosuch' is not one of 'scenarios', ")


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("POST", "/bucket/key?uploads", "create_upload"),
        ("PUT", "/bucket/key?partNumber=2&uploadId=x", "upload_part"),
        ("POST", "/bucket/key?uploadId=x", "complete_upload"),
        ("DELETE", "/bucket/key?uploadId=x", "abort_upload"),
        ("GET", "/bucket/key?uploadId=x", "list_parts"),
        ("GET", "/bucket?uploads", "list_uploads"),
        ("GET", "/bucket/key?partNumber=2", "get_object"),
        ("PUT", "/bucket/key", "put_object"),
        ("GET", "/index.html", "get_object"),
        ("HEAD", "/", "head_object"),
        ("DELETE", "/a/b", "delete_object"),
        ("PATCH", "/a", "append_upload"),
        ("POST", "/a", "other"),
    ],
)
def test_proxy_operations(method: str, target: str, operation: str) -> None:
    """A part of an S3 upload is no whole object; every operation that a rule may name is one it can tell."""
    told = _proxy.operation(method, target, {})
    assert told == operation
    assert told in _proxy.TOLD_APART


def test_proxy_ended_at_once(box: Box, upstream: str) -> None:
    """A signal right after the URL is not lost."""
    for _ in range(3):
        process = box.start("proxy", "--upstream", upstream)
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_proxy_without_a_reader(box: Box, upstream: str) -> None:
    """When nobody reads its lines any more it goes on working."""
    process = box.start("proxy", "--upstream", upstream, "--fault", "GET#1-2 delay@head:1ms")
    assert process.stdout
    url = process.stdout.readline().strip()
    process.stdout.close()
    for _ in range(3):
        assert fetch(url) == BODY
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_proxy_port(box: Box, upstream: str) -> None:
    """The port that was asked for, or an error that names the flag when it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        done = box("proxy", "--upstream", upstream, "--listen", f"127.0.0.1:{port}")
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith(f"midstream: --listen 127.0.0.1:{port}: ")
    assert "Address already in use" in done.line
    process = box.start("proxy", "--upstream", upstream, "--listen", f"localhost:{port}")
    assert process.stdout
    assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Missing option '--upstream'"),
        (["--upstream", "https://127.0.0.1:1"], "--upstream https://127.0.0.1:1: use http://HOST:PORT"),
        (["--upstream", "127.0.0.1:1"], "--upstream 127.0.0.1:1: use http://HOST:PORT"),
        (
            ["--upstream", "http://192.0.2.1:80"],
            "192.0.2.1 is not on this machine; faults are only let loose",
        ),
        (
            ["--upstream", "http://127.0.0.1:1", "--listen", "0.0.0.0:80"],
            "--listen 0.0.0.0:80: use 127.0.0.1:",
        ),
        (["--upstream", "http://127.0.0.1:1", "--fault", "GET cut"], "--fault 'GET cut': not of the form"),
        (
            ["--upstream", "http://127.0.0.1:1", "--fault", "GET cut@1:up"],
            "--fault 'GET cut@1:up': a cut ends",
        ),
        (
            ["--upstream", "http://127.0.0.1:1", "--fault", "put_segment cut@1"],
            "--fault 'put_segment cut@1:fin': the proxy does not know put_segment when it sees one",
        ),
    ],
)
def test_proxy_bad_input(box: Box, words: list[str], text: str) -> None:
    """One line that names the flag, before anything listens."""
    done = box("proxy", *words)
    assert (done.status, done.out) == (2, "")
    assert text in done.line


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http://[",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://127.0.0.1/a",
        "http://127.0.0.1/?a",
        "http://127.0.0.1/#a",
        "http://me:pw@127.0.0.1",
        "ftp://127.0.0.1",
        "http://" + "a" * 64,
        "http://[::1]:80",
        "http://no such host",
    ],
)
def test_upstream_refused(url: str) -> None:
    """What is no plain address of a server is refused in one line, whatever it is."""
    with pytest.raises(UsageError, match="--upstream") as caught:
        resolve_upstream(url, [])
    assert "\n" not in str(caught.value)


def test_upstream_allowed() -> None:
    """Loopback always; elsewhere only what is named, in whatever case."""
    assert resolve_upstream("http://127.0.0.1", []) == ("127.0.0.1", 80)
    assert resolve_upstream("http://127.8.8.8:81/", []) == ("127.8.8.8", 81)
    assert resolve_upstream("http://localhost:82", [])[1] == 82
    assert resolve_upstream("http://192.0.2.1:83", ["192.0.2.1"]) == ("192.0.2.1", 83)
    with pytest.raises(UsageError, match=r"--allow-host 0\.0\.0\.0"):
        resolve_upstream("http://0.0.0.0:80", ["127.0.0.1"])


@pytest.mark.parametrize(
    ("text", "port"),
    [("127.0.0.1:80", 80), ("localhost:0", 0), (":81", 81), ("82", 82), ("127.0.0.1:65535", 65535)],
)
def test_listen(text: str, port: int) -> None:
    """Addresses of this machine only."""
    assert listen_port(text) == port


@pytest.mark.parametrize(
    "text", ["", "0.0.0.0:80", "127.0.0.180", "127.0.0.1:", "127.0.0.1:65536", "[::1]:1", "٣"]
)
def test_listen_refused(text: str) -> None:
    """Anything else is refused, and no address is read as a port."""
    with pytest.raises(UsageError, match="--listen"):
        listen_port(text)


SHAPES = {
    "scenarios": ["id", "requirement", "kind", "properties", "faults", "clauses"],
    "drivers": ["id", "summary", "available", "reason"],
    "stores": ["id", "summary", "available", "reason"],
    "injectors": ["id", "summary", "available", "reason"],
    "faults": ["id", "summary", "available", "reason"],
    "properties": ["id", "text", "clause", "scenarios", "exercised"],
}


@pytest.mark.parametrize("what", SHAPES)
def test_list(box: Box, what: str) -> None:
    """An array of objects with the keys that tools rely on, sorted by id; and lines for a reader."""
    done = box("list", what, "--json")
    assert (done.status, done.err) == (0, "")
    rows = json.loads(done.out)
    assert rows
    for row in rows:
        assert set(SHAPES[what]) <= set(row)
    lines = box("list", what)
    assert len(lines.out.splitlines()) == len(rows)
    for row in rows:
        assert row["id"] in lines.out
    assert len({row["id"] for row in rows}) == len(rows)


def test_list_properties_exercised(box: Box) -> None:
    """A property counts as exercised by the newest results, if they are ours at all."""
    box.out.mkdir()
    results = box.out / "results.json"
    case = {"scenario": "cut-mid-body", "verdict": "pass"}
    for content, wanted in [
        (json.dumps({"cases": [case]}), True),
        (json.dumps({"cases": [{**case, "verdict": "not_reached"}]}), False),
        ("[]", False),
        ('{"cases": [1]}', False),
        ('{"cases": [{}]}', False),
        ("\x00", False),
    ]:
        results.write_text(content)
        rows = json.loads(box("list", "properties", "--json", "--out", "out").out)
        assert any(row["exercised"] for row in rows) is wanted


def test_doctor(box: Box) -> None:
    """Everything with requirements: usable or not, in which version, and what to do."""
    done = box("doctor", "--json")
    assert (done.status, done.err) == (0, "")
    rows = json.loads(done.out)
    for row in rows:
        assert list(row) == ["id", "family", "available", "version", "how", "hint", "calibration"]
        assert row["available"] or (row["how"] and row["hint"])
    found = {(row["family"], row["id"]) for row in rows}
    assert {("stores", "origin"), ("injectors", "embedded"), ("drivers", "reknit")} <= found
    assert len(box("doctor").out.splitlines()) == len(rows)


def test_what_was_measured_is_shown(box: Box) -> None:
    """What calibrate found out stands beside the injector, and in the report of a run."""
    page = box.folder / "midstream-out/index.html"
    none = "not calibrated here; midstream calibrate"
    assert f"embedded       bundled; {none}" in box("doctor").out
    assert box("run", "short-stall", "--store", "origin").status == 0
    assert f"<td>{none}</td>" in page.read_text()
    assert box("calibrate", "--injector", "embedded", "--trials", "2").status == 0
    exact = "exact: fin 2 of 2, rst 2 of 2, half 2 of 2, stall 2 of 2; "
    assert f"embedded       bundled; {exact}" in box("doctor").out
    assert exact not in box("doctor", "--out", "elsewhere").out
    (row,) = [r for r in json.loads(box("doctor", "--json").out) if r["id"] == "embedded"]
    assert row["calibration"].startswith(exact)
    assert box("run", "short-stall", "--store", "origin").status == 0
    assert page.read_text().count("<td>2 of 2</td>") == 4
    assert "Measured on 2" in page.read_text()


def test_schema(box: Box) -> None:
    """The JSON Schema of a scenario file, for editors."""
    done = box("schema")
    assert done.status == 0
    assert json.loads(done.out)["title"] == "midstream scenario"


def test_version_and_help(box: Box) -> None:
    """The command says what it is; without a word it shows its help and is not content."""
    assert box("--version").out.startswith("midstream ")
    assert box("--help").status == 0
    assert "Commands" in box("--help").out
    bare = box()
    assert bare.status == 2
    assert "Commands" in bare.out + bare.err


@pytest.mark.parametrize("words", [["bogus"], ["list", "nonsense"], ["replay"], ["list", "--json"]])
def test_bad_commands(box: Box, words: list[str]) -> None:
    """One line, status 2."""
    done = box(*words)
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith("midstream: ")


def test_list_without_a_reader(box: Box) -> None:
    """`midstream list ... | head` is nothing to complain of."""
    process = box.start("list", "properties")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.wait(30)
    assert process.stderr.read() == ""
    assert process.returncode not in (1, 3)
