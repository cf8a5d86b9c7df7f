"""Resumable uploads of the origin as transcripts: draft-ietf-httpbis-resumable-upload-12 and tus 1.0.0.

    > METHOD TARGET Name: value; Name: value | content      a request; `|~ content` breaks off after it
    < STATUS Name: value; Name: value                       its answer has these fields (`Name: -`: has not)
    = KEY content                                           the object (`-`: there is none)

`$` as target is the upload made last.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream._wire import Head
from midstream.stores._origin_answer import Answer
from midstream.stores._origin_application import Application
from midstream.stores._origin_intake import Intake
from midstream.stores._origin_objects import Objects
from midstream.stores.origin import MEMBER

PATCH = "Content-Type: application/partial-upload"
TUS = "Tus-Resumable: 1.0.0"
TUS_PATCH = f"{TUS}; Content-Type: application/offset+octet-stream"
SHA = base64.b64encode(hashlib.sha256(b"0123456789").digest()).decode()
SHA_0123 = base64.b64encode(hashlib.sha256(b"0123").digest()).decode()
MD5 = base64.b64encode(hashlib.md5(b"0123456789", usedforsecurity=False).digest()).decode()
SHA1_0123 = base64.b64encode(hashlib.sha1(b"0123", usedforsecurity=False).digest()).decode()
INTEROP = "Upload-Draft-Interop-Version: 8"


class Client:
    """Asks an application, without a connection."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.application = Application(self.objects, "/_control/secret")
        self.upload = ""
        self.interim: Answer | None = None

    def begin(self, request: str, fields: str, length: int | None) -> Answer | Intake:
        lines = [tuple(f.strip().split(": ", 1)) for f in fields.split(";") if f.strip()]
        head = Head(f"{request.replace('$', self.upload)} HTTP/1.1", [(n, v) for n, v in lines])
        found = self.application.intake(head, length)
        self.interim = None if isinstance(found, Answer) else found.interim
        self._note(self.interim)
        return found

    def ask(
        self,
        request: str,
        fields: str = "",
        content: bytes = b"",
        *,
        ends: bool = True,
        chunked: bool = False,
    ) -> Answer | None:
        found = self.begin(request, fields, None if chunked else len(content) + (0 if ends else 1))
        if isinstance(found, Answer):
            return found
        found.take(content)
        if not ends:
            return None
        answer = found.finish()
        assert isinstance(answer, Answer)
        self._note(answer)
        return answer

    def _note(self, answer: Answer | None) -> None:
        self.upload = dict(answer.fields if answer else []).get("Location", self.upload)

    def read(self, key: str) -> str:
        item = self.objects.get(key)
        return item.read(0, item.size).decode() if item else "-"


def play(transcript: str) -> Client:
    client = Client()
    answer: Answer | None = None
    for line in filter(None, map(str.strip, transcript.splitlines())):
        mark, _, rest = line.partition(" ")
        if mark == "=":
            key, _, content = rest.partition(" ")
            assert client.read(key) == content, line
        elif mark == ">":
            request, bar, content = rest.partition(" |")
            method, target, *fields = request.split(" ", 2)
            content = content.removeprefix(" ")
            ends = not content.startswith("~")
            answer = client.ask(
                f"{method} {target}",
                fields[0] if fields else "",
                content.removeprefix("~ ").encode() if bar else b"",
                ends=ends,
            )
        else:
            assert answer, line
            status, _, wanted = rest.partition(" ")
            assert answer.status == int(status), (line, answer)
            for field in filter(None, wanted.split("; ")):
                name, _, value = field.partition(": ")
                assert dict(answer.fields).get(name, "-") == value, (line, answer)
    return client


PLAIN = {
    "a PUT makes the object": "> PUT /o | 0123\n< 201\n= o 0123\n> PUT /o | 45\n< 204\n= o 45",
    "a PUT that breaks off changes nothing": "> PUT /o | 0123\n< 201\n> PUT /o |~ 45\n= o 0123",
    "Content-MD5 fits": f"> PUT /o Content-MD5: {MD5} | 0123456789\n< 201",
    "Content-MD5 does not": f"> PUT /o Content-MD5: {MD5} | 012345678X\n< 400\n= o -",
    "Content-Digest fits": f"> PUT /o Content-Digest: sha-256=:{SHA}: | 0123456789\n< 201",
    "Content-Digest does not": f"> PUT /o Content-Digest: sha-256=:{SHA}: | 0123\n< 400\n= o -",
    "Repr-Digest does not": f"> PUT /o Repr-Digest: sha-256=:{SHA}: | 0123\n< 400\n= o -",
    "one digest of several does not": f"> PUT /o Content-MD5: {MD5}; Repr-Digest: sha-256=:{SHA_0123}:"
    " | 0123456789\n< 400\n= o -",
    "an unknown algorithm is ignored": "> PUT /o Repr-Digest: crc32c=:AAAA: | 0123\n< 201\n= o 0123",
    "a partial PUT is refused": "> PUT /o Content-Range: bytes 0-3/10 | 0123\n< 400\n= o -",
    "only a new object": "> PUT /o | 01\n< 201\n> PUT /o If-None-Match: * | 23\n< 412\n= o 01",
    "only a known object": '> PUT /o If-Match: "x" | 23\n< 412\n= o -',
    "Upload-Complete without its version is a plain PUT": """
        > PUT /o Upload-Complete: ?1 | 01
        < 201 Location: -
        = o 01
        > PUT /o Upload-Complete: ?1 |~ 2
        = o 01""",
}

