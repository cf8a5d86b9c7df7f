"""What the origin answers, as a pure function: RFC 9110 sections 13 and 14, clause by clause."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream._content import Content
from midstream._wire import Head
from midstream.stores import Traits
from midstream.stores._origin_answer import Answer, Item, precondition, respond, select
from midstream.stores._origin_objects import DAY, EPOCH, generated

CONTENT = Content(1000, seed=9)
ETAG = '"g1-9-1000"'
OTHER = '"other"'
MODIFIED = EPOCH + DAY
SAME, EARLIER, LATER = (formatdate(MODIFIED + d, usegmt=True) for d in (0, -1, 1))
NOW = float(MODIFIED + 1000)


def ask(method: str = "GET", traits: Traits | None = None, now: float = NOW, **fields: str) -> Answer:
    head = Head("", [(name.replace("_", "-"), value) for name, value in fields.items()])
    return respond(method, generated(CONTENT, traits or Traits()), head, now)


def fields_of(answer: Answer) -> dict[str, str]:
    return dict(answer.fields)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # step 1: If-Match
        ({"if_match": ETAG}, 200),
        ({"if_match": f"{OTHER}, {ETAG}"}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": OTHER}, 412),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": "g1-9-1000"}, 412),
        # step 2: If-Unmodified-Since, only without If-Match
        ({"if_unmodified_since": SAME}, 200),
        ({"if_unmodified_since": LATER}, 200),
        ({"if_unmodified_since": EARLIER}, 412),
        ({"if_unmodified_since": "yesterday"}, 200),
        ({"if_match": ETAG, "if_unmodified_since": EARLIER}, 200),
        ({"if_match": OTHER, "if_unmodified_since": LATER}, 412),
        # step 3: If-None-Match
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": f"W/{ETAG}"}, 304),
        ({"if_none_match": f"{OTHER}, {ETAG}"}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": OTHER}, 200),
        ({"if_match": OTHER, "if_none_match": ETAG}, 412),
        ({"if_match": ETAG, "if_none_match": ETAG}, 304),
        ({"if_unmodified_since": EARLIER, "if_none_match": ETAG}, 412),
        # step 4: If-Modified-Since, only without If-None-Match
        ({"if_modified_since": SAME}, 304),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_none_match": OTHER, "if_modified_since": LATER}, 200),
        ({"if_match": ETAG, "if_modified_since": LATER}, 304),
        # step 5: Range and If-Range, after all others
        ({"range": "bytes=0-9"}, 206),
        ({"range": "bytes=0-9", "if_range": ETAG}, 206),
        ({"range": "bytes=0-9", "if_range": OTHER}, 200),
        ({"range": "bytes=0-9", "if_range": f"W/{ETAG}"}, 200),
        ({"range": "bytes=0-9", "if_range": f"{OTHER}, {ETAG}"}, 200),
        ({"range": "bytes=0-9", "if_range": SAME}, 206),
        ({"range": "bytes=0-9", "if_range": LATER}, 200),
        ({"range": "bytes=0-9", "if_range": EARLIER}, 200),
        ({"range": "bytes=0-9", "if_range": "yesterday"}, 200),
        ({"range": "bytes=1000-", "if_range": OTHER}, 200),
        ({"range": "bytes=1000-", "if_range": ETAG}, 416),
        ({"if_range": OTHER}, 200),
        ({"range": "bytes=0-9", "if_match": OTHER}, 412),
        ({"range": "bytes=0-9", "if_match": ETAG}, 206),
        ({"range": "bytes=0-9", "if_none_match": ETAG}, 304),
        ({"range": "bytes=0-9", "if_unmodified_since": EARLIER}, 412),
        ({"range": "bytes=0-9", "if_match": OTHER, "if_range": ETAG}, 412),
        ({"range": "bytes=1000-", "if_match": OTHER}, 412),
    ],
)
def test_precedence(fields: dict[str, str], status: int) -> None:
    """Preconditions are evaluated in the order of RFC 9110 13.2.2; HEAD is answered alike, without Range."""
    assert ask(**fields).status == status
    assert ask("HEAD", **fields).status == (200 if status in (206, 416) else status)


@pytest.mark.parametrize(
    ("validator", "fields", "status"),
    [
        ("weak", {"if_match": ETAG}, 412),
        ("weak", {"if_match": f"W/{ETAG}"}, 412),
        ("weak", {"if_match": "*"}, 200),
        ("weak", {"if_none_match": f"W/{ETAG}"}, 304),
        ("weak", {"if_none_match": ETAG}, 304),
        ("weak", {"range": "bytes=5-", "if_range": f"W/{ETAG}"}, 200),
        ("weak", {"range": "bytes=5-", "if_range": ETAG}, 200),
        ("weak", {"range": "bytes=5-", "if_range": SAME}, 200),
        ("weak", {"if_unmodified_since": EARLIER}, 200),
        ("modified", {"if_match": ETAG}, 412),
        ("modified", {"if_none_match": ETAG}, 200),
        ("modified", {"range": "bytes=5-", "if_range": SAME}, 206),
        ("modified", {"range": "bytes=5-", "if_range": ETAG}, 200),
        ("modified", {"if_unmodified_since": EARLIER}, 412),
        ("modified", {"if_modified_since": SAME}, 304),
        ("none", {"if_match": ETAG}, 412),
        ("none", {"if_match": "*"}, 200),
        ("none", {"if_none_match": "*"}, 304),
        ("none", {"range": "bytes=5-"}, 206),
        ("none", {"range": "bytes=5-", "if_range": ETAG}, 200),
        ("none", {"range": "bytes=5-", "if_range": SAME}, 200),
        ("none", {"if_unmodified_since": EARLIER}, 200),
        ("none", {"if_modified_since": LATER}, 200),
    ],
)
def test_precedence_by_validator(validator: str, fields: dict[str, str], status: int) -> None:
    """A condition counts only against a validator the object shows."""
    assert ask(traits=Traits(validator=validator), **fields).status == status


def test_if_range_date_has_to_be_strong() -> None:
    """A Last-Modified less than a second before the answer is a weak validator (RFC 9110 8.8.2.2)."""
    fields = {"range": "bytes=5-", "if_range": SAME}
    assert ask(now=MODIFIED + 0.9, **fields).status == 200
    assert ask(now=MODIFIED + 1, **fields).status == 206


def test_preconditions_of_a_missing_object() -> None:
    """A 404 stays a 404 whatever the conditions (13.2.1); for PUT they decide about creating."""
    for field in ("if-match", "if-none-match"):
        assert respond("GET", None, Head("", [(field, "*")]), NOW).status == 404
    assert precondition("PUT", None, Head("", [("if-match", "*")])) == 412
    assert precondition("PUT", None, Head("", [("if-none-match", "*")])) is None
    item = generated(CONTENT, Traits())
    assert precondition("PUT", item, Head("", [("if-none-match", "*")])) == 412
    assert precondition("PUT", item, Head("", [("if-match", ETAG)])) is None


@pytest.mark.parametrize(
    ("value", "size", "span"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=0-9", 10, (0, 10)),
        ("bytes=5-", 10, (5, 5)),
        ("bytes=9-", 10, (9, 1)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=5-99999999999999999999", 10, (5, 5)),
        ("BYTES = 1 - 2", 10, (1, 2)),
        ("bytes=,1-2,", 10, (1, 2)),
        ("bytes=10-", 10, (10, 0)),
        ("bytes=10-20", 10, (10, 0)),
        ("bytes=-0", 10, (10, 0)),
        ("bytes=0-", 0, (0, 0)),
        ("bytes=-0", 0, (0, 0)),
        ("bytes=-1", 0, None),
        ("bytes=5-4", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=", 10, None),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes 0-1", 10, None),
        ("items=0-1", 10, None),
        (f"bytes=0-{'9' * 5000}", 10, None),
    ],
)
def test_select(value: str, size: int, span: tuple[int, int] | None) -> None:
    """One range is selected and clamped; length 0 cannot be satisfied, None is ignored (RFC 9110 14.2)."""
    assert select(value, size) == span


@given(st.integers(0, 300), st.integers(0, 310), st.integers(0, 310))
def test_select_is_a_slice(size: int, first: int, last: int) -> None:
    """A range of whole numbers selects what a slice does, or nothing when it starts behind the end."""
    span = select(f"bytes={first}-{last}", size)
    if first > last:
        assert span is None
    else:
        assert span is not None
        numbers = range(size)[first : last + 1]
        assert span[1] == len(numbers)
        assert not numbers or span[0] == numbers[0]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("validator", ["strong", "weak", "modified", "none"])
def test_fields(validator: str, digest: bool, framing: str) -> None:
    """200 and 206 carry the validators and digests the object is to show, and no others."""
    traits = Traits(validator=validator, digest=digest, framing=framing)
    whole, part = ask(traits=traits), ask(traits=traits, range="bytes=10-19")
    for answer in (whole, part):
        fields = fields_of(answer)
        assert fields.get("ETag") == {"strong": ETAG, "weak": f"W/{ETAG}"}.get(validator)
        assert ("Last-Modified" in fields) == (validator in ("strong", "modified"))
        assert fields["Accept-Ranges"] == "bytes"
        assert ("Repr-Digest" in fields) == digest
    assert ("Content-MD5" in fields_of(whole)) == digest
    assert "Content-MD5" not in fields_of(part)
    assert "Content-Range" not in fields_of(whole)
    assert fields_of(part)["Content-Range"] == "bytes 10-19/1000"
    assert (part.first, part.length) == (10, 10)


def test_ranges_off() -> None:
    """An object without ranges ignores Range and If-Range and does not offer them; conditions still hold."""
    traits = Traits(ranges=False)
    for fields in ({"range": "bytes=5-"}, {"range": "bytes=5000-"}, {"range": "bytes=5-", "if_range": ETAG}):
        answer = ask(traits=traits, **fields)
        assert (answer.status, answer.length) == (200, 1000)
        assert "Accept-Ranges" not in fields_of(answer)
    assert ask(traits=traits, range="bytes=5-", if_match=OTHER).status == 412


def test_head_off() -> None:
    """HEAD that is off is answered 405 with what is allowed; GET is not concerned."""
    answer = ask("HEAD", Traits(head=False))
    assert answer.status == 405
    assert fields_of(answer)["Allow"] == "GET"
    assert ask("GET", Traits(head=False)).status == 200


def test_unsatisfiable() -> None:
    """416 tells the size there is (RFC 9110 14.4)."""
    assert fields_of(ask(range="bytes=1000-"))["Content-Range"] == "bytes */1000"


def test_validators_change_with_the_generation() -> None:
    """Every generation has its own ETag and its own Last-Modified, a day apart."""
    items: list[Item] = [generated(Content(1000, 9, g), Traits()) for g in (1, 2, 3)]
    assert len({item.etag for item in items}) == 3
    assert [item.modified - items[0].modified for item in items] == [0, DAY, 2 * DAY]
