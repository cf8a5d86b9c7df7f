"""Which answer each request to the origin gets, objects and control alike; knows nothing of connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from midstream._content import Content
from midstream._wire import Head
from midstream.stores import Traits
from midstream.stores._origin_answer import Answer, Item, plain, precondition, respond
from midstream.stores._origin_objects import SMALL, Objects, generated, uploaded


class Application:
    """Answers requests; what is below the path `control` is out of band."""

    def __init__(self, objects: Objects, control: str) -> None:
        self.objects = objects
        self.control = control

    def refuses(self, head: Head) -> Answer | None:
        """The final answer to a request whose body is not worth waiting for (RFC 9110 10.1.1)."""
        method, target = head.request
        if method != "PUT" or target.startswith(self.control):
            return None
        failed = precondition(method, self.objects.get(key_of(target)), head)
        return plain(failed, close=True) if failed else None

    def answer(self, head: Head, body: bytes) -> Answer | Callable[[], Answer]:
        """The answer, or a function that takes long to find it."""
        method, target = head.request
        if target.startswith(self.control):
            return self._control(method, target[len(self.control) :], body)
        key = key_of(target)
        if method in ("GET", "HEAD"):
            return respond(method, self.objects.get(key), head, time.time())
        if method == "PUT" and key:
            failed = precondition(method, self.objects.get(key), head)
            return plain(failed) if failed else self._maybe_long(len(body), self._upload, key, body)
        if method == "DELETE" and key:
            return plain(204 if self.objects.delete(key) else 404)
        return plain(405, ("Allow", "GET, HEAD, PUT, DELETE"))

    def _maybe_long(
        self, size: int, make: Callable[..., Answer], *arguments: object
    ) -> Answer | Callable[[], Answer]:
        return (lambda: make(*arguments)) if size > SMALL else make(*arguments)

    def _upload(self, key: str, body: bytes) -> Answer:
        item = uploaded(body)
        replaced = self.objects.put(key, item)
        return plain(204 if replaced else 201, ("ETag", item.etag or ""))

    def _control(self, method: str, target: str, body: bytes) -> Answer | Callable[[], Answer]:
        name, _, query = target.lstrip("/").partition("?")
        values = {k: v[0] for k, v in parse_qs(query, keep_blank_values=True).items()}
        if method == "POST" and name == "put":
            order = json.loads(body)
            content = Content(order["size"], order["seed"], order["generation"])
            return self._maybe_long(content.size, self._generate, order["key"], content, order["traits"])
        if method == "POST" and name == "delete":
            return plain(204 if self.objects.delete(json.loads(body)["key"]) else 404)
        if method == "GET" and name == "keys":
            return Answer(200, text=json.dumps(self.objects.keys()).encode())
        item = self.objects.get(values.get("key", ""))
        if method != "GET" or name not in ("stat", "read") or not item:
            return plain(404)
        if name == "stat":
            return Answer(200, text=json.dumps({"size": item.size, "etag": item.etag}).encode())
        first = min(int(values["start"]), item.size)
        length = min(int(values.get("length", item.size)), item.size - first)
        return Answer(200, [], Item(item.size, item.tag, 0, item.read), first, length)

    def _generate(self, key: str, content: Content, traits: dict[str, str | bool]) -> Answer:
        self.objects.put(key, generated(content, Traits(**traits)))  # type: ignore[arg-type]
        return plain(204)


def key_of(target: str) -> str:
    """The key a request target names; absolute-form (RFC 9112 3.2.2) is taken too."""
    path = target.partition("?")[0]
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path[1:])