IETF = {
    "created empty, appended to, completed": f"""
        > PUT /o Upload-Complete: ?0; Upload-Length: 10
        < 201 Upload-Complete: ?0; Upload-Offset: 0; Upload-Limit: max-size=1099511627776
        = o -
        > HEAD $
        < 204 Upload-Complete: ?0; Upload-Offset: 0; Upload-Length: 10; Cache-Control: no-store
        > PATCH $ {PATCH}; Upload-Offset: 0; Upload-Complete: ?0 | 0123
        < 204 Upload-Complete: ?0; Upload-Offset: 4; Location: -
        = o -
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1 | 456789
        < 201 Upload-Complete: ?1
        = o 0123456789
        > HEAD $
        < 204 Upload-Complete: ?1; Upload-Offset: 10; Upload-Length: 10""",
    "whole in one request": f"""
        > PUT /o Upload-Complete: ?1; {INTEROP} | 0123456789
        < 201 Upload-Complete: ?1
        = o 0123456789""",
    "resumed where it broke off": f"""
        > PUT /o Upload-Complete: ?1; Upload-Length: 6; {INTEROP} |~ 01234
        = o -
        > HEAD $
        < 204 Upload-Complete: ?0; Upload-Offset: 5; Upload-Length: 6
        > PATCH $ {PATCH}; Upload-Offset: 5; Upload-Complete: ?1 | 5
        < 201 Upload-Complete: ?1
        = o 012345""",
    "an append breaks off": f"""
        > PUT /o Upload-Complete: ?0
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 0; Upload-Complete: ?1 |~ 012
        > HEAD $
        < 204 Upload-Complete: ?0; Upload-Offset: 3; Upload-Length: 4
        > PATCH $ {PATCH}; Upload-Offset: 3; Upload-Complete: ?1 | 3
        < 201
        = o 0123""",
    "an append at a wrong offset": f"""
        > PUT /o Upload-Complete: ?0 | 0123
        < 201 Upload-Offset: 4
        > PATCH $ {PATCH}; Upload-Offset: 2; Upload-Complete: ?0 | 23
        < 409 Upload-Offset: 4; Upload-Complete: ?0; Content-Type: application/problem+json
        > PATCH $ {PATCH}; Upload-Offset: 6; Upload-Complete: ?0 | 67
        < 409 Upload-Offset: 4
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1
        < 201
        = o 0123""",
    "an empty representation": """
        > PUT /o Upload-Complete: ?0; Upload-Length: 0
        < 201 Upload-Complete: ?0
        = o -
        > PATCH $ Content-Type: application/partial-upload; Upload-Offset: 0; Upload-Complete: ?1
        < 201 Upload-Complete: ?1
        = o """,
    "a completed upload takes no more": f"""
        > PUT /o Upload-Complete: ?1; {INTEROP} | 0123
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1
        < 400 Content-Type: application/problem+json; Upload-Complete: -
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1 | 4
        < 400 Content-Type: application/problem+json
        = o 0123""",
    "more than the length spoils it": f"""
        > PUT /o Upload-Complete: ?0; Upload-Length: 3
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 0; Upload-Complete: ?0 | 0123
        < 413
        > HEAD $
        < 410
        = o -""",
    "completed before its length": f"""
        > PUT /o Upload-Complete: ?0; Upload-Length: 5
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 0; Upload-Complete: ?1 | 0123
        < 400 Content-Type: application/problem+json
        > HEAD $
        < 204 Upload-Complete: ?0; Upload-Offset: 0
        = o -""",
    "lengths that differ": f"""
        > PUT /o Upload-Complete: ?1; Upload-Length: 5; {INTEROP} | 0123
        < 400 Content-Type: application/problem+json
        > PUT /o Upload-Complete: ?0; Upload-Length: 5
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 0; Upload-Complete: ?0; Upload-Length: 6 | 01
        < 400
        = o -""",
    "a value of another type is no field": """
        > PUT /o Upload-Complete: 0 | 01
        < 201 Upload-Complete: -
        = o 01""",
    "cancelled": f"""
        > PUT /o Upload-Complete: ?0 | 0123
        < 201
        > DELETE $
        < 204
        > HEAD $
        < 410
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1
        < 410
        = o -""",
    "an append that is none": f"""
        > PUT /o Upload-Complete: ?0
        < 201
        > PATCH $ Upload-Offset: 0; Upload-Complete: ?0 | 01
        < 415 Accept-Patch: application/partial-upload
        > PATCH $ {PATCH}; Upload-Complete: ?0 | 01
        < 400
        > PATCH $ {PATCH}; Upload-Offset: 0 | 01
        < 400
        > GET $
        < 405
        > HEAD $
        < 204 Upload-Offset: 0""",
    "an unknown upload": "> HEAD /_uploads/x\n< 404 Upload-Offset: -",
    "the whole's digest fits": f"""
        > PUT /o Upload-Complete: ?0; Repr-Digest: sha-256=:{SHA}:; Want-Repr-Digest: sha-256=1 | 01234
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 5; Upload-Complete: ?1 | 56789
        < 201 Repr-Digest: sha-256=:{SHA}:
        = o 0123456789""",
    "the whole's digest does not": f"""
        > PUT /o Upload-Complete: ?0; Repr-Digest: sha-256=:{SHA}: | 01234
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 5; Upload-Complete: ?1 | 5678X
        < 400 Upload-Complete: ?1
        > HEAD $
        < 410
        = o -""",
    "content that is not what it should be is not appended": f"""
        > PUT /o Upload-Complete: ?0; Content-Digest: sha-256=:{SHA_0123}: | 0123
        < 201 Upload-Offset: 4
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?0; Content-MD5: {MD5} | 456
        < 400
        > HEAD $
        < 204 Upload-Offset: 4""",
    "conditions are looked at when it begins": """
        > PUT /o | 01
        < 201
        > PUT /o Upload-Complete: ?0; If-None-Match: *
        < 412
        = o 01""",
    "and when the object is made": f"""
        > PUT /o Upload-Complete: ?0; If-None-Match: * | 0123
        < 201
        > PUT /o | xyz
        < 201
        > PATCH $ {PATCH}; Upload-Offset: 4; Upload-Complete: ?1
        < 412 Upload-Complete: ?1
        = o xyz""",
    "too large for any upload": "> PUT /o Upload-Complete: ?0; Upload-Length: 1099511627777\n"
    "< 413 Upload-Limit: max-size=1099511627776",
    "OPTIONS says what there is": "> OPTIONS /o\n< 204 Accept-Patch: application/partial-upload;"
    " Upload-Limit: max-size=1099511627776; Tus-Version: 1.0.0",
}

