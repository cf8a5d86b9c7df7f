"""Uploads to S3: one PutObject, or a multipart upload.

Every body goes with its Content-MD5 in a signed header, so that a spoilt one is refused (BadDigest) and needs
no second hash for the signature. Not every S3 looks at it (moto does not): the machine also compares the ETag
of each part with the MD5 of what was sent, and the ETag of the object with the MD5 of those.

Where the store keeps a CRC-32, that of each part goes with it, and that of the whole with the commit: the
ETag of a multipart object is no digest of its content, and this is, for whoever downloads it. A store says so
by naming the algorithm in its answer to CreateMultipartUpload (MinIO, versitygw and moto do, Swift's s3api
does not). One that refuses the field is asked again without it, and never with it after that.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reknit._checksums import crc32_of, offered
from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._upload_events import Piece, Shape, Stored, Told
from reknit.stores._lines import Got, Lines
from reknit.stores._uploader import Body, Small, UploaderBase
from reknit.stores.s3 import S3Store, meaning, text

# botocore's words on a body that it does not have.
_OURS = frozenset({"content-length", "expect", "transfer-encoding"})

# The second is MinIO's, of a CRC-32.
_SPOILT = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
# Answers to a header that is not known.
_REFUSED = frozenset({400, 501})
_FULL = {"ChecksumType": "FULL_OBJECT"}

# An error is the root of its document.
_HEAD = 512

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_LEAST, _MOST, _COUNT = 5 << 20, 5 << 30, 10_000


def combined(parts: Sequence[Stored]) -> str:
    """The ETag of an object made of these parts: the MD5 of their MD5s, and how many they are."""
    try:
        together = b"".join(bytes.fromhex(part.tag.strip('"')) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(together, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _bytes(text: str) -> int:
    """The setting least_part: what a store takes that is no Amazon's. Raises CallerError."""
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text):
        raise CallerError(f"S3 settings: least_part is a number of bytes, not {text!r}")
    return int(text)


