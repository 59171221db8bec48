"""Imports aiohttp without the machine's CA bundle, which its connector parses at import: 40 ms of every start.

No agent needs public CAs: it talks to the provider under the provider's CA, to the metadata endpoint without TLS, and
kubelets do not verify certificates of HTTPS probes. Without effect when aiohttp was imported before.
"""

from __future__ import annotations

import os

_VARIABLE = "SSL_CERT_FILE"
_before = os.environ.get(_VARIABLE)
os.environ[_VARIABLE] = os.devnull
try:
    import aiohttp.connector  # noqa: F401
finally:
    if _before is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = _before
