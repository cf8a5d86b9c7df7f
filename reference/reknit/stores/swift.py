"""OpenStack Swift: swift://container/object, and swift+http(s)://host/v1/ACCOUNT/container/object.

Settings in `Options.store`, with the environment variables that stand in for them:

    auth_version    ST_AUTH_VERSION, OS_IDENTITY_API_VERSION  1 or 3; 3 when a project is named
    auth_url        ST_AUTH, OS_AUTH_URL
    user            ST_USER, OS_USERNAME
    key             ST_KEY, OS_PASSWORD
    project         OS_PROJECT_NAME
    user_domain     OS_USER_DOMAIN_NAME                       Default
    project_domain  OS_PROJECT_DOMAIN_NAME                    Default
    region          OS_REGION_NAME
    storage_url     OS_STORAGE_URL                            instead of the catalog's
    token           OS_AUTH_TOKEN                             instead of logging in, with storage_url

If-Match protects a resume: Swift ignores If-Range. A 409 is final: a segment of a static large object is gone
or changed, and stays so. Uploads are in _swift_upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._representation import Dialect
from reknit.stores._base import Head, Response, settings
from reknit.stores._uploader import Uploader
from reknit.stores._wire import as_fault, ask, range_headers

SCHEMES = ("swift", "swift+http", "swift+https")

_SETTINGS: dict[str, tuple[str, ...]] = {
    "auth_version": ("ST_AUTH_VERSION", "OS_IDENTITY_API_VERSION"),
    "auth_url": ("ST_AUTH", "OS_AUTH_URL"),
    "user": ("ST_USER", "OS_USERNAME"),
    "key": ("ST_KEY", "OS_PASSWORD"),
    "project": ("OS_PROJECT_NAME",),
    "user_domain": ("OS_USER_DOMAIN_NAME",),
    "project_domain": ("OS_PROJECT_DOMAIN_NAME",),
    "region": ("OS_REGION_NAME",),
    "storage_url": ("OS_STORAGE_URL",),
    "token": ("OS_AUTH_TOKEN",),
}

Login = tuple[str, str]
"""The storage URL and the token."""

# One login serves every download of this process with the same settings, until it is refused.
_logins: dict[tuple[tuple[str, str], ...], Login] = {}


def etag_is_md5(headers: Mapping[str, str]) -> bool:
    """The ETag of a plain object; a large object's is made of its segments' tags."""
    return "x-static-large-object" not in headers and "x-object-manifest" not in headers


class Denied(Exception):
    """The login was answered with a status, for the machine to judge like any other."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


