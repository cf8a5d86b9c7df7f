"""Objects of an S3 store whose every version is kept: they lie in a bucket of their own.

Versioning is a property of a bucket, and once on it can be suspended, not taken back (S3 API:
PutBucketVersioning). So the bucket of all other cases stays as it is, and this one is made when it is first
needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from midstream.stores import CONTAINER

VERSIONED = f"{CONTAINER}-versioned"
Call = Callable[[Callable[[Any], Any]], Any]  # `RunningS3.call`


class Versions:
    """Which keys of a store lie in that bucket. Several cases may ask at once."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._made = False
        self._keys: set[str] = set()

    def bucket(self, key: str) -> str:
        """The bucket that a key is in."""
        return VERSIONED if key in self._keys else CONTAINER

    def buckets(self) -> list[str]:
        """Those that are there."""
        return [CONTAINER, VERSIONED] if self._made else [CONTAINER]

    def adopt(self, key: str) -> None:
        """Have a key in the bucket from now on."""
        with self._lock:
            if not self._made:
                self._call(_make)
                self._made = True
            self._keys.add(key)

    def purge(self, key: str) -> bool:
        """Remove every version and delete marker of a key that is here, and let it go; whether it was."""
        here = key in self._keys
        if here:
            self._remove(key)
            self._keys.discard(key)
        return here

    def remove(self) -> None:
        """Remove the bucket, if it was made, with all that is in it."""
        if self._made:
            self._remove("")
            self._call(lambda s3: s3.delete_bucket(Bucket=VERSIONED))
            self._made = False

    def _remove(self, key: str) -> None:
        def remove(s3: Any) -> None:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=VERSIONED, Prefix=key):
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if key in ("", entry["Key"]):
                        # A delete that names the version removes it; one that does not adds a marker.
                        where = {"Bucket": VERSIONED, "Key": entry["Key"], "VersionId": entry["VersionId"]}
                        s3.delete_object(**where)

        self._call(remove)


def _make(s3: Any) -> None:
    s3.create_bucket(Bucket=VERSIONED)
    try:
        s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    except BaseException:  # a server may have no place for versions
        s3.delete_bucket(Bucket=VERSIONED)
        raise
