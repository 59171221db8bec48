"""Certificates of a control plane."""

import ssl
import stat
from pathlib import Path

from cryptography import x509

from tests.cluster.pki import Authority, service_account_key


def test_a_server_certificate_is_trusted_for_its_hosts_by_its_ca_alone(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path, "ca"), Authority(tmp_path, "other-ca")
    certificate, key = ca.issue_server("server", "server", ["localhost", "127.0.0.1"])
    assert _handshake(ca, (certificate, key), "localhost") is None
    assert _handshake(ca, (certificate, key), "127.0.0.1") is None
    assert "mismatch" in str(_handshake(ca, (certificate, key), "example.org"))
    assert "verify failed" in str(_handshake(other, (certificate, key), "localhost"))


def test_a_client_certificate_names_user_and_groups(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path, "ca").issue_client("c", "jane", ("devs", "ops"))
    subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject.rfc4514_string()
    assert sorted(subject.split(",")) == ["CN=jane", "O=devs", "O=ops"]


def test_what_was_issued_is_used_again_until_it_has_to_say_something_else(tmp_path: Path) -> None:
    first, _ = Authority(tmp_path, "ca").issue_server("server", "server", ["10.0.0.1"])
    content = first.read_bytes()
    Authority(tmp_path, "ca").issue_server("server", "server", ["10.0.0.1"])
    assert first.read_bytes() == content
    Authority(tmp_path, "ca").issue_server("server", "server", ["10.0.0.2"])
    assert first.read_bytes() != content


def test_private_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    _, key = Authority(tmp_path, "ca").issue_client("c", "jane")
    _, signing = service_account_key(tmp_path)
    for path in (key, signing, tmp_path / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _handshake(trusted: Authority, pair: tuple[Path, Path], host: str) -> Exception | None:
    """A TLS handshake in memory; the client's error, or None."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*pair)
    trusting = ssl.create_default_context(cafile=str(trusted.certificate_path))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname=host)
    server = serving.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error
    return None
