"""What requests ask of a store, in words that are the same for every protocol."""

from __future__ import annotations

from collections.abc import Mapping

# Kinds of stores: the protocol that drivers speak.
HTTP_KINDS = ("http", "s3", "swift")
KINDS = (*HTTP_KINDS, "gridfs", "rbd")

SENDS = frozenset({"put_object", "upload_part", "append_upload", "put_segment"})
PUBLISHES = frozenset({"put_object", "complete_upload", "put_manifest"})
# After these an object may be there that was not: a resumable upload is one with its last byte.
APPEARS = PUBLISHES | {"append_upload", "create_upload"}

OPERATIONS = {
    "get_object": "read an object or a range of it",
    "head_object": "ask for an object's size and validators",
    "list_objects": "list a bucket or container",
    "authenticate": "get a token",
    "put_object": "store a whole object in one request",
    "create_upload": "begin a multipart or resumable upload",
    "upload_part": "send one part of a multipart upload",
    "append_upload": "send bytes of a resumable upload",
    "upload_offset": "ask how much of a resumable upload is there",
    "complete_upload": "make an object of the parts",
    "abort_upload": "give an upload up, with what is there of it",
    "list_parts": "list the parts of an upload",
    "list_uploads": "list the uploads that are not complete",
    "put_segment": "store a segment of a large object",
    "put_manifest": "make a large object of its segments",
    "delete_object": "delete an object or a segment",
    "other": "anything else",
    "send_object": "any of those that carry the object's bytes to the store",
    "publish_object": "any of those that make an object appear under its name in one step",
}
# Names for several operations, for scenarios that hold whatever way a driver sends an object.
GROUPS = {"send_object": SENDS, "publish_object": PUBLISHES}

# The methods of RFC 9110 section 9.3 first, then what others have registered (RFC 7237, RFC 5789, QUERY), and
# what caches take: a rule for a method that is none of them is a slip.
METHODS = tuple(
    """
    GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH COPY MOVE MKCOL PROPFIND PROPPATCH LOCK UNLOCK ACL
    BASELINE-CONTROL BIND CHECKIN CHECKOUT LABEL LINK MERGE MKACTIVITY MKCALENDAR MKREDIRECTREF MKWORKSPACE
    ORDERPATCH QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
    PURGE
    """.split()  # noqa: SIM905 - as a list it would be a page long
)

_PLAIN = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}


def http_operation(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Operations of plain HTTP, where nothing is known of the store behind."""
    if method == "PATCH":
        return "append_upload"
    return _PLAIN.get(method, "other")
