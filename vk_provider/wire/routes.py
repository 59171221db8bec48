"""HTTP routes of the agent (server on the instance, mutual TLS, aiohttp).

Before the agent has a certificate signed by the provider's CA it presents a self-signed one and answers only the two
IDENTITY routes; in both states it demands a client certificate of the provider's CA.

SESSION   GET, WebSocket, one at a time (a newer one replaces an older one): JSON messages, see `session`.
LOGS      GET ?container=&previous=&follow=&tailLines=&sinceSeconds=&sinceTime=&timestamps=&limitBytes=
          body: log text as a kubelet sends it (chunked; headers before the first byte of log).
          raw=true&maxBytes=: the CRI log lines unchanged, the newest within maxBytes.
EXEC, ATTACH, PORT_FORWARD
          GET or POST with upgrade headers (SPDY/3.1 or WebSocket) and the kubelet's query parameters
          (container= added for exec and attach); the agent asks CRI for a streaming URL and forwards bytes
          unparsed. Errors before the upgrade: the status code and text body of the kubelet.
RUN       POST ?container=&cmd=  combined output.
STATS     GET the newest stats sample (the same document that is pushed up the session).
BLOBS     GET /<digest>  a blob of the content store, for other agents: with GRANT_HEADER and the certificate of the
          instance that the grant is for.
TABLES    GET ?address=  the tables in force and the connections to an address, see agent.proxy.explain.
HEALTHZ   GET 200 "ok".
METRICS   GET Prometheus text of the agent itself.
"""

from __future__ import annotations

IDENTITY_REQUEST = "/v1/identity"
"""POST {"nonce": hex} -> {"versions": [1], "instanceID": str, "csr": PEM, "hmac": hex}.

hmac = HMAC-SHA256(key=bytes.fromhex(boot_secret), msg=nonce + b"\\n" + instance id + b"\\n" + csr PEM)."""
IDENTITY_CERTIFICATE = "/v1/identity/certificate"
"""POST {"certificate": PEM chain} -> 204. The next connection presents it. Also used for renewal."""
SESSION = "/v1/session"
LOGS = "/v1/logs"
EXEC = "/v1/exec"
ATTACH = "/v1/attach"
PORT_FORWARD = "/v1/portForward"
RUN = "/v1/run"
STATS = "/v1/stats"
TABLES = "/v1/tables"
BLOBS = "/v1/blobs"
GRANT_HEADER = "Vk-Grant"
"""See wire.blobs.compute_grant."""
HEALTHZ = "/healthz"
METRICS = "/metrics"


def server_name(instance_id: str) -> str:
    """DNS SAN in the agent's certificate; the provider verifies it as the TLS server name."""
    return f"{instance_id}.instance.vk-provider.internal"


def instance_of(name: str) -> str:
    """The instance ID in a server_name."""
    return name.partition(".")[0]


PROVIDER_COMMON_NAME = "vk-provider"
"""Common name of the provider's client certificate."""
