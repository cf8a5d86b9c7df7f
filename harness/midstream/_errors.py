"""What can go wrong, by whose fault it is.

An error of ours is never reported as an error of a driver: everything that is raised, and not returned as a
verdict, is one of these, and each knows the exit status it ends the command with.
"""

from __future__ import annotations


class MidstreamError(Exception):
    """Base of every error raised on purpose; the message is one line a user can act on."""

    exit_status = 3


class UsageError(MidstreamError):
    """The caller asked for something that does not exist or does not fit: names the flag, file or key."""

    exit_status = 2


class SetupError(MidstreamError):
    """The environment lacks something (a package, a port); the message says what to install or do."""

    exit_status = 2


class HarnessError(MidstreamError):
    """The harness could not do what it promised; never a finding about a driver."""

    exit_status = 3


class StoreDied(HarnessError):
    """A store that had started stopped answering."""
