"""Random access: every byte from every place, of one version, over a network that fails."""

from __future__ import annotations

import io
import itertools
import random
import threading
from dataclasses import replace

import pytest

import reknit
from reknit import CallerError, Changed, Exhausted, Integrity, Options, Reader, Refused, SinkError
from reknit._reader import LEAST, MOST, ahead
from reknit.testing import Reply, Server, StoreFault, cut

DATA = bytes(range(256)) * 1024
OPTIONS = Options(attempts=4, sleep=lambda seconds: None)


def reader_of(server: Server, options: Options = OPTIONS) -> Reader:
    return Reader(server.store, options)


def test_it_is_a_file() -> None:
    """read, readinto, seek and tell are those of a file, and a buffered reader fits on top."""
    server = Server(DATA)
    with reader_of(server) as reader:
        assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
        assert server.store.asked == [], "no traffic before it is needed"
        assert reader.read(3) == DATA[:3]
        assert reader.tell() == 3
        assert reader.seek(-4, io.SEEK_END) == len(DATA) - 4
        assert reader.read(100) == DATA[-4:]
        assert reader.read(100) == b""
        assert reader.seek(-10, io.SEEK_CUR) == len(DATA) - 10
        buffer = bytearray(b"x" * 20)
        assert reader.readinto(buffer) == 10
        assert buffer == DATA[-10:] + b"x" * 10
        assert reader.seek(len(DATA) + 5) == len(DATA) + 5
        assert reader.read() == b""
        reader.seek(0)
        assert io.BufferedReader(reader).read() == DATA
    for call in (reader.read, reader.tell, lambda: reader.read_range(0, 1), lambda: reader.size):
        with pytest.raises(ValueError, match="closed"):
            call()
    reader.close()


def test_bad_calls() -> None:
    """What makes no sense is the caller's error."""
    reader = reader_of(Server(DATA))
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 7)
    with pytest.raises(CallerError, match="not a range"):
        reader.read_range(-1, 5)
    with pytest.raises(CallerError, match="not a slice"):
        reknit.read_range("file:///x", 0, -5)
    with pytest.raises(CallerError, match="expect"):
        Reader(Server(DATA).store, Options(expect="crc32:00000000"))


def test_the_size_costs_one_request_and_pins() -> None:
    """One HEAD; each range is then bound to its tag, and `stat` tells what it said."""
    server = Server(DATA)
    reader = reader_of(server)
    assert reader.size == len(DATA)
    assert (reader.stat.size, reader.stat.etag, reader.stat.headers["etag"]) == (len(DATA), '"a"', '"a"')
    assert reader.stat.digests == {}
    reader.read_range(10, 5)
    assert server.store.asked == ["HEAD", 'GET 10-14 if "a"']


def test_read_ahead_grows_in_a_sequence() -> None:
    """Small reads in a row come out of few and growing ranges; a jump fetches little; a near one, nothing."""
    server = Server(bytes(1 << 20), block=1 << 16)
    reader = reader_of(server)
    for _ in range(1 << 8):
        reader.read(1 << 12)
    spans = [tuple(map(int, line.split()[1].split("-"))) for line in server.store.asked[1:]]
    assert [last + 1 - first for first, last in spans] == [LEAST << n for n in range(4)] + [1 << 16]
    reader.seek(500_000)
    reader.read(10)
    assert server.store.asked[-1] == f'GET 500000-{500_000 + LEAST - 1} if "a"'
    before = len(server.store.asked)
    reader.seek(500_030)
    reader.read(10)
    reader.seek(500_000)
    reader.read(10)
    assert len(server.store.asked) == before
    assert (ahead(1, 0), ahead(MOST * 2, 5), ahead(1, MOST)) == (LEAST, MOST * 2, MOST)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_reads_over_a_failing_network(seed: int) -> None:
    """Any reads in any order, with cuts everywhere: the bytes of the object, and no byte asked twice when
    only parts are read."""
    dice = random.Random(seed)
    server = Server(DATA[:50_000], block=dice.choice([1, 7, 1000, 65536]))

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        roll = dice.random()
        if roll < 0.2:
            return StoreFault("connect", "refused")
        if roll < 0.5:
            return cut(dice.randrange(2000), dice.choice(["reset", "short", "timeout"]))(reply)
        return Reply(503) if roll < 0.6 else reply

    server.trouble = trouble
    with reader_of(server, replace(OPTIONS, attempts=30)) as reader:
        for _ in range(40):
            at, size = dice.randrange(50_100), dice.randrange(3000)
            want = server.data[at : at + size]
            if dice.random() < 0.5:
                assert reader.read_range(at, size) == want
            else:
                reader.seek(at)
                assert reader.read(size) == want
                assert reader.tell() == at + len(want)


