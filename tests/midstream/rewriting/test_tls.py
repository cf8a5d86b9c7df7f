"""TLS before the relay: cuts at exact plaintext bytes, each with its own ending, and the authority."""

from __future__ import annotations

import random
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from midstream._authority import Authority
from midstream._errors import SetupError
from midstream._evidence import fold
from midstream._judge import judge
from midstream._schedule import Schedule
from midstream._verdict import Expectation, Outcome, Seen, Sink, Verdict
from midstream.injectors import Plan, RunningInjector
from midstream.testing.injectors import Stage, layout, operation, request
from midstream.testing.wire import WAIT, ScriptedOrigin, Watch

TRIALS = 50


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@contextmanager
def secured(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, *specs: str
) -> Iterator[Stage]:
    watch = Watch()
    plan = Plan(store.address, Schedule.parse(specs), operation, None, on_event=watch, tls=authority.context)
    opened = Stage(running.open(plan), watch)
    try:
        yield opened
    finally:
        opened.facts()


def trusting(on: Stage, authority: Authority, host: str = "127.0.0.1") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.bundle))
    raw = socket.create_connection(("127.0.0.1", on.port), WAIT)
    # Ragged ends are told apart: without this an end without close_notify looks like one with it.
    return context.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)


class Client:
    """TLS over a socket of our own: the ssl module takes a reset for an end."""

    def __init__(self, on: Stage, authority: Authority) -> None:
        self.raw = on.connect().sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(authority.bundle))
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.raw.sendall(self._out.read())
                self._in.write(self.raw.recv(1 << 16))

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.raw.sendall(self._out.read())

    def say_goodbye(self) -> None:
        """Send close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # it would read on
        self.raw.sendall(self._out.read())

    def rest(self, piece: int) -> tuple[bytes, str]:
        """Everything until the end, and which end it was."""
        data = bytearray()
        while True:
            try:
                got = self.tls.read(1 << 16)
                data += got
                if not got:
                    return bytes(data), "clean"
            except ssl.SSLWantReadError:
                try:
                    more = self.raw.recv(piece)
                except ConnectionResetError:
                    return bytes(data), "reset"
                if more:
                    self._in.write(more)
                else:
                    self._in.write_eof()
            except ssl.SSLEOFError:
                return bytes(data), "ragged"


def read_all(sock: ssl.SSLSocket, piece: int) -> tuple[bytes, str]:
    """What the ssl module makes of the rest."""
    data = bytearray()
    try:
        while got := sock.recv(piece):
            data += got
    except ssl.SSLEOFError:
        return bytes(data), "ragged"
    return bytes(data), "clean"


@pytest.mark.parametrize(("ending", "want"), [("fin", "ragged"), ("notify", "clean"), ("rst", "reset")])
def test_cuts_are_exact(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, ending: str, want: str
) -> None:
    """Exactly the plaintext bytes before the position, then exactly the ending, in every trial."""
    draw = random.Random(f"tls {ending}")
    for _ in range(TRIALS):
        size = draw.choice((1, 100, 16_384, 16_385, 100_001, 1 << 20))
        framing = draw.choice(("length", "chunked", "close"))
        target = f"/{framing}?size={size}"
        sent = layout(target)
        at = draw.choice((0, size - 1, draw.randrange(size)))
        wire = sent.byte(at)
        position = draw.choice((str(at), f"body+{at}", f"wire+{wire}"))
        spec = f"GET#1 cut@{position}:{ending}"
        with secured(running, store, authority, spec) as on:
            client = Client(on, authority)
            client.send(request(target))
            got, end = client.rest(draw.choice((1000, 1 << 18)))
            facts = on.facts()
        assert got == sent.wire[:wire], (spec, target, len(got), wire)
        assert end == want, (spec, target)
        (fired,) = facts.fired
        assert (fired.wire, fired.body, facts.exchanges[0].end) == (wire, at, "cut")
        assert not facts.trouble


@pytest.mark.parametrize(("ending", "want"), [("fin", "ragged"), ("notify", "clean")])
def test_an_end_as_the_standard_library_sees_it(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, ending: str, want: str
) -> None:
    """Without close_notify a client that looks is told so; with it, the end is an orderly one."""
    sent = layout("/close?size=100000")
    spec = f"GET#1 cut@50000:{ending}"
    with secured(running, store, authority, spec) as on, trusting(on, authority) as client:
        client.sendall(request("/close?size=100000"))
        assert read_all(client, 1 << 16) == (sent.wire[: sent.byte(50_000)], want)


def test_a_notice_waits_for_room(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """close_notify comes also where there was no room for it when it was time."""
    sent, tries = layout("/length?size=1000"), []
    unwrap = ssl.SSLSocket.unwrap

    def full(sock: ssl.SSLSocket) -> socket.socket:
        tries.append(sock)
        if len(tries) < 3:
            raise ssl.SSLWantWriteError
        return unwrap(sock)

    monkeypatch.setattr(ssl.SSLSocket, "unwrap", full)
    with secured(running, store, authority, "GET#1 cut@999:notify") as on:
        client = Client(on, authority)
        client.send(request("/length?size=1000"))
        assert client.rest(1000) == (sent.wire[:-1], "clean")
    assert len(tries) == 3


def test_keep_alive(running: RunningInjector, store: ScriptedOrigin, authority: Authority) -> None:
    """Several exchanges, pipelined ones too, pass through one TLS connection, large bodies whole."""
    sent = layout("/length?size=2000000")
    with secured(running, store, authority) as on, trusting(on, authority, "localhost") as client:
        client.sendall(request("/length?size=2000000") * 2)
        data = bytearray()
        while len(data) < 2 * len(sent.wire):
            data += client.recv(1 << 18)
        facts = on.facts()
    assert data == sent.wire * 2
    assert [e.end for e in facts.exchanges] == ["complete", "complete"]
    assert facts.connections == 1


def test_uploads(running: RunningInjector, store: ScriptedOrigin, authority: Authority) -> None:
    """A request body larger than any TLS record arrives whole."""
    sent = layout("/length?size=5")
    with secured(running, store, authority) as on, trusting(on, authority) as client:
        body = bytes(1_000_000)
        client.sendall(request("/length?size=5", "PUT", f"Content-Length: {len(body)}\r\n") + body)
        data = b""
        while len(data) < len(sent.wire):
            data += client.recv(1 << 18)
    assert data == sent.wire


def test_a_client_that_leaves(running: RunningInjector, store: ScriptedOrigin, authority: Authority) -> None:
    """A client that goes while a response is held is seen, with or without close_notify."""
    for notify in (True, False):
        with secured(running, store, authority, "GET#1 stall@10:forever") as on:
            client = Client(on, authority)
            client.send(request("/length?size=100"))
            on.until("fault")
            if notify:
                client.say_goodbye()
            client.raw.close()
            assert on.until("sent").data["end"] == "client-left"


def test_a_client_that_does_not_trust(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority
) -> None:
    """A driver that was not told of the authority is our trouble, and the words name the certificate."""
    with secured(running, store, authority) as on:
        raw = socket.create_connection(("127.0.0.1", on.port), WAIT)
        with raw, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(raw, server_hostname="127.0.0.1")
        on.until("upstream-failed")
        facts = on.facts()
    assert facts.trouble == ["the driver does not trust the run's certificate"]
    seen = Seen(Expectation(), Outcome("failed", "certificate"), Sink(False), facts, 1000)
    assert judge(seen).verdict is Verdict.HARNESS_ERROR


@pytest.mark.parametrize("sends", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x02\x00"])
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_no_handshake(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, sends: bytes, ending: str
) -> None:
    """Who speaks no TLS, or half of a hello, ends its own connection only; the next one is served."""
    with secured(running, store, authority) as on:
        for _ in range(5):
            with on.connect().sock as peer:
                peer.sendall(sends)
                if ending == "rst":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        with trusting(on, authority) as client:
            client.sendall(request("/length?size=5"))
            want = layout("/length?size=5").wire
            assert client.recv(len(want)) == want
        facts = on.facts()
    assert len(facts.exchanges) == 1
    assert not facts.trouble


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("hello", [True, False])
def test_hangup_before_the_handshake(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority, ending: str, hello: bool
) -> None:
    """Not a byte of TLS comes before the end, whether or not the client has begun; the next one works."""
    machine = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), out := ssl.MemoryBIO(), server_hostname="h"
    )
    with pytest.raises(ssl.SSLWantReadError):
        machine.do_handshake()
    with secured(running, store, authority, f"CONNECTION#1 hangup@accept:{ending}") as on:
        data, reset = b"", False
        try:
            # A reset may be faster than the one who connects.
            with socket.create_connection(("127.0.0.1", on.port), WAIT) as raw:
                raw.sendall(out.read() if hello else b"")
                data = raw.recv(100)
        except ConnectionError:
            reset = True
        assert data == b""
        # A hello behind the end is answered as by one who has gone.
        assert reset or ending == "fin"
        assert hello or reset == (ending == "rst")
        with trusting(on, authority) as client:
            client.sendall(request("/length?size=5"))
            assert client.recv(1000) == layout("/length?size=5").wire
        facts = on.facts()
    assert len(facts.fired) == 1
    assert not facts.trouble


def test_the_address_says_https(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority
) -> None:
    """Drivers are given an https URL, and the names under which clients look for a bundle."""
    with secured(running, store, authority) as on:
        assert on.session.url.startswith("https://127.0.0.1:")
    assert set(authority.env.values()) == {str(authority.bundle)}
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE"} == set(authority.env)
    assert authority.bundle.read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in authority.bundle.read_text()


def test_without_trustme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, the error says what to install, and nothing is left."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(SetupError, match=r"pip install 'midstream\[tls\]'"):
        Authority.make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_closing_in_the_middle_of_a_handshake(
    running: RunningInjector, store: ScriptedOrigin, authority: Authority
) -> None:
    """A case may end while somebody has connected and said nothing."""
    with secured(running, store, authority) as on:
        silent = on.connect()
        on.until("connection")
        facts = fold(on.session.close())
        assert silent.rest().data == b""
    assert not facts.trouble
