"""The zoo: every saboteur by its name, each a function that takes a job.

midstream run --driver py:tests/saboteurs/sins.py:appends_a_whole_body --store origin
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import _sins_framing
import _sins_ranges
import _sins_retry
import _sins_sink
import _sins_uploads
import _sins_validators
from _bases import ReadsOn, Saboteur, Split, Trusting, TrustingSplit
from _correct import Client
from _sins_uploads import BadUploader
from _uploader import Uploader

ABSTRACT = {ReadsOn, Saboteur, Split, Trusting, TrustingSplit}
MODULES = (_sins_framing, _sins_ranges, _sins_validators, _sins_retry, _sins_sink)


def name_of(sin: type[Saboteur | BadUploader]) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=A)(?=[A-Z][a-z])", "_", sin.__name__).lower()


def driver_of(sin: type[Saboteur | BadUploader]) -> Callable[[Any], None]:
    def run(job: Any) -> None:
        sin(job).run()

    return run


SINS: dict[str, type[Saboteur]] = {
    name_of(member): member
    for module in MODULES
    for member in vars(module).values()
    if isinstance(member, type) and issubclass(member, Saboteur) and member not in ABSTRACT
}
DRIVERS: dict[str, Callable[[Any], None]] = {name: driver_of(sin) for name, sin in SINS.items()}
globals().update(DRIVERS)
UPLOAD_SINS: dict[str, type[BadUploader]] = {
    name_of(member): member
    for member in vars(_sins_uploads).values()
    if isinstance(member, type) and issubclass(member, BadUploader) and member is not BadUploader
}
assert not set(DRIVERS) & set(UPLOAD_SINS), "one of two of a name would never be run"
globals().update({name: driver_of(sin) for name, sin in UPLOAD_SINS.items()})


def fetch(job: Any) -> None:
    """The correct client."""
    Client(job).run()


def in_parts(job: Any) -> None:
    """A correct client that splits, so that the sins of those that do are its own."""
    Split(job).run()


def send(job: Any) -> None:
    """The correct uploader."""
    Uploader(job).run()
