"""The metadata service: 169.254.169.254:80 as instances see it, after EC2's IMDSv2 (session tokens only).

One small process per cloud, in the bridge's namespace; it knows instances by their source address and reads the state
directory, so it needs nothing of the provider and outlives it. Answers are sent with TTL 1: like EC2's hop limit of 1,
they reach the instance but no pod behind it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path

from vk_provider.cloud.local.boot import hostname_of, mac_address
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.network import METADATA_IP
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.cloud.local.store import InstanceRecord, InstanceStore

MAX_TTL_S = 21600
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
}
_IDLE_S = 30.0
_MAX_HEAD = 16384


class TokenIssuer:
    """Session tokens without memory: expiry and source address under an HMAC. They end with this process."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, source: str, ttl_s: int, now: float) -> str:
        expiry = f"{int(now) + ttl_s}"
        return f"{expiry}.{self._sign(source, expiry)}"

    def is_valid(self, token: str, source: str, now: float) -> bool:
        expiry, _, signature = token.partition(".")
        return hmac.compare_digest(signature.encode(), self._sign(source, expiry).encode()) and int(expiry) > now

    def _sign(self, source: str, expiry: str) -> str:
        return hmac.new(self._key, f"{source} {expiry}".encode(), hashlib.sha256).hexdigest()


def read_metadata(path: str, record: InstanceRecord, user_data: str, subnet: str) -> str | None:
    """The document at a path below /latest/, None when there is none."""
    own = record.addresses
    mac = mac_address(own.primary_ip)
    interface = f"meta-data/network/interfaces/macs/{mac}"
    documents = {
        "user-data": user_data,
        "meta-data/instance-id": record.instance_id,
        "meta-data/instance-type": record.instance_type,
        "meta-data/local-ipv4": own.primary_ip,
        "meta-data/local-hostname": hostname_of(own.primary_ip),
        "meta-data/hostname": hostname_of(own.primary_ip),
        "meta-data/mac": mac,
        "meta-data/instance-life-cycle": record.capacity_type,
        "meta-data/placement/availability-zone": record.zone,
        "meta-data/network/interfaces/macs/": f"{mac}/",
        f"{interface}/mac": mac,
        f"{interface}/device-number": "0",
        f"{interface}/local-ipv4s": f"{own.primary_ip}\n{own.pod_ip}",
        f"{interface}/subnet-ipv4-cidr-block": subnet,
    }
    if own.primary_ipv6:
        documents |= {
            "meta-data/ipv6": own.primary_ipv6,
            f"{interface}/ipv6s": f"{own.primary_ipv6}\n{own.pod_ipv6}",
            f"{interface}/subnet-ipv6-cidr-blocks": own.ipv6_subnet,
        }
    return documents.get(path)


class MetadataServer:
    """Answers requests of instances: a minimal HTTP/1.1 server, small rather than fast."""

    def __init__(self, config: LocalCloudConfig) -> None:
        self._config = config
        self._store = InstanceStore(config)
        self._tokens = TokenIssuer(secrets.token_bytes(32))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        source = str(writer.get_extra_info("peername")[0])
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, body = self.answer(head, source, time.time())
                data = body.encode()
                writer.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\n"
                    f"Content-Length: {len(data)}\r\n\r\n".encode()
                    + data
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            pass  # the client has disconnected, or is no HTTP client
        finally:
            writer.close()

    def answer(self, head: str, source: str, now: float) -> tuple[int, str]:
        """One request: status and body. `head` is the request up to the empty line."""
        lines = head.split("\r\n")
        try:
            method, target, _ = lines[0].split(" ")
        except ValueError:
            return 400, ""
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if "x-forwarded-for" in headers:
            return 403, ""
        path = target.partition("?")[0]
        if method == "PUT" and path == "/latest/api/token":
            ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not (ttl.isascii() and ttl.isdigit()) or not 1 <= int(ttl) <= MAX_TTL_S:
                return 400, ""
            return 200, self._tokens.issue(source, int(ttl), now)
        if method != "GET":
            return 405, ""
        token = headers.get("x-aws-ec2-metadata-token", "")
        if not token[:1].isdigit() or not self._tokens.is_valid(token, source, now):
            return 401, ""
        record = self._find(source)
        if record is None or not path.startswith("/latest/"):
            return 404, ""
        document = read_metadata(
            path.removeprefix("/latest/"), record, self._read_user_data(record.instance_id), self._config.subnet
        )
        return (404, "") if document is None else (200, document)

    def _find(self, source: str) -> InstanceRecord | None:
        address = ipaddress.IPv4Address(source)
        for candidate in (address, address - 1):  # an instance may ask from its second address
            try:
                instance_id = (self._config.addresses_dir / str(candidate)).read_text()
            except FileNotFoundError:
                continue
            record = self._store.load(instance_id)
            if record is not None and source in (record.addresses.primary_ip, record.addresses.pod_ip):
                return record
        return None

    def _read_user_data(self, instance_id: str) -> str:
        try:
            return (self._store.directory(instance_id) / "user-data").read_text()
        except FileNotFoundError:
            return ""


def code_version() -> str:
    """Changes when this file does: a running server of other code is replaced."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


async def _serve(config: LocalCloudConfig) -> None:
    server = MetadataServer(config)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listener = await asyncio.start_server(server.handle, METADATA_IP, 80, limit=_MAX_HEAD, reuse_address=True)
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    (config.root / "metadata.version").write_text(code_version())
    identity.write(config.root / "metadata.pid")
    async with listener:
        await stop.wait()


def main(argv: list[str]) -> int:
    """`NAME SUBNET STATE_DIR`, started within the bridge's network namespace."""
    name, subnet, state_dir = argv
    asyncio.run(_serve(LocalCloudConfig(name=name, subnet=subnet, state_dir=state_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
