"""Which kubelet-serving certificate requests are ours to approve. Pure."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

SIGNER = "kubernetes.io/kubelet-serving"
NODE_PREFIX = "system:node:"
USAGES = {"digital signature", "key encipherment", "server auth"}


@dataclass(frozen=True, slots=True)
class Policy:
    """`nodes`: names or patterns (shell style). `networks`: CIDRs of permitted address SANs, none: any address.
    `requestors`: users that may ask for every such node; a node may always ask for itself."""

    nodes: tuple[str, ...]
    networks: tuple[str, ...] = ()
    requestors: tuple[str, ...] = ()


def is_pending(request: Mapping[str, Any]) -> bool:
    """Whether nobody has decided on the CertificateSigningRequest yet."""
    return not request.get("status", {}).get("conditions") and not request.get("status", {}).get("certificate")


def find_objection(request: Mapping[str, Any], policy: Policy) -> str | None:
    """Why the CertificateSigningRequest (JSON of certificates.k8s.io/v1) is not approved; None when it is."""
    spec = request["spec"]
    if spec["signerName"] != SIGNER:
        return f"signer {spec['signerName']} is not {SIGNER}"
    usages = set(spec.get("usages", ()))
    if "server auth" not in usages or not usages <= USAGES:
        return f"usages {sorted(usages)} are not those of a serving certificate"
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"], validate=True))
    except (binascii.Error, ValueError):
        return "the request cannot be read"
    return _object_to_subject(asked, spec.get("username", ""), policy) or _object_to_names(asked, policy)


def _object_to_subject(asked: x509.CertificateSigningRequest, username: str, policy: Policy) -> str | None:
    organizations = [attribute.value for attribute in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    names = [str(attribute.value) for attribute in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if organizations != ["system:nodes"] or len(names) != 1 or not names[0].startswith(NODE_PREFIX):
        return f"subject {asked.subject.rfc4514_string()} is not that of a node"
    node = names[0].removeprefix(NODE_PREFIX)
    if not any(fnmatch.fnmatchcase(node, pattern) for pattern in policy.nodes):
        return f"node {node} is not one of ours"
    if username != names[0] and username not in policy.requestors:
        return f"{username} may not ask for node {node}"
    return None


def _object_to_names(asked: x509.CertificateSigningRequest, policy: Policy) -> str | None:
    try:
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "it names no host"
    for name in names:
        if isinstance(name, x509.IPAddress):
            if policy.networks and not any(name.value in ipaddress.ip_network(cidr) for cidr in policy.networks):
                return f"address {name.value} is outside {', '.join(policy.networks)}"
        elif not isinstance(name, x509.DNSName):
            return f"alternative name {name.value} is neither host nor address"
    return None
