"""A small image gateway: HTTP in front of one prefix of a store, with every drop behind it healed inside.

What a response has promised (length, entity tag) is kept or its connection is reset: a body is never short
and clean (RFC 9112 §8). The store's drops are the transfer's business and do not show downstream.
"""

from reknit.gateway._server import Gateway, address, until_told

__all__ = ["Gateway", "address", "until_told"]