TUS_PLAYS = {
    "created, appended to, completed": f"""
        > POST /o {TUS}; Upload-Length: 10
        < 201 Tus-Resumable: 1.0.0; Upload-Offset: 0
        = o -
        > HEAD $ {TUS}
        < 200 Upload-Offset: 0; Upload-Length: 10; Cache-Control: no-store; Tus-Resumable: 1.0.0
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 | 0123
        < 204 Upload-Offset: 4; Tus-Resumable: 1.0.0
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4 | 456789
        < 204 Upload-Offset: 10
        = o 0123456789
        > HEAD $ {TUS}
        < 200 Upload-Offset: 10; Upload-Length: 10""",
    "created with content": f"""
        > POST /o {TUS_PATCH}; Upload-Length: 4 | 0123
        < 201 Upload-Offset: 4
        = o 0123""",
    "resumed where it broke off": f"""
        > POST /o {TUS}; Upload-Length: 5
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 |~ 0123
        = o -
        > HEAD $ {TUS}
        < 200 Upload-Offset: 4
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4 | 4
        < 204 Upload-Offset: 5
        = o 01234""",
    "it breaks off behind the last byte": f"""
        > POST /o {TUS}; Upload-Length: 4
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 |~ 0123
        = o -
        > HEAD $ {TUS}
        < 200 Upload-Offset: 4
        = o 0123""",
    "an append at a wrong offset": f"""
        > POST /o {TUS}; Upload-Length: 5
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 1 | 1234
        < 409 Tus-Resumable: 1.0.0
        > HEAD $ {TUS}
        < 200 Upload-Offset: 0""",
    "the length comes later": f"""
        > POST /o {TUS}; Upload-Defer-Length: 1
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 | 0123
        < 204 Upload-Offset: 4
        > HEAD $ {TUS}
        < 200 Upload-Defer-Length: 1; Upload-Length: -
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4; Upload-Length: 6 | 45
        < 204 Upload-Offset: 6
        = o 012345""",
    "an empty object": f"> POST /o {TUS}; Upload-Length: 0\n< 201 Upload-Offset: 0\n= o ",
    "named by its metadata": f"""
        > POST /files/ {TUS}; Upload-Length: 1; Upload-Metadata: type YQ==,filename bmFtZQ==
        < 201
        > HEAD $ {TUS}
        < 200 Upload-Metadata: type YQ==,filename bmFtZQ==
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 | x
        < 204
        = files/name x""",
    "another version": f"""
        > POST /o Tus-Resumable: 0.2.2; Upload-Length: 1
        < 412 Tus-Version: 1.0.0
        > POST /o {TUS}; Upload-Length: 1
        < 201
        > HEAD $
        < 412 Upload-Offset: -""",
    "no length": f"> POST /o {TUS}\n< 400\n> POST /o {TUS}; Upload-Length: x\n< 400",
    "another media type": f"""
        > POST /o {TUS}; Upload-Length: 2
        < 201
        > PATCH $ {TUS}; Upload-Offset: 0 | 01
        < 415
        > PATCH $ {TUS_PATCH} | 01
        < 400
        > GET $ {TUS}
        < 405""",
    "terminated": f"""
        > POST /o {TUS}; Upload-Length: 2
        < 201
        > DELETE $ {TUS}
        < 204
        > HEAD $ {TUS}
        < 410 Upload-Offset: -""",
    "a checksum that fits, one that does not, one that is unknown": f"""
        > POST /o {TUS}; Upload-Length: 10
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0; Upload-Checksum: sha1 {SHA1_0123} | 0123
        < 204 Upload-Offset: 4
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4; Upload-Checksum: sha1 {SHA1_0123} | 4567
        < 460 Tus-Resumable: 1.0.0
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4; Upload-Checksum: crc32 AAAA | 4567
        < 400
        > PATCH $ {TUS_PATCH}; Upload-Offset: 4; Upload-Checksum: sha1 {SHA1_0123} |~ 456
        > HEAD $ {TUS}
        < 200 Upload-Offset: 4""",
    "more than the length": f"""
        > POST /o {TUS}; Upload-Length: 3
        < 201
        > PATCH $ {TUS_PATCH}; Upload-Offset: 0 | 0123
        < 413 Tus-Resumable: 1.0.0
        = o -""",
    "too large": f"> POST /o {TUS}; Upload-Length: 1099511627777\n< 413 Tus-Resumable: 1.0.0",
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain(name: str) -> None:
    """What a plain PUT declares is held to, and it counts as a whole or not at all."""
    play(PLAIN[name])


@pytest.mark.parametrize("name", IETF)
def test_ietf(name: str) -> None:
    """Uploads by the IETF draft, clause by clause."""
    play(IETF[name])


@pytest.mark.parametrize("name", TUS_PLAYS)
def test_tus(name: str) -> None:
    """Uploads by tus 1.0.0 and its extensions."""
    play(TUS_PLAYS[name])


def test_interim_response() -> None:
    """A 104 names the upload, its limits and the draft's version, for clients of that version alone."""
    client = Client()
    client.ask("PUT /o", f"Upload-Complete: ?1; {INTEROP}", b"01", ends=False)
    assert client.interim
    assert client.interim.status == 104
    fields = dict(client.interim.fields)
    assert fields["Upload-Draft-Interop-Version"] == "8"
    assert fields["Location"] == client.upload
    assert "Upload-Limit" in fields
    client.ask("PUT /o", "Upload-Complete: ?0; Upload-Draft-Interop-Version: 6", b"01")
    assert client.interim is None
    client.ask(
        "PATCH $", f"{PATCH}; Upload-Offset: 2; Upload-Complete: ?0; Upload-Draft-Interop-Version: 8", b"2"
    )
    assert client.interim is None


def test_mismatch_is_a_problem_document() -> None:
    """A 409 carries both offsets, in the draft's problem type."""
    client = Client()
    client.ask("PUT /o", "Upload-Complete: ?0", b"0123")
    answer = client.ask("PATCH $", f"{PATCH}; Upload-Offset: 9; Upload-Complete: ?0", b"x")
    assert answer
    assert json.loads(answer.text) == {
        "type": "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
        "title": "offset from request does not match offset of resource",
        "expected-offset": 4,
        "provided-offset": 9,
    }


def test_limits() -> None:
    """Limits that are set for a name are announced and kept, for uploads begun from then on."""
    client = Client()
    client.application.uploads.limit("o", {"max-append-size": 3, "max-size": 8})
    answer = client.ask("PUT /o", "Upload-Complete: ?0", b"0123")
    assert answer
    assert answer.status == 413
    answer = client.ask("PUT /o", "Upload-Complete: ?0", b"012")
    assert answer
    assert dict(answer.fields)["Upload-Limit"] == "max-size=8, max-append-size=3"
    for content, status in ((b"3456", 413), (b"345", 204), (b"678", 413)):
        answer = client.ask(
            "PATCH $", f"{PATCH}; Upload-Offset: {3 if status != 413 or len(content) == 4 else 6};"
            " Upload-Complete: ?0", content,
        )  # fmt: skip
        assert answer
        assert answer.status == status


@pytest.mark.parametrize("later", ["HEAD", "PATCH", "DELETE"])
def test_a_later_request_ends_the_one_before(later: str) -> None:
    """Of two requests for one upload the earlier is ended, and not one more of its bytes is taken."""
    client = Client()
    client.ask("PUT /o", "Upload-Complete: ?0", b"01")
    earlier = client.begin("PATCH $", f"{PATCH}; Upload-Offset: 2; Upload-Complete: ?0", 100)
    assert not isinstance(earlier, Answer)
    ended: list[bool] = []
    earlier.abort_by(lambda: ended.append(True))
    earlier.take(b"234")
    answer = client.ask(
        f"{later} $", f"{PATCH}; Upload-Offset: 5; Upload-Complete: ?0", b"567" if later == "PATCH" else b""
    )
    earlier.take(b"XXX")
    assert ended == [True]
    assert answer
    assert answer.status == 204
    again = client.ask("HEAD $")
    assert again
    assert dict(again.fields).get("Upload-Offset") == {"HEAD": "5", "PATCH": "8", "DELETE": None}[later]


CUTS = st.lists(st.integers(0, 12), min_size=1, max_size=8)


@given(cuts=CUTS, chunked=st.booleans(), protocol=st.sampled_from(["ietf", "tus"]))
def test_any_way_of_cutting_gives_the_same_object(cuts: list[int], chunked: bool, protocol: str) -> None:
    """However often an upload breaks off, what is made of it is what was sent, once."""
    whole, client = b"abcdefghijkl", Client()
    tus = protocol == "tus"
    client.ask("POST /o" if tus else "PUT /o", f"{TUS}; Upload-Length: 12" if tus else "Upload-Complete: ?0")
    for cut in itertools.chain(cuts, [99]):
        head = client.ask("HEAD $", TUS)
        assert head
        offset = int(dict(head.fields)["Upload-Offset"])
        if offset == 12 and (tus or dict(head.fields)["Upload-Complete"] == "?1"):
            break
        rest = whole[offset : offset + cut]
        ends = tus or offset + cut >= 12
        fields = f"{TUS_PATCH}; Upload-Offset: {offset}" if tus else (
            f"{PATCH}; Upload-Offset: {offset}; Upload-Complete: ?{int(ends)}"
        )  # fmt: skip
        client.ask("PATCH $", fields, rest, ends=offset + cut >= 12, chunked=chunked)
    assert client.read("o") == whole.decode()
    assert [made.by for made in client.objects.made("o")] == [protocol]


@pytest.mark.parametrize(
    ("method", "target", "fields", "operation"),
    [
        ("PUT", "/o", {}, "put_object"),
        ("PUT", "/o", {"Upload-Complete": "?1"}, "put_object"),
        ("PUT", "/o", {"upload-complete": "?0"}, "create_upload"),
        ("POST", "/o", {"Tus-Resumable": "1.0.0"}, "create_upload"),
        ("POST", "/o", {"Upload-Complete": "?1"}, "create_upload"),
        ("POST", "/o", {}, "other"),
        ("HEAD", "/_uploads/a", {}, "upload_offset"),
        ("PATCH", "http://host/_uploads/a", {}, "append_upload"),
        ("DELETE", "/_uploads/a", {}, "abort_upload"),
        ("GET", "/_uploads/a", {}, "other"),
        ("DELETE", "/o", {}, "delete_object"),
        ("OPTIONS", "/o", {}, "other"),
    ],
)
def test_operations(method: str, target: str, fields: dict[str, str], operation: str) -> None:
    """Requests of uploads are told by the operation they are."""
    assert MEMBER.operation(method, target, fields) == operation
