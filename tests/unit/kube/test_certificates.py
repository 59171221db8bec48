"""Requests and rotation of serving certificates; trust bundles; pod certificate keys."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.kube.certificates import (
    KeyPair,
    build_serving_request,
    compute_rotation_at,
    generate_key_pem,
)
from vk_provider.kube.csr import FileCertificate, read_issued
from vk_provider.kube.podcertificates import build_stub_request, generate_key
from vk_provider.kube.trustbundles import merge_trust_anchors, split_certificates
from vk_provider.podmodel.labels import matches_selector

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def issue(request_pem: bytes, days: int = 10) -> bytes:
    request = x509.load_pem_x509_csr(request_pem)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateBuilder(
        issuer_name=request.subject,
        subject_name=request.subject,
        public_key=request.public_key(),
        serial_number=1,
        not_valid_before=BEGIN,
        not_valid_after=BEGIN + datetime.timedelta(days=days),
    ).add_extension(names, critical=False)
    certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_the_request_is_what_the_signer_demands() -> None:
    request = x509.load_pem_x509_csr(build_serving_request(generate_key_pem(), "n1", ["n1", "10.0.0.1", "n1"]))
    assert request.is_signature_valid
    subject = [(attribute.oid, attribute.value) for attribute in request.subject]
    assert subject == [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:n1")]
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]


def test_a_certificate_is_usable_only_with_its_key_names_and_time() -> None:
    key = generate_key_pem()
    pair = KeyPair(issue(build_serving_request(key, "n1", ["n1", "10.0.0.1"])), key)
    inside = BEGIN + datetime.timedelta(days=1)
    assert pair.is_usable(["n1", "10.0.0.1"], inside)
    assert not pair.is_usable(["n1", "10.0.0.2"], inside)
    assert not pair.is_usable(["n1"], BEGIN + datetime.timedelta(days=11))
    assert not KeyPair(pair.certificate, generate_key_pem()).is_usable(["n1"], inside)
    assert not KeyPair(b"nothing", key).is_usable([], inside)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    assert not KeyPair(pair.certificate, locked).is_usable(["n1"], inside)


def test_an_address_may_be_written_in_several_ways() -> None:
    key = generate_key_pem()
    pair = KeyPair(issue(build_serving_request(key, "n1", ["n1", "FD00:0::1"])), key)
    assert pair.is_usable(["n1", "FD00:0::1"], BEGIN + datetime.timedelta(days=1))
    assert not pair.is_usable(["fd00::2"], BEGIN + datetime.timedelta(days=1))


def write_current_pair(directory: Path) -> tuple[Path, Path]:
    """Files of a pair that is valid now."""
    key = generate_key_pem()
    days = (datetime.datetime.now(datetime.UTC) - BEGIN).days + 10
    certificate_path, key_path = directory / "tls.crt", directory / "tls.key"
    certificate_path.write_bytes(issue(build_serving_request(key, "n1", ["n1"]), days))
    key_path.write_bytes(key)
    return certificate_path, key_path


def test_files_that_the_server_cannot_load_leave_the_old_pair_in_force(tmp_path: Path) -> None:
    refusals: list[Exception] = [ssl.SSLError("key values mismatch")]

    def use(_certificate: bytes, _key: bytes) -> None:
        if refusals:
            raise refusals.pop()

    files = FileCertificate(*write_current_pair(tmp_path), use)
    with pytest.raises(BadStartError, match="cannot be used"):
        files.load()
    assert files.current is None
    files.load()
    assert files.current is not None


def test_a_pair_that_does_not_match_is_one_clear_line(tmp_path: Path) -> None:
    paths = write_current_pair(tmp_path)
    paths[1].write_bytes(generate_key_pem())
    with pytest.raises(BadStartError, match="not that of its key"):
        FileCertificate(*paths, lambda *_: None).load()


def test_rotation_is_planned_within_the_certificates_life() -> None:
    key = generate_key_pem()
    leaf = KeyPair(issue(build_serving_request(key, "n1", ["n1"]), days=10), key).leaf
    assert compute_rotation_at(leaf, 0.8) == BEGIN.timestamp() + 8 * 86400


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
def test_a_refused_request_is_an_error(kind: str) -> None:
    request = {"metadata": {"name": "c"}, "status": {"conditions": [{"type": kind, "message": "no"}]}}
    with pytest.raises(KubeApiError, match="no"):
        read_issued("MODIFIED", request)


def test_an_approved_request_is_undecided_until_the_certificate_is_there() -> None:
    request = {"metadata": {"name": "c"}, "status": {"conditions": [{"type": "Approved"}]}}
    assert read_issued("MODIFIED", request) == b""
    request["status"]["certificate"] = "UEVN"
    assert read_issued("MODIFIED", request) == b"PEM"


@pytest.mark.parametrize("key_type", ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"])
def test_the_stub_request_is_empty_and_proves_the_key(key_type: str) -> None:
    request = x509.load_der_x509_csr(build_stub_request(generate_key(key_type)))
    assert request.is_signature_valid
    assert list(request.subject) == []


def test_an_unknown_key_type_is_refused() -> None:
    with pytest.raises(KubeApiError, match="DSA"):
        generate_key("DSA")


def block(text: str, header: str = "") -> str:
    return f"-----BEGIN CERTIFICATE-----\n{header}{text}\n-----END CERTIFICATE-----\n"


def test_trust_anchors_are_merged_once_each_without_headers_and_comments() -> None:
    merged = merge_trust_anchors(["# one\n" + block("YmJi"), block("YWFh", "Note: x\n\n") + block("YmJi")])
    assert merged == block("YWFh") + block("YmJi")


def test_a_chain_keeps_its_order() -> None:
    assert split_certificates(block("YmJi") + "text\n" + block("YWFh")) == [block("YmJi"), block("YWFh")]


MALFORMED = [
    block("YmJi!"),
    block("YmJ"),
    block("é"),
    "-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nYmJi\n",
    "-----BEGIN CERTIFICATE-----\nYmJi\n",
]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_block_is_skipped_as_go_does(malformed: str) -> None:
    assert split_certificates(malformed + block("YWFh")) == [block("YWFh")]
    assert merge_trust_anchors([malformed, malformed + block("YWFh")]) == block("YWFh")


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_label_selectors_match_as_the_api_says(selector: dict[str, object] | None, matches: bool) -> None:
    assert matches_selector(selector, {"a": "1"}) is matches
