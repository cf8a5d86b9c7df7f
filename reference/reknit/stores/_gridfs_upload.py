"""Uploads to GridFS: chunks, then the document that makes them a file."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from reknit._errors import SourceError
from reknit._upload_events import Shape, Told
from reknit.stores._uploader import Body, UploaderBase
from reknit.stores.gridfs import DENIED, Document, GridFSStore, refusal

CHUNK = 255 << 10
"""Of files that are made here; the specification's own."""


class GridFSUploader(UploaderBase):
    """A new revision of the name, which is there with its last document and not before.

    Its sha256 goes into the metadata: GridFS has no digest of its own, and it proves the file to be ours when
    an answer is lost. Older revisions stay.

    Chunks whose file will not be are removed, by a later request where this one can no more. The document
    makes the file: while nobody knows whether it has arrived its chunks stay, and it is sent again as it was.
    """

    shape = Shape("whole", GridFSStore.dialect)

    def __init__(self, store: GridFSStore) -> None:
        self._store = store
        self.identity = store.identity
        self._unanswered: Document | None = None  # of a file whose chunks are all there
        self._abandoned: list[Any] = []  # ids of files that will not be

    def put(self, body: Body) -> Told:
        """Chunks, then the document that names them.

        Not through gridfs.GridIn, whose `close` after a failed `abort` would make a short file of the chunks.
        """
        client = self._store.connect()
        try:
            bucket = self._store.bucket(client)
            self._remove(bucket)
            document = self._unanswered or self._send(bucket, body)
            self._name(bucket, document)
            return Told(201, {})
        except SourceError:
            raise
        except Exception as error:
            answer = refusal(error)
            return Told(answer.status, answer.headers)
        finally:
            client.close()

    def _send(self, bucket: Any, body: Body) -> Document:
        """Send all of them; the document that is to name them."""
        from bson import Int64, ObjectId

        own, digest = ObjectId(), hashlib.sha256()
        # The specification has them made by whoever writes first; asked for again they are there.
        bucket.files.create_index([("filename", 1), ("uploadDate", 1)])
        bucket.chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
        try:
            for number, data in enumerate(_cut(body.blocks(), CHUNK)):
                digest.update(data)
                bucket.chunks.insert_one({"files_id": own, "n": number, "data": data})
        except BaseException:
            self._abandon(bucket, own)
            raise
        facts = {"_id": own, "filename": self._store.name, "length": Int64(body.size), "chunkSize": CHUNK}
        made = datetime.datetime.now(datetime.UTC)
        return {**facts, "uploadDate": made, "metadata": {"sha256": digest.hexdigest()}}

    def _name(self, bucket: Any, document: Document) -> None:
        """Make the file of its chunks. One that is there already has been made by this very document."""
        from pymongo import errors

        self._unanswered = document
        try:
            bucket.files.insert_one(dict(document))
        except errors.DuplicateKeyError:
            pass
        except errors.OperationFailure as error:
            # Only what is certainly not written loses its chunks; a write concern that fails says no such.
            if isinstance(error, errors.WriteError) or error.code in DENIED:
                self._unanswered = None
                self._abandon(bucket, document["_id"])
            raise
        self._unanswered = None

    def _abandon(self, bucket: Any, own: Any) -> None:
        self._abandoned.append(own)
        try:
            self._remove(bucket)
        except Exception:
            pass  # until the next request, or the end

    def _remove(self, bucket: Any) -> None:
        if self._abandoned:
            bucket.chunks.delete_many({"files_id": {"$in": self._abandoned}})
            self._abandoned.clear()

    def close(self) -> None:
        """Nothing is open; what could not be removed is tried once more."""
        if not self._abandoned:
            return
        try:
            with self._store.connect() as client:
                self._remove(self._store.bucket(client))
        except Exception:
            pass  # chunks that no document names are seen by nobody

    def stat(self) -> Told:
        """The newest revision's facts."""
        head = self._store.stat()
        return Told(head.status, head.headers)


def _cut(blocks: Iterable[memoryview], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`, but for the last."""
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
