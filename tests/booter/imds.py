"""What the Instance Metadata Service, version 2, answers. Pure: a request in, an answer out.

After "Instance metadata categories", "Use the Instance Metadata Service" and "Spot Instance interruption notices" of
the EC2 user guide: sessions begin with a PUT, a token belongs to one instance and ends by its time to live, requests
that came through a proxy are refused (403), what does not exist is 404, a token that is missing or not valid is 401.
There is no iam/ here (no instance has a role), no public key, and no signature of the identity document.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.booter.machine import Machine

TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"
MAX_TTL_S = 21600
_VERSION = re.compile(r"latest|1\.0|20\d\d-\d\d-\d\d")
_NOT_FOUND = (
    '<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
    '\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n<html xmlns="http://www.w3.org/1999/xhtml" '
    'xml:lang="en" lang="en">\n <head>\n  <title>404 - Not Found</title>\n </head>\n <body>\n'
    "  <h1>404 - Not Found</h1>\n </body>\n</html>\n"
)


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """The cloud will act on a spot instance at that time. action: terminate, stop or hibernate."""

    action: str
    at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Guest:
    """An instance as its metadata shows it. mac: of the interface that it really has; rebalance: when the
    recommendation was given."""

    machine: Machine
    user_data: bytes
    mac: str
    spot_notice: SpotNotice | None = None
    rebalance: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request; names of headers are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """hop_limit: TTL of the packets of this answer, 0 for the usual one: only the token is kept close."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hop_limit: int = 0


class Tokens:
    """Session tokens without memory: what they are good for stands in them, under an HMAC."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, instance_id: str, ttl_s: int, now: float) -> str:
        expiry = f"{int(now) + ttl_s}"
        return f"{expiry}.{self._sign(instance_id, expiry)}"

    def is_valid(self, token: str, instance_id: str, now: float) -> bool:
        expiry, _, signature = token.partition(".")
        known = hmac.compare_digest(signature.encode(), self._sign(instance_id, expiry).encode())
        return known and int(expiry) > now

    def _sign(self, instance_id: str, expiry: str) -> str:
        return hmac.new(self._key, f"{instance_id} {expiry}".encode(), hashlib.sha256).hexdigest()


def answer(request: Request, guest: Guest | None, tokens: Tokens, now: float) -> Answer:
    """The answer to one request. guest: who asks, by its address; now: Unix seconds."""
    if guest is None or not guest.machine.metadata.endpoint_enabled:
        return Answer(403)
    options, instance_id = guest.machine.metadata, guest.machine.instance_id
    path = request.path.partition("?")[0]
    if "x-forwarded-for" in request.headers:
        return Answer(403)
    if request.method == "PUT":
        if path != "/latest/api/token":
            return Answer(405)
        ttl = request.headers.get(TTL_HEADER, "")
        if not (ttl.isascii() and ttl.isdigit()) or not 1 <= int(ttl) <= MAX_TTL_S:
            return Answer(400)
        token = tokens.issue(instance_id, int(ttl), now)
        return Answer(200, token.encode(), {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl}, options.hop_limit)
    if request.method not in ("GET", "HEAD"):
        return Answer(405)
    token = request.headers.get(TOKEN_HEADER)
    if token is None and options.tokens_required:
        return Answer(401)
    if token is not None and not tokens.is_valid(token, instance_id, now):
        return Answer(401)
    version, _, rest = path.removeprefix("/").partition("/")
    found = find_document(build_documents(guest), rest) if _VERSION.fullmatch(version) else None
    if found is None:
        return Answer(404, _NOT_FOUND.encode(), {"Content-Type": "text/html"})
    return Answer(200, b"" if request.method == "HEAD" else found)


def find_document(documents: Mapping[str, bytes], path: str) -> bytes | None:
    """The document at a path, or the list of what lies below it, directories with a slash."""
    name = path.rstrip("/")
    if name in documents and not path.endswith("/"):
        return documents[name]
    prefix = f"{name}/" if name else ""
    entries = {
        first + ("/" if slash else "")
        for key in documents
        if key.startswith(prefix)
        for first, slash, _ in [key.removeprefix(prefix).partition("/")]
    }
    return "\n".join(sorted(entries)).encode() if entries else None


def build_documents(guest: Guest) -> dict[str, bytes]:
    """All documents below /latest/, by path."""
    machine = guest.machine
    hostname = f"ip-{machine.primary_ip.replace('.', '-')}.{_domain(machine.region)}"
    texts = {
        "ami-id": machine.image_id,
        "ami-launch-index": "0",
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": machine.instance_id,
        "instance-life-cycle": "spot" if machine.spot else "on-demand",
        "instance-type": machine.instance_type,
        "local-hostname": hostname,
        "local-ipv4": machine.primary_ip,
        "mac": guest.mac,
        "placement/availability-zone": machine.zone,
        "placement/region": machine.region,
        "security-groups": "\n".join(machine.interface.group_names),
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "system": "nitro",
    }
    below = f"network/interfaces/macs/{guest.mac}"
    texts |= {f"{below}/{name}": text for name, text in _describe_interface(guest, hostname).items()}
    if machine.metadata.tags_enabled:
        texts |= {f"tags/instance/{key}": value for key, value in machine.tags.items()}
    texts |= _describe_notices(guest)
    documents = {f"meta-data/{name}": text.encode() for name, text in texts.items()}
    documents["dynamic/instance-identity/document"] = build_identity(machine).encode()
    if guest.user_data:
        documents["user-data"] = guest.user_data
    return documents


def _describe_interface(guest: Guest, hostname: str) -> dict[str, str]:
    interface = guest.machine.interface
    texts = {
        "device-number": "0",
        "interface-id": interface.interface_id,
        "local-hostname": hostname,
        "local-ipv4s": "\n".join(interface.addresses),
        "mac": guest.mac,
        "owner-id": interface.owner_id or guest.machine.account,
        "security-group-ids": "\n".join(interface.group_ids),
        "security-groups": "\n".join(interface.group_names),
        "subnet-id": interface.subnet_id,
        "subnet-ipv4-cidr-block": interface.subnet_cidr,
        "vpc-id": interface.vpc_id,
        "vpc-ipv4-cidr-block": interface.vpc_cidr,
        "vpc-ipv4-cidr-blocks": interface.vpc_cidr,
    }
    if interface.prefixes:
        texts["ipv4-prefix"] = "\n".join(interface.prefixes)
    return texts


def _describe_notices(guest: Guest) -> dict[str, str]:
    texts = {}
    if guest.rebalance is not None:
        texts["events/recommendations/rebalance"] = json.dumps({"noticeTime": _format(guest.rebalance)})
    if guest.spot_notice is not None:
        at = _format(guest.spot_notice.at)
        texts["spot/instance-action"] = json.dumps({"action": guest.spot_notice.action, "time": at})
        if guest.spot_notice.action == "terminate":
            texts["spot/termination-time"] = at
    return texts


def build_identity(machine: Machine) -> str:
    """The instance identity document, unsigned."""
    launched = datetime.datetime.fromtimestamp(machine.launched, datetime.UTC)
    document = {
        "accountId": machine.account,
        "architecture": machine.architecture,
        "availabilityZone": machine.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": machine.image_id,
        "instanceId": machine.instance_id,
        "instanceType": machine.instance_type,
        "kernelId": None,
        "pendingTime": _format(launched),
        "privateIp": machine.primary_ip,
        "ramdiskId": None,
        "region": machine.region,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2)


def _domain(region: str) -> str:
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"


def _format(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
