"""The bucket that keeps every version: which keys are in it, and that nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from midstream._content import Content
from midstream._errors import HarnessError
from midstream._parts import Endpoint
from midstream._registry import load
from midstream.stores import Traits
from midstream.stores._elsewhere import RunningS3Elsewhere
from midstream.stores._s3 import RunningS3
from midstream.stores._s3_versions import VERSIONED

OLD, NEW = Content(1000, seed=1), Content(1000, seed=1, generation=2)
KEPT = Traits(layout="versioned")


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    running = load("stores", "moto").start(tmp_path_factory.mktemp("moto"))
    assert isinstance(running, RunningS3)
    yield running
    running.stop()


def left(s3: Any, bucket: str = VERSIONED) -> list[str]:
    """The keys of every version and delete marker there is."""
    found = s3.list_object_versions(Bucket=bucket)
    return [entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in found.get(kind, ())]


def test_purging_one_key_leaves_the_others(moto: RunningS3) -> None:
    """Names that begin alike are other objects."""
    for key in ("one", "one more"):
        moto.put(key, OLD, KEPT)
        moto.put(key, NEW, KEPT)
    moto.delete("one")
    assert moto.keys() == ["one more"]
    moto.purge("one")
    assert moto.call(left) == ["one more", "one more"]
    moto.purge("one more")
    assert moto.call(left) == []


@pytest.mark.parametrize(("before", "after"), [(KEPT, Traits()), (Traits(), KEPT)])
def test_a_key_is_in_one_bucket(moto: RunningS3, before: Traits, after: Traits) -> None:
    """An object that is made the other way leaves no second one of its name."""
    moto.put("moves", OLD, before)
    moto.put("moves", NEW, after)
    assert moto.keys() == ["moves"]
    assert moto.read("moves") == NEW.whole()
    moto.purge("moves")
    assert moto.keys() == moto.call(left) == []


def buckets(moto: RunningS3) -> list[str]:
    return [bucket["Name"] for bucket in moto.call(lambda s3: s3.list_buckets())["Buckets"]]


def attached(moto: RunningS3, folder: Path) -> RunningS3Elsewhere:
    """The same server, as somebody else's."""
    endpoint = Endpoint.parse("test", f"http://127.0.0.1:{moto.port}")
    return RunningS3Elsewhere("theirs", endpoint, moto._keys, folder)


def test_a_server_that_keeps_no_versions(moto: RunningS3, tmp_path: Path) -> None:
    """That is an error of the store, each time, and leaves no second bucket."""
    before = buckets(moto)
    ours = attached(moto, tmp_path / "own")

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "VersioningNotConfigured"}}, "PutBucketVersioning")

    ours.client().put_bucket_versioning = refuse
    for _ in range(2):
        with pytest.raises(HarnessError, match=r"theirs: .*VersioningNotConfigured"):
            ours.put("a", OLD, KEPT)
        assert len(buckets(moto)) == len(before) + 1
    ours.stop()
    assert buckets(moto) == before


def test_somebody_elses_server_is_left_as_it_was(moto: RunningS3, tmp_path: Path) -> None:
    """Both buckets that were made there are gone, with the versions that a case left behind."""
    before = buckets(moto)
    ours = attached(moto, tmp_path / "own")
    ours.put("a", OLD, KEPT)
    ours.put("a", NEW, KEPT)
    ours.put("b", OLD, Traits())
    assert ours.read("a") == NEW.whole()
    assert ours.keys() == ["a", "b"]
    made = buckets(moto)
    assert len(made) == len(before) + 2
    assert ours.access("a", "http://127.0.0.1:1").native in [f"s3://{name}/a" for name in made]
    ours.delete("a")
    ours.stop()
    assert buckets(moto) == before