class S3Uploader(UploaderBase):
    """One object."""

    shape = Shape(
        "parts",
        S3Store.dialect,
        hashed=True,
        summed=True,
        least=_LEAST,
        most=_MOST,
        count=_COUNT,
        combined=combined,
    )

    def __init__(self, store: S3Store, options: Options) -> None:
        self._store, self._lines = store, Lines(options)
        self.identity = store.identity
        self._sums = True  # whether it has refused none so far
        self._summed: set[str] = set()  # the sessions that keep them
        if least := options.store.get("least_part"):
            self.shape = replace(self.shape, least=_bytes(least))

    def put(self, body: Body) -> Told:
        """PutObject."""
        params = {"ContentMD5": _base64(body.md5)}
        return _told(self._with_sum("PutObject", params, {"ChecksumCRC32": _crc32(body.crc32)}, body))

    def begin(self, size: int) -> Told:
        """CreateMultipartUpload."""
        got = self._with_sum("CreateMultipartUpload", {}, {"ChecksumAlgorithm": "CRC32", **_FULL})
        session = _one("UploadId", got)
        if _keeps(
            got.headers.get("x-amz-checksum-algorithm", ""), got.headers.get("x-amz-checksum-type", "")
        ):
            self._summed.add(session)
        if got.status == 200 and not session:
            raise StoreFault("protocol", "protocol: CreateMultipartUpload was answered without an UploadId")
        return _told(got, session=session)

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """UploadPart."""
        params = {"UploadId": session, "PartNumber": piece.number, "ContentMD5": _base64(body.md5)}
        if session in self._summed:
            params["ChecksumCRC32"] = _crc32(body.crc32)
        return _told(self._ask("UploadPart", params, body))

    def look(self, session: str, after: str, last: int) -> Told:
        """ListParts, a thousand a page."""
        params = {"UploadId": session, **({"PartNumberMarker": int(after)} if after else {})}
        got = self._ask("ListParts", params)
        if _keeps(_one("ChecksumAlgorithm", got), _one("ChecksumType", got)):
            self._summed.add(session)
        more = _one("NextPartNumberMarker", got) if _one("IsTruncated", got) == "true" else ""
        try:
            parts = tuple(
                Stored(int(_find("PartNumber", part)), int(_find("Size", part)), _find("ETag", part))
                for part in re.findall(r"<Part>(.*?)</Part>", _text(got), re.DOTALL)
            )
            return _told(got, parts=parts, more=str(int(more)) if more else "")
        except ValueError:
            raise StoreFault("protocol", "protocol: the list of parts does not read") from None

    def commit(self, session: str, parts: Sequence[Stored]) -> Told:
        """CompleteMultipartUpload. It may answer 200 and then say in the body that it failed."""
        listed = [{"PartNumber": part.number, "ETag": part.tag} for part in parts]
        params: dict[str, Any] = {"UploadId": session, "MultipartUpload": {"Parts": listed}}
        whole = crc32_of((part.crc32, part.size) for part in parts)
        if session in self._summed and whole is not None:
            for named, part in zip(listed, parts, strict=True):
                named["ChecksumCRC32"] = _crc32(part.crc32)
            params |= {"ChecksumCRC32": _crc32(whole), **_FULL}
        got = self._ask("CompleteMultipartUpload", params)
        made = {"etag": _one("ETag", got), "x-amz-checksum-crc32": _one("ChecksumCRC32", got)}
        told = _told(got, headers={**got.headers, **{name: value for name, value in made.items() if value}})
        if told.done and "CompleteMultipartUploadResult>" not in _text(got):
            raise StoreFault("protocol", "protocol: CompleteMultipartUpload was answered without its result")
        return told

    def abort(self, session: str, after: str, last: int) -> Told:
        """AbortMultipartUpload."""
        return _told(self._ask("AbortMultipartUpload", {"UploadId": session}))

    def stat(self) -> Told:
        """HeadObject."""
        return _told(self._ask("HeadObject", {}))

    def renew(self) -> bool:
        """Ask the caller for new settings."""
        return self._store.renew()

    def close(self) -> None:
        """See Uploader.close."""
        self._lines.close()

    def _with_sum(
        self, operation: str, params: dict[str, Any], sums: dict[str, Any], body: Body | None = None
    ) -> Got:
        if not self._sums:
            return self._ask(operation, params, body)
        got = self._ask(operation, {**params, **sums}, body)
        told = _told(got)
        if told.status not in _REFUSED or told.spoilt:
            return got
        self._sums = False
        return self._ask(operation, params, body)

    def _ask(self, operation: str, params: dict[str, Any], body: Body | None = None) -> Got:
        got = self._send(operation, params, body)
        return self._send(operation, params, body) if self._store.moved(got.status, got.headers) else got

    def _send(self, operation: str, params: dict[str, Any], body: Body | None) -> Got:
        signed = self._store.sign(operation, {**params, **({"Body": b""} if body is not None else {})})
        headers = {name: text(value) for name, value in signed.headers.items() if name.lower() not in _OURS}
        if body is None and signed.body:
            body = Small(signed.body)
        return self._lines.ask(signed.method, signed.url, headers, None, body)


def _told(got: Got, **also: Any) -> Told:
    """In the machine's words, an error in the body of a 200 too."""
    status, code, reason = got.status, "", ""
    if status >= 300 or "<Error>" in _text(got)[:_HEAD]:
        status, code, reason = meaning(got.status, got.content)
        status = status if status >= 300 else 500  # whatever it is, it has not been done
    headers = {**also.pop("headers", got.headers), **({"x-reknit-reason": reason} if reason else {})}
    gone, spoilt = code == "NoSuchUpload", code in _SPOILT
    return got.told(
        status=status, headers=headers, gone=gone, spoilt=spoilt, crc32=_crc32_in(headers), **also
    )


def _one(name: str, got: Got) -> str:
    return _find(name, _text(got)) if got.status == 200 else ""


def _find(name: str, xml: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", xml)
    return html.unescape(found[1]) if found else ""


def _text(got: Got) -> str:
    return got.content.decode(errors="replace")


def _keeps(algorithm: str, kind: str) -> bool:
    """Whether an upload is one whose parts and whole have to come with a CRC-32."""
    return (algorithm, kind) == ("CRC32", "FULL_OBJECT")


def _crc32(value: int | None) -> str:
    assert value is not None, "the shape is summed"
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _crc32_in(headers: Mapping[str, str]) -> int | None:
    found = offered(headers, etag_is_md5=False)
    return next((int(one.value, 16) for one in found if one.algorithm == "crc32"), None)


def _base64(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode()
