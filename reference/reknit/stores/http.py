"""Plain HTTP origins: http://host/path and https://host/path.

A resume is bound by If-Range (RFC 9110 §13.1.5) rather than If-Match: when the object has changed, the new
one comes whole in the same round trip, and a server that knows neither condition or range answers 200 as
well. A server that ignores If-Range alone is caught by the entity tag of its 206.

Uploads are a PUT; with the setting `upload` in `Options.store` they are something else that a module
`_http_NAME` beside this one knows, on servers that speak it.

Only `Options.headers` and the user information of the URL are credentials here; `Options.renew` may return a
fresh URL, or fresh headers.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from reknit._errors import CallerError
from reknit._options import Options
from reknit._representation import Dialect
from reknit._upload_events import Shape, Told
from reknit.stores._base import Response, settings
from reknit.stores._lines import Lines
from reknit.stores._uploader import Body, Uploader, UploaderBase
from reknit.stores._wire import ask, basic, range_headers

SCHEMES = ("http", "https")

# Query parameters that sign a link: they rotate while the object stays.
_SIGNING = (
    "x-amz-",
    "x-goog-",
    "temp_url_",
    "signature",
    "expires",
    "awsaccesskeyid",
    "key-pair-id",
    "policy",
)


class HttpStore:
    """One URL."""

    dialect = Dialect("If-Range")

    def __init__(self, url: str, options: Options) -> None:
        settings("HTTP", options.store, {"upload": (), "filename": ()})
        self._options, self.private = options, dict(options.headers)
        self._adopt(url)
        self.identity = _identity(self.url)

    def stat(self) -> Response:
        """HEAD, as bare of coding as the GET."""
        return ask("HEAD", self.url, self._options, {}, self.private)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """GET from the URL as given: a redirect's target may have expired by the time of a resume."""
        shape = range_headers(first, last, "If-Range", etag)
        return ask("GET", self.url, self._options, shape, self.private)

    def renew(self) -> bool:
        """Ask the caller for a fresh link or fresh headers."""
        fresh = self._options.renew() if self._options.renew is not None else None
        if fresh is None:
            return False
        if isinstance(fresh, Mapping):
            self.private.update(fresh)
        else:
            self._adopt(fresh)
        return True

    def sent_by(
        self, lines: Lines, method: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Told:
        """One request for the URL, for an upload."""
        return lines.ask(method, self.url, headers, self.private, body, hops=10).told()

    def _adopt(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme.lower() not in SCHEMES or not parts.hostname:
            raise CallerError(f"not an http URL: {parts._replace(query='').geturl()!r}")
        if parts.username is not None:
            # Taken out of the URL so that it obeys the rule for redirects, and stays out of messages.
            self.private["Authorization"] = basic(parts)
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def connect(url: str, options: Options) -> HttpStore:
    """A store for one URL. Raises CallerError when it is not one."""
    try:
        return HttpStore(url, options)
    except CallerError:
        raise
    except ValueError as error:
        raise CallerError(f"not an http URL: {error}") from None


class HttpUploader(UploaderBase):
    """PUT, and HEAD to see what became of it (RFC 9110 §9.3.4)."""

    shape = Shape("whole", HttpStore.dialect)

    def __init__(self, url: str, options: Options) -> None:
        self._store, self._lines = connect(url, options), Lines(options)
        self.identity = self._store.identity
        self._digest = options.expected.field if options.expected else {}

    def put(self, body: Body) -> Told:
        """PUT, with the digest that the caller has told: taking one first would be a second pass."""
        return self._store.sent_by(self._lines, "PUT", self._digest, body)

    def stat(self) -> Told:
        """HEAD."""
        return self._store.sent_by(self._lines, "HEAD", {})

    def renew(self) -> bool:
        """Ask the caller for a fresh link or fresh headers."""
        return self._store.renew()

    def close(self) -> None:
        """See Uploader.close."""
        self._lines.close()


def uploader(url: str, options: Options) -> Uploader:
    """The way to store one URL. Raises CallerError when it is not one, or the way is not known."""
    kind = options.store.get("upload", "put")
    if kind == "put":
        return HttpUploader(url, options)
    name = f"reknit.stores._http_{kind}"
    if not kind.isidentifier() or importlib.util.find_spec(name) is None:
        raise CallerError(f"upload is put, ietf or tus, not {kind!r}")
    made: Uploader = importlib.import_module(name).uploader(url, options)
    return made


def _identity(url: str) -> str:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([pair for pair in pairs if not pair[0].lower().startswith(_SIGNING)])
    # Hashed: what is left of the query may still be a secret, and this is written beside the partial.
    return hashlib.sha256(urlunsplit(parts._replace(query=query)).encode()).hexdigest()
