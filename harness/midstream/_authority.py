"""A throwaway certificate authority: for one run, trusted by nobody who is not told of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from midstream._errors import SetupError


@dataclass(frozen=True)
class Authority:
    """`context` is for the injector's side; `bundle` is the file a driver has to trust."""

    context: ssl.SSLContext
    bundle: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Issue a certificate for 127.0.0.1 and localhost; raises SetupError without trustme."""
        try:
            import trustme
        except ImportError:
            raise SetupError("TLS scenarios need the package trustme; pip install 'midstream[tls]'") from None
        authority = trustme.CA()
        bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # TLS 1.3 sends session tickets after the handshake: bytes that nobody named.
        context.num_tickets = 0
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        return cls(context, bundle)

    @property
    def env(self) -> dict[str, str]:
        """The names under which usual clients look for a bundle."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")
        return dict.fromkeys(names, str(self.bundle))
