"""Which answer each request to the origin gets, objects and control alike; knows nothing of connections."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict
from functools import partial
from urllib.parse import parse_qs, unquote

from midstream._content import Content
from midstream._wire import Head
from midstream.stores import Traits
from midstream.stores._origin_answer import Answer, Item, plain, precondition, respond
from midstream.stores._origin_digests import Received, declared, of_content
from midstream.stores._origin_ietf import MEDIA_TYPE, Ietf, limit_field
from midstream.stores._origin_intake import Intake, Later, Whole, mismatch
from midstream.stores._origin_objects import SMALL, Objects, generated
from midstream.stores._origin_tus import DISCOVERY, Tus
from midstream.stores._origin_uploads import PREFIX, Upload, Uploads

METHODS = ("Allow", "GET, HEAD, PUT, DELETE, OPTIONS")


class Application:
    """Answers requests; what is below the path `control` is out of band."""

    def __init__(self, objects: Objects, control: str) -> None:
        self.objects = objects
        self.control = control
        self.uploads = Uploads(lambda: secrets.token_hex(12))
        self._ietf, self._tus = Ietf(self.uploads, self._commit), Tus(self.uploads, self._commit)

    def intake(self, head: Head, length: int | None) -> Answer | Intake:
        """What takes a request's content, of `length` or in chunks, or the answer that makes it needless."""
        method, target = head.request
        if target.startswith(self.control):
            return Whole(lambda content: self._control(method, target[len(self.control) :], content))
        path = path_of(target)
        if path.startswith(PREFIX):
            return self._at_upload(path[len(PREFIX) :], head, length)
        key = unquote(path[1:])
        if method in ("PUT", "POST") and self._ietf.begins(head) and key:
            failed = precondition(method, self.objects.get(key), head)
            return plain(failed) if failed else self._ietf.create(head, key, length)
        if self._tus.begins(head):
            return self._tus.create(head, key, length)
        if method == "PUT" and key:
            return self._put(key, head)
        return Whole(lambda content: self._answer(key, head))

    def answer(self, head: Head) -> Answer | Later:
        """The answer to a request without content."""
        found = self.intake(head, 0)
        return found if isinstance(found, Answer) else found.finish()

    def _answer(self, key: str, head: Head) -> Answer:
        method = head.request[0]
        if method in ("GET", "HEAD"):
            return respond(method, self.objects.get(key), head, time.time())
        if method == "DELETE" and key:
            return plain(204 if self.objects.delete(key) else 404)
        if method == "OPTIONS":
            limits = limit_field(dict(self.uploads.limits(key)))
            return plain(204, METHODS, ("Accept-Patch", MEDIA_TYPE), limits, *DISCOVERY)
        return plain(405, METHODS)

    def _put(self, key: str, head: Head) -> Answer | Intake:
        """A plain upload. It counts when all of it is here: the object changes at once, or not at all."""
        if head.has("content-range"):  # RFC 9110 14.4: a partial PUT is an error where it is not understood
            return plain(400, detail="Content-Range")
        if failed := precondition("PUT", self.objects.get(key), head):
            return plain(failed)
        wanted = {**declared(head.get("repr-digest")), **of_content(head)}

        def stored(content: Received) -> Answer:
            if algorithm := content.differs(wanted):
                return mismatch(algorithm)
            return self._store(key, head, content, "put")

        return Whole(stored)

    def _commit(self, upload: Upload) -> Answer:
        return self._store(upload.key, upload.creation, upload.received, upload.protocol)

    def _store(self, key: str, head: Head, content: Received, by: str) -> Answer:
        """Make the object; its conditions are looked at again, others may have been here meanwhile."""
        if failed := precondition("PUT", self.objects.get(key), head):
            return plain(failed)
        item = content.item(time.time())
        replaced = self.objects.put(key, item, by)
        return plain(204 if replaced else 201, ("ETag", item.etag or ""))

    def _at_upload(self, upload_id: str, head: Head, length: int | None) -> Answer | Intake:
        upload = self.uploads.get(upload_id)
        if not upload:
            return plain(404)
        return (self._tus if upload.protocol == Tus.name else self._ietf).at(upload, head, length)

    def _control(self, method: str, target: str, content: Received) -> Answer | Later:
        name, _, query = target.lstrip("/").partition("?")
        values = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True).items()}
        order = json.loads(content.data) if method == "POST" else {}
        if method == "POST" and name == "put":
            made = Content(order["size"], order["seed"], order["generation"])
            make = partial(self._generate, order["key"], made, order["traits"])
            return make if made.size > SMALL else make()
        if method == "POST" and name == "delete":
            return plain(204 if self.objects.delete(order["key"]) else 404)
        if method == "POST" and name == "limit":
            self.uploads.limit(order["key"], order["limits"])
            return plain(204)
        if method == "POST" and name == "shorten":
            return self._shorten(order["id"], order["offset"])
        if method == "GET" and name == "keys":
            return _json(self.objects.keys())
        if method == "GET" and name == "uploads":
            return _json([_shown(upload) for upload in self.uploads.all()])
        if method == "GET" and name == "made":
            return _json([asdict(made) for made in self.objects.made(values["key"])])
        item = self.objects.get(values.get("key", ""))
        if method != "GET" or name not in ("stat", "read") or not item:
            return plain(404)
        if name == "stat":
            return _json({"size": item.size, "etag": item.etag})
        first = min(int(values["start"]), item.size)
        length = min(int(values.get("length", item.size)), item.size - first)
        return Answer(200, [], Item(item.size, item.tag, 0, item.read), first, length)

    def _generate(self, key: str, content: Content, traits: dict[str, str | bool]) -> Answer:
        self.objects.put(key, generated(content, Traits(**traits)), "harness")  # type: ignore[arg-type]
        return plain(204)

    def _shorten(self, upload_id: str, offset: int) -> Answer:
        upload = self.uploads.get(upload_id)
        if not upload or upload.state != "open":
            return plain(404)
        upload.shorten(offset)
        return plain(204)


def _json(value: object) -> Answer:
    return Answer(200, text=json.dumps(value).encode())


def _shown(upload: Upload) -> dict[str, object]:
    return {
        "id": upload.id,
        "key": upload.key,
        "protocol": upload.protocol,
        "offset": upload.offset,
        "length": upload.length,
        "state": upload.state,
    }


def path_of(target: str) -> str:
    """The path of a request target; absolute-form (RFC 9112 3.2.2) is taken too."""
    path = target.partition("?")[0]
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path
