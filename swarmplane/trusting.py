"""Whom this machine trusts to say who a server on the internet is."""

from __future__ import annotations

import ssl
from pathlib import Path


def trust(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context of the machine's own authorities, and of those in ``ca_file``. It blocks, for tens of ms.

    Raises:
        OSError: ``ca_file`` can't be read, or holds no certificates.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        # Python 3.13 began to refuse certificates for their form, such as one without its authority's key
        # identifier. Those of inspecting proxies and of homes often have none; who names a file trusts it.
        # It is the form alone, of all authorities of this context; names, times and signatures still count.
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return context
