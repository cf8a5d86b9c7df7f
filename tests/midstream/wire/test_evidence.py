"""Evidence: what is redacted when it is recorded, and what is folded from it."""

from __future__ import annotations

import json

import pytest

from midstream._evidence import REDACTED, Evidence, fold, redact_fields, redact_target


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "PROXY-AUTHORIZATION",
        "Cookie",
        "set-cookie",
        "X-Auth-Token",
        "x-auth-key",
        "X-Storage-Token",
        "X-Storage-Pass",
        "X-Subject-Token",
        "X-Service-Token",
        "X-Amz-Security-Token",
        "X-Account-Meta-Temp-URL-Key",
        "X-Container-Meta-Temp-URL-Key-2",
        "X-Amz-Server-Side-Encryption-Customer-Key",
    ],
)
def test_secret_fields(name: str) -> None:
    """Fields that carry credentials lose their value, whatever their case."""
    assert redact_fields([(name, "s3cr3t"), ("Range", "bytes=0-")]) == [
        (name, REDACTED),
        ("Range", "bytes=0-"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "x-goog-signature",
        "Signature",
        "AWSAccessKeyId",
        "temp_url_sig",
        "sig",
        "token",
        "access_token",
    ],
)
def test_secret_parameters(name: str) -> None:
    """Signing and token parameters lose their value wherever they stand in a target, others stay."""
    for target in (
        f"/b/k?{name}=s3cr3t&partNumber=1",
        f"/b/k?uploads&{name}=s3cr3t",
        f"http://h/k?{name}=s3cr3t#x",
    ):
        assert redact_target(target) == target.replace("s3cr3t", REDACTED)
    url = f"https://h/b/k?a=b&{name}=s3cr3t"
    for field, value in (("Location", url), ("Link", f'<{url}>; rel="next"'), ("Referer", url)):
        assert redact_fields([(field, value)]) == [(field, value.replace("s3cr3t", REDACTED))]


def test_plain_targets_stay() -> None:
    """What only looks like a secret's name stays."""
    target = "/b/signature=1?prefix=key&key-marker=a&design=x"
    assert redact_target(target) == target


def request(evidence: Evidence, number: int, operation: str = "get_object") -> None:
    evidence.add(
        "request", 0.0, 1, number, method="GET", target="/k", operation=operation, fields=[("Range", "x")]
    )


def test_fold() -> None:
    """Exchanges, firings, reasons and trouble are computed from the events in order."""
    evidence = Evidence()
    evidence.add("connection", 0.0, 1)
    request(evidence, 1)
    evidence.add("response", 0.1, 1, 1, status=206, base=5, length=9, by="store", fields=[("ETag", "x")])
    evidence.add("fault", 0.2, 1, 1, rule=0, spec="GET cut@7", wire=102, body=2, offset=7)
    evidence.add("sent", 0.3, 1, 1, wire=102, body=2, end="cut")
    request(evidence, 2, "head_object")
    evidence.add("unfired", 0.4, 1, 2, rule=0, spec="GET cut@7", why="absent")
    evidence.add("unfired", 0.4, 1, 2, rule=1, spec="GET cut@9", why="elsewhere")
    evidence.add("sent", 0.4, 1, 2, wire=50, body=0, end="upstream-closed")
    evidence.add("upstream-failed", 0.5, 1, 2, reason="no store")
    facts = fold(evidence)
    first, second = facts.exchanges
    assert (first.status, first.base, first.length, first.sent, first.wire, first.end) == (
        206,
        5,
        9,
        2,
        102,
        "cut",
    )
    assert (first.range, first.field("RANGE"), first.field("x"), second.end) == (
        "x",
        "x",
        None,
        "upstream-closed",
    )
    assert [(f.rule, f.exchange, f.wire, f.body, f.offset) for f in facts.fired] == [(0, 1, 102, 2, 7)]
    assert facts.unfired == {1: ["elsewhere"]}
    assert facts.trouble == ["the store ended the response to request 2 early", "no store"]
    assert (facts.connections, facts.body_bytes(14), facts.transfers) == (1, 2, [first])


@pytest.mark.parametrize(
    ("end", "held", "length", "counted"),
    [
        ("complete", False, 9, 4),
        ("cut", False, 9, 4),
        ("client-left", True, 9, 4),
        ("client-left", False, 9, 9),
        ("open", False, 9, 9),
        ("client-left", False, None, 95),
    ],
)
def test_a_driver_that_leaves_is_charged_the_response(
    end: str, held: bool, length: int | None, counted: int
) -> None:
    """What a fault stopped counts up to it; what a driver left counts whole, however far our sending was."""
    evidence = Evidence()
    evidence.add("request", 0.1, 1, 1, method="GET", target="/", operation="get_object", fields=[])
    head = {"status": 206, "fields": [], "base": 5, "length": length, "by": "store"}
    evidence.add("response", 0.2, 1, 1, **head)
    evidence.add("sent", 0.3, 1, 1, wire=100, body=4, end=end, held=held)
    assert fold(evidence).body_bytes(100) == counted


def test_a_storm_is_counted_not_kept() -> None:
    """Events beyond the limit are counted, so that a verdict can tell a storm from our own trouble."""
    evidence = Evidence(limit=3)
    for _ in range(5):
        evidence.add("connection", 0.0)
    assert (len(evidence.events), evidence.dropped) == (3, 2)
    assert fold(evidence).dropped == 2


def test_events_are_json() -> None:
    """An event is a flat JSON object with its kind, time, connection and exchange."""
    evidence = Evidence()
    evidence.add("sent", 1.23456789, 2, 3, wire=4, body=5, end="cut")
    assert json.loads(json.dumps(evidence.as_json())) == [
        {"kind": "sent", "at": 1.234568, "connection": 2, "exchange": 3, "wire": 4, "body": 5, "end": "cut"}
    ]
