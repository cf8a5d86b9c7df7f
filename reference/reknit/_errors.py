"""What can go wrong, named by whose fault it is."""

from __future__ import annotations


class ReknitError(Exception):
    """The base of every error this package raises on purpose."""


class Exhausted(ReknitError):
    """The store or the network kept failing until the attempts ran out; trying later may well work.

    `cause` is the last failure, as raised by the store's library, or None when an answer was at fault.
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Changed(ReknitError):
    """The object was replaced during the transfer and what was delivered cannot be taken back."""


class Unranged(ReknitError):
    """The server does not answer ranges of one version as ranges. It never leaves this package."""


class Integrity(ReknitError):
    """All bytes arrived, but they are not proved to be the object: a digest or the length disagrees."""


class Refused(ReknitError):
    """The store gave a final answer (RFC 9110 §15.5): asking again cannot help. `status` is HTTP's."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class CallerError(ReknitError, ValueError):
    """The call itself is at fault: a bad URL, a missing setting, a library that is not installed."""


class SinkError(ReknitError):
    """The local side failed: disk full, destination not writable. The store is not to blame.

    `cause` is the OSError behind it.
    """

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class SourceError(ReknitError):
    """What was to be uploaded could not be read, or changed meanwhile: nothing of it was published.

    `cause` is the error behind it, if there is one.
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class StoreFault(Exception):
    """A request or a body broke on the wire. Stores raise it; the machine decides what follows.

    `kind` is one of reset, short, timeout, connect, protocol, tls, changed.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