def test_ranges_at_every_place_with_a_cut_at_every_byte() -> None:
    """All ranges of a small object, cut at every byte: exact, and nothing is fetched twice."""
    for first, length in itertools.product(range(7), range(8)):
        for at in range(min(length, max(0, 6 - first)) + 1):
            server = Server(b"abcdef", block=2)
            server.trouble = lambda n, reply, at=at: cut(at)(reply) if n == 1 else reply
            reader = reader_of(server)
            assert reader.read_range(first, length) == b"abcdef"[first : first + length]
            want = [int(line.split()[1].split("-")[0]) for line in server.store.asked if "GET" in line]
            assert (
                want
                == ([first, first + at][: 1 + (at < length and first + at < 6)] if length else [])[
                    : 2 if first < 6 else 0
                ]
            )


@pytest.mark.parametrize("condition", ["obeyed", "ignored"])
def test_a_replaced_object_is_changed(condition: str) -> None:
    """Changed, from the first new byte on, and every time; whether If-Range is obeyed or not."""
    server = Server(DATA)
    reader = reader_of(server)
    assert reader.read(10) == DATA[:10]
    server.data, server.etag = bytes(len(DATA)), '"b"'
    if condition == "ignored":
        server.trouble = lambda number, reply: server.get(200_000, 200_009, None)
    for _ in range(2):
        with pytest.raises(Changed):
            reader.read_range(200_000, 10)
        reader.seek(200_000)
        with pytest.raises(Changed):
            reader.read(10)
        assert reader.tell() == 200_000


@pytest.mark.parametrize("flaw", ["no tag", "weak tag", "no ranges", "no head and no tag", "odd ranges"])
def test_without_ranges_of_one_version_the_whole_is_spooled(flaw: str) -> None:
    """Parts that nothing binds together, or that are not sent, are read out of one whole, fetched once."""
    server = Server(DATA)
    server.head = "head" not in flaw
    server.ranges = flaw != "no ranges"
    server.etag = {"no tag": "", "weak tag": 'W/"a"', "no head and no tag": ""}.get(flaw, '"a"')
    if flaw == "odd ranges":
        server.trouble = lambda number, reply: (
            Reply(206, {"etag": '"a"'}, [b"x"]) if reply.status == 206 else reply
        )
    reader = reader_of(server)
    assert reader.read_range(1000, 10) == DATA[1000:1010]
    asked = len(server.store.asked)
    reader.seek(200_000)
    assert reader.read(5) == DATA[200_000:200_005]
    assert reader.read() == DATA[200_005:]
    assert reader.size == reader.stat.size == len(DATA)
    assert server.store.asked.count("GET") == 1
    assert len(server.store.asked) == asked, "all later reads are local"
    reader.close()


def test_a_spooled_whole_is_of_the_version_that_was_read() -> None:
    """A server that stops answering ranges, and has another object by then, is Changed."""
    server = Server(DATA)
    reader = reader_of(server)
    assert reader.read_range(0, 10) == DATA[:10]
    server.ranges = False
    server.data = bytes(len(DATA) + 1)
    with pytest.raises(Changed):
        reader.read_range(20, 10)


def test_a_tag_that_only_the_head_has(tmp_path) -> None:
    """Ranges that never carry the tag bind to nothing: the whole is read, if its size is what was told."""
    for size, error in ((len(DATA), None), (len(DATA) - 1, Changed)):
        server = Server(DATA)
        server.trouble = lambda number, reply: replace(
            reply, headers={name: value for name, value in reply.headers.items() if name != "etag"}
        )
        reader = reader_of(server)
        assert reader.size == len(DATA)
        server.data = DATA[:size]
        if error is None:
            assert reader.read_range(5, 5) == DATA[5:10]
        else:
            with pytest.raises(error):
                reader.read_range(5, 5)


def test_one_stray_whole_is_not_the_end_of_ranges() -> None:
    """§14.2: a server may ignore one Range; the next is tried before anything is spooled."""
    server = Server(DATA)
    server.trouble = lambda n, reply: Reply(200, {"etag": '"a"'}, [b"x"]) if n == 1 else reply
    assert reader_of(server).read_range(1000, 10) == DATA[1000:1010]
    assert "GET" not in server.store.asked


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("head", [True, False])
def test_the_smallest_objects(size: int, head: bool) -> None:
    """Nothing, and one byte, with and without HEAD."""
    server = Server(b"x" * size)
    server.head = head
    reader = reader_of(server)
    assert reader.read() == b"x" * size
    assert reader.read_range(0, 10) == b"x" * size
    assert reader.size == size