class SwiftStore:
    """One object."""

    dialect = Dialect("If-Match", etag_is_md5, stored_coding=True)

    def __init__(self, path: str, found: dict[str, str], options: Options) -> None:
        self.path, self._settings, self._options = path, found, options
        """Container and object, quoted."""
        self._used: Login | None = None  # the last one that came about
        self.identity = f"swift {found['storage_url'] or found['auth_url']} {found['project']} {path}"

    def stat(self) -> Response:
        """HEAD."""
        return self._send("HEAD", {})

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """GET, with Range and If-Match for a resume."""
        return self._send("GET", range_headers(first, last, "If-Match", etag))

    def renew(self) -> bool:
        """Log in again; True when there is something to log in with."""
        fresh = self._options.renew() if self._options.renew is not None else None
        if isinstance(fresh, Mapping):
            self._settings = settings("Swift", {**self._settings, **fresh}, _SETTINGS)
            return True
        if self._used is None:
            return False
        # Several threads may share this store: one that another has renewed meanwhile is not thrown away.
        if _logins.get(self._key()) is self._used:
            _logins.pop(self._key(), None)
        return True

    def _send(self, method: str, headers: dict[str, str]) -> Response:
        try:
            storage_url, private = self.reach()
        except Denied as denied:
            return denied.answer
        return ask(method, f"{storage_url}/{self.path}", self._options, headers, private)

    def reach(self) -> tuple[str, dict[str, str]]:
        """The storage URL, and the headers that let us in. Raises Denied and StoreFault."""
        try:
            storage_url, token = self._login()
        except Denied:
            self._used = None
            raise
        return storage_url.rstrip("/"), {"X-Auth-Token": token} if token else {}

    def _key(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self._settings.items()))

    def _login(self) -> Login:
        setting = self._settings
        if setting["storage_url"] and (setting["token"] or not setting["auth_url"]):
            return setting["storage_url"], setting["token"]
        found = _logins.get(self._key())
        if found is None:
            version = setting["auth_version"] or ("3" if setting["project"] else "1")
            storage_url, token = (
                _keystone(setting, self._options) if version.startswith("3") else self._tempauth()
            )
            found = _logins[self._key()] = (setting["storage_url"] or storage_url, token)
        self._used = found
        return found

    def _tempauth(self) -> Login:
        """Version 1: two headers there, two headers back."""
        private = {"X-Auth-User": self._settings["user"], "X-Auth-Key": self._settings["key"]}
        answer = ask("GET", self._settings["auth_url"], self._options, {}, private)
        answer.close()
        head = answer.headers
        if answer.status not in (200, 204):
            raise Denied(Head(answer.status, {**head, "x-reknit-reason": "from the authentication service"}))
        if "x-storage-url" not in head or "x-auth-token" not in head:
            raise StoreFault("protocol", "protocol: the login answer lacks X-Storage-Url or X-Auth-Token")
        return head["x-storage-url"], head["x-auth-token"]


def _keystone(setting: Mapping[str, str], options: Options) -> Login:
    """Version 3: a password for a token scoped to the project, and the catalog's object-store endpoint."""
    try:
        from keystoneauth1 import exceptions
        from keystoneauth1.identity import v3
        from keystoneauth1.session import Session as KeystoneSession
    except ImportError as error:
        raise CallerError("Keystone logins need keystoneauth1: pip install 'midstream[keystone]'") from error
    auth = v3.Password(
        auth_url=setting["auth_url"],
        username=setting["user"],
        password=setting["key"],
        project_name=setting["project"] or None,
        user_domain_name=setting["user_domain"] or "Default",
        project_domain_name=setting["project_domain"] or "Default",
    )
    session: Any = KeystoneSession(auth=auth, timeout=options.idle_timeout, connect_retries=0)
    try:
        token = session.get_token()
        url = session.get_endpoint(service_type="object-store", region_name=setting["region"] or None)
    except exceptions.HttpError as error:
        answer = Head(error.http_status, {"x-reknit-reason": f"from Keystone: {error.message}"})
        raise Denied(answer) from error
    except exceptions.ClientException as error:
        raise as_fault(error, otherwise="connect") from error
    if not url and not setting["storage_url"]:
        raise CallerError("the Keystone catalog names no object-store endpoint; set storage_url")
    return url or "", token


def uploader(url: str, options: Options) -> Uploader:
    """The way to store one object. Raises CallerError as `connect` does."""
    from reknit.stores import _swift_upload  # it needs this module

    return _swift_upload.SwiftUploader(connect(url, options), options)


def connect(url: str, options: Options) -> SwiftStore:
    """A store for one object. Raises CallerError for a bad URL or missing settings."""
    parts = urlsplit(url)
    found = settings("Swift", options.store, _SETTINGS)
    if parts.scheme == "swift":
        path = f"{unquote(parts.netloc)}{unquote(parts.path)}"
    else:
        version, account, path = ([*unquote(parts.path).lstrip("/").split("/", 2), "", ""])[:3]
        found["storage_url"] = f"{parts.scheme[6:]}://{parts.netloc}/{version}/{account}"
    if "/" not in path.strip("/"):
        raise CallerError(f"not a Swift URL (swift://container/object): {url!r}")
    if not found["auth_url"] and not found["storage_url"]:
        raise CallerError(
            "Swift needs auth_url, user and key (ST_AUTH, ST_USER, ST_KEY), or storage_url and token"
        )
    return SwiftStore(quote(path), found, options)
