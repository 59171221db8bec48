"""Which serving certificate requests are approved."""

import base64
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.approval import SIGNER, Policy, find_objection, is_pending

KEY = ec.generate_private_key(ec.SECP256R1())
POLICY = Policy(nodes=("vk-*",), networks=("10.201.0.0/16",))
OURS = (x509.DNSName("vk-a"), x509.IPAddress(ipaddress.ip_address("10.201.0.1")))


def make_request(
    node: str = "vk-a", organization: str = "system:nodes", names: tuple[x509.GeneralName, ...] = OURS, **spec: Any
) -> dict[str, Any]:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    standard = {
        "signerName": SIGNER,
        "username": f"system:node:{node}",
        "usages": ["digital signature", "server auth"],
        "request": base64.b64encode(pem).decode(),
    }
    return {"spec": {**standard, **spec}}


def test_a_node_of_ours_that_asks_for_itself_is_approved() -> None:
    assert find_objection(make_request(), POLICY) is None


def test_any_address_is_approved_when_no_network_is_set() -> None:
    elsewhere = make_request(names=(x509.IPAddress(ipaddress.ip_address("192.0.2.1")),))
    assert find_objection(elsewhere, Policy(("vk-a",))) is None


def test_a_named_requestor_may_ask_for_every_node_of_ours() -> None:
    request = make_request(username="system:serviceaccount:vk:provider")
    assert "may not ask" in str(find_objection(request, POLICY))
    trusting = Policy(("vk-*",), requestors=("system:serviceaccount:vk:provider",))
    assert find_objection(request, trusting) is None


@pytest.mark.parametrize(
    ("request_", "objection"),
    [
        (make_request(signerName="kubernetes.io/kube-apiserver-client"), "is not kubernetes.io/kubelet-serving"),
        (make_request(usages=["digital signature", "client auth"]), "usages"),
        (make_request(usages=["server auth", "client auth"]), "usages"),
        (make_request(usages=[]), "usages"),
        (make_request(request="not base64!"), "cannot be read"),
        (make_request(request=base64.b64encode(b"no PEM").decode()), "cannot be read"),
        (make_request(organization="system:masters"), "not that of a node"),
        (make_request(node="other"), "not one of ours"),
        (make_request(username="system:node:vk-b"), "may not ask"),
        (make_request(names=()), "no host"),
        (make_request(names=(x509.IPAddress(ipaddress.ip_address("8.8.8.8")),)), "outside"),
        (make_request(names=(*OURS, x509.UniformResourceIdentifier("spiffe://x"))), "neither host nor address"),
    ],
)
def test_everything_else_is_left_pending_with_a_reason(request_: dict[str, Any], objection: str) -> None:
    assert objection in str(find_objection(request_, POLICY))


def test_a_request_is_pending_until_it_is_decided() -> None:
    assert is_pending({"spec": {}})
    assert is_pending({"status": {}})
    assert not is_pending({"status": {"conditions": [{"type": "Denied"}]}})
    assert not is_pending({"status": {"certificate": "x"}})