def test_errors_of_the_store_come_through() -> None:
    """A final answer, or a store that keeps failing, is what it is for a download; a later read may work."""
    server = Server(DATA)
    server.head = False
    server.trouble = lambda number, reply: Reply(404)
    reader = reader_of(server)
    with pytest.raises(Refused):
        reader.read(1)
    server.trouble = lambda number, reply: StoreFault("connect", "refused")
    for call in (lambda: reader.read(1), lambda: reader.size, lambda: reader.read_range(5, 5)):
        with pytest.raises(Exhausted):
            call()
    server.trouble = lambda number, reply: reply
    assert reader.read(3) == DATA[:3]


def test_a_spool_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full temporary folder is the local side's error, and nothing is left open."""

    class Full(io.BytesIO):
        name = "full"

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    file = Full()
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: file)
    server = Server(DATA)
    server.etag = ""
    with pytest.raises(SinkError, match="No space left"):
        reader_of(server).read(5)
    assert file.closed


def test_many_threads_share_one_reader() -> None:
    """read_range needs no position, and read+seek under one's own lock none of the others'."""
    server = Server(DATA, block=4096)
    numbers = itertools.count()
    server.trouble = lambda number, reply: cut(100)(reply) if next(numbers) % 3 == 0 else reply
    wrong: list[object] = []
    with reader_of(server) as reader:

        def work(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(50):
                at, size = dice.randrange(len(DATA)), dice.randrange(9000)
                try:
                    if reader.read_range(at, size) != DATA[at : at + size]:
                        wrong.append((at, size))
                    if len(reader.read(10)) > 10:
                        wrong.append("read")
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert reader.tell() == 8 * 50 * 10


def test_parts_without_a_reader(origin, whole, say, fast) -> None:
    """`read_range` of the module fetches one range, survives a drop, and has nothing behind the end."""
    data = DATA[:5000]
    head = whole(data, "Range: bytes=100-299")
    origin.script = [say(head[: len(head) - 150], "rst")]
    origin.then = lambda asked: say(whole(data, asked))
    assert reknit.read_range(origin.url(), 100, 200, options=fast) == data[100:300]
    assert reknit.read_range(origin.url(), 4990, 200, options=fast) == data[4990:]
    origin.then = lambda asked: say(
        b"HTTP/1.1 416 No\r\nContent-Range: bytes */5000\r\nContent-Length: 0\r\n\r\n"
        if "Range" in asked
        else whole(data, asked)
    )
    assert reknit.read_range(origin.url(), 9000, 200, options=fast) == b""
    origin.then = lambda asked: say(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Refused):
        reknit.read_range(origin.url(), 0, 1, options=fast)


def test_over_a_real_connection(origin, whole, say, fast) -> None:
    """`reknit.open` over HTTP with a cut in every answer."""
    data = DATA[:20_000]

    def answer(asked: str) -> object:
        full = whole(data, asked)
        if asked.startswith("HEAD"):
            return say(full[: full.index(b"\r\n\r\n") + 4])
        head = full.index(b"\r\n\r\n") + 4
        return say(full[: head + 3000], "rst")

    origin.then = answer
    with reknit.open(origin.url(), options=fast) as reader:
        assert reader.read_range(12_345, 5000) == data[12_345:17_345]
        assert reader.read() == data
    assert all("If-Range" in asked for asked in origin.asked[1:])


def test_files(tmp_path, fast) -> None:
    """file:// is read by position; a file that is written to, or replaced, is Changed."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with reknit.open(f"file://{path}", options=fast) as reader:
        assert reader.read_range(100_000, 70_000) == DATA[100_000:170_000]
        assert reader.read(10) == DATA[:10]
        with path.open("r+b") as file:
            file.write(b"x")
        with pytest.raises((Changed, Integrity)):
            reader.read_range(0, 10)
    assert reknit.read_range(f"file://{path}", 1, 5, options=fast) == DATA[1:6]


def test_a_file_written_to_in_the_midst_of_a_range(tmp_path, fast) -> None:
    """Bytes of a range at hand are checked, too: none is handed out after the change."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with reknit.open(f"file://{path}", options=replace(fast, buffer=4096)) as reader:
        assert reader.read(4096) == DATA[:4096]
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"x")
        with pytest.raises(Changed):
            reader.read(8192)
