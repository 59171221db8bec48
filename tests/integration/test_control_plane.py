"""The real control plane: it comes up, decides who may do what, verifies certificates and keeps its data."""

import asyncio
import base64
import http.server
import ipaddress
import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster import approver
from tests.cluster.__main__ import main
from tests.cluster.approval import SIGNER
from tests.cluster.components import COMPONENTS, KUBELET_CLIENT
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.fixtures import OWNER, PREFIX, remove_abandoned, running_control_plane
from tests.cluster.pki import Authority, write_key
from tests.cluster.rest import Refused, Rest

NODE, STRANGER = "vk-plane-a", "vk-plane-b"
CERTIFICATES = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@pytest.fixture
def node(control_plane: ControlPlane) -> Path:
    """Two Nodes; the kubeconfig of the first one."""
    for name in (NODE, STRANGER):
        manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        control_plane.rest.apply(f"/api/v1/nodes/{name}", manifest)
    return control_plane.kubeconfig_for(f"system:node:{NODE}", ["system:nodes"])


def test_it_runs_the_version_its_binaries_have_and_every_part_answers(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json").stdout)
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]
    assert version["serverVersion"]["gitVersion"] == control_plane.binaries.version
    assert [(name, healthy) for name, _, healthy in control_plane.status()] == [(name, True) for name in COMPONENTS]


def test_the_command_line_tells_what_runs_and_issues_kubeconfigs(
    control_plane: ControlPlane, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = ["--state", str(control_plane.state.root)]
    assert main(["status", *state]) == 0
    url, *rows = capsys.readouterr().out.splitlines()
    assert url == control_plane.url
    assert [(row.split()[0], row.split()[2]) for row in rows] == [(name, "ok") for name in COMPONENTS]
    assert main(["kubeconfig", *state, "--user", "jane", "--group", "devs"]) == 0
    jane = Path(capsys.readouterr().out.strip())
    who = json.loads(control_plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=jane).stdout)
    assert who["status"]["userInfo"]["username"] == "jane"
    assert "devs" in who["status"]["userInfo"]["groups"]
    assert main(["up", *state, "--address", "127.0.0.1", "--port", "0"]) == 0
    assert capsys.readouterr().out.strip() == str(control_plane.kubeconfig)
    assert main(["status", "--state", str(tmp_path)]) == 3
    assert "next:  python -m tests.cluster up" in capsys.readouterr().err


def test_bringing_it_up_twice_changes_nothing(control_plane: ControlPlane) -> None:
    before = control_plane.status()
    control_plane.up("127.0.0.1")
    assert control_plane.status() == before
    with pytest.raises(ClusterError, match="a control plane runs in"):
        control_plane.up("127.0.0.1", port=1)


def test_a_user_without_a_role_is_refused(control_plane: ControlPlane) -> None:
    nobody = control_plane.kubeconfig_for("nobody")
    refused = control_plane.kubectl("get", "pods", kubeconfig=nobody, check=False)
    assert 'User "nobody" cannot list resource "pods"' in refused.stderr


def test_a_service_account_token_is_accepted_as_that_account(control_plane: ControlPlane) -> None:
    kubeconfig = control_plane.service_account_kubeconfig("default", "default")
    who = control_plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig)
    assert json.loads(who.stdout)["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_a_node_reads_itself_and_no_secret_it_does_not_need(control_plane: ControlPlane, node: Path) -> None:
    control_plane.kubectl("get", "node", NODE, kubeconfig=node)
    control_plane.kubectl("create", "secret", "generic", "unreferenced", "--from-literal=a=b")
    for what in (("get", "node", STRANGER), ("get", "secret", "unreferenced"), ("get", "secrets")):
        assert "Forbidden" in control_plane.kubectl(*what, kubeconfig=node, check=False).stderr
    control_plane.kubectl("delete", "secret", "unreferenced")


def test_a_node_may_not_change_what_node_restriction_protects(control_plane: ControlPlane, node: Path) -> None:
    control_plane.kubectl("label", "node", NODE, "topology.kubernetes.io/zone=z", kubeconfig=node)
    protected = "node-restriction.kubernetes.io/x=y"
    refused = control_plane.kubectl("label", "node", NODE, protected, kubeconfig=node, check=False)
    assert "is not allowed to modify labels" in refused.stderr


def test_certificates_are_verified_both_ways(control_plane: ControlPlane, tmp_path: Path) -> None:
    foreign = Authority(tmp_path, "ca")
    with pytest.raises(ssl.SSLCertVerificationError):
        Rest(control_plane.url, foreign.certificate_path).get("/version")
    forged = foreign.issue_client("admin", "kubernetes-admin", ["system:masters"])
    with pytest.raises((Refused, ssl.SSLError), match=r"401|unknown"):
        Rest(control_plane.url, control_plane.ca, forged).get("/api/v1/nodes")


async def test_only_serving_certificates_of_our_nodes_are_approved_and_then_trusted(
    control_plane: ControlPlane, node: Path, tmp_path: Path
) -> None:
    approver.up(control_plane, approver.Policy((NODE,), ("127.0.0.0/8",)))
    try:
        stranger = control_plane.kubeconfig_for(f"system:node:{STRANGER}", ["system:nodes"])
        request_serving(control_plane, STRANGER, stranger, tmp_path)
        request_serving(control_plane, NODE, node, tmp_path)
        async with asyncio.timeout(20):
            certificate = await wait_for_certificate(control_plane, NODE)
        assert "conditions" not in control_plane.rest.get(f"{CERTIFICATES}/{STRANGER}")["status"]
    finally:
        approver.down(control_plane)
    (tmp_path / f"{NODE}.crt").write_bytes(certificate)
    pod = {
        "metadata": {"name": "scripted", "namespace": "default"},
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "c", "image": "none"}],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    control_plane.rest.apply("/api/v1/namespaces/default/pods/scripted", pod)
    foreign = Authority(tmp_path / "foreign", "ca").issue_server("kubelet", "kubelet", ["127.0.0.1"])
    with kubelet(control_plane, foreign):
        refused = await control_plane.kubectl_async("logs", "scripted", check=False)
        assert "certificate signed by unknown authority" in refused.stderr
    with kubelet(control_plane, (tmp_path / f"{NODE}.crt", tmp_path / f"{NODE}.key")) as callers:
        assert (await control_plane.kubectl_async("logs", "scripted")).stdout == "hello from a scripted kubelet\n"
        assert callers == [KUBELET_CLIENT]
    control_plane.kubectl("delete", "pod", "scripted", "--grace-period=0", "--force")


def test_a_stopped_api_server_comes_back_with_its_data(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    control_plane.stop("kube-apiserver")
    with pytest.raises(OSError, match="refused"):
        control_plane.rest.get("/version")
    control_plane.start("kube-apiserver")
    assert control_plane.rest.get("/api/v1/namespaces/default/configmaps/kept")["data"] == {"a": "b"}
    control_plane.kubectl("delete", "configmap", "kept")


def test_a_stopped_etcd_comes_back_with_its_data(control_plane: ControlPlane) -> None:
    before = control_plane.rest.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    control_plane.stop("etcd")
    assert not control_plane.rest.answers("/readyz")
    control_plane.start("etcd")
    assert control_plane.rest.get("/api/v1/namespaces/kube-system")["metadata"]["uid"] == before


def test_a_frozen_api_server_answers_nothing_until_it_is_thawed(control_plane: ControlPlane) -> None:
    control_plane.freeze("kube-apiserver")
    with pytest.raises(TimeoutError):
        control_plane.rest.request("GET", "/version", timeout_s=0.3)
    control_plane.thaw("kube-apiserver")
    assert control_plane.rest.get("/version")


def test_what_a_killed_test_run_left_is_stopped_and_removed() -> None:
    with running_control_plane("127.0.0.1") as plane:
        pids = [pid for _, pid, _ in plane.status()]
        root = plane.state.root
        (root / OWNER).write_text(json.dumps({"pid": os.getpid(), "started": 1}))
        remove_abandoned(root.parent)
        assert root.name.startswith(PREFIX)
        assert not root.exists()
        assert not any(is_running(pid) for pid in pids if pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def request_serving(plane: ControlPlane, node: str, kubeconfig: Path, directory: Path) -> None:
    """Ask for a serving certificate of `node` on 127.0.0.1; its key is left in `directory`."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(directory / f"{node}.key", key)
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")
    name = x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}")
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([organization, name]))
    pem = builder.add_extension(hosts, critical=False).sign(key, hashes.SHA256())
    encoded = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    manifest = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": node},
        "spec": {"signerName": SIGNER, "usages": ["digital signature", "server auth"], "request": encoded},
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest), kubeconfig=kubeconfig)


async def wait_for_certificate(plane: ControlPlane, name: str) -> bytes:
    watching = ("get", "csr", name, "-o", "json")
    await plane.kubectl_async("wait", "csr", name, "--for=jsonpath={.status.certificate}", "--timeout=15s")
    return base64.b64decode(json.loads((await plane.kubectl_async(*watching)).stdout)["status"]["certificate"])


@contextmanager
def kubelet(plane: ControlPlane, serving: tuple[Path, Path]) -> Iterator[list[str]]:
    """A kubelet of NODE that answers every request with one line; gives the callers' common names."""
    callers: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer: Any = self.connection.getpeercert()
            callers.extend(value for part in peer["subject"] for kind, value in part if kind == "commonName")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from a scripted kubelet\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a refused handshake is what is being tested

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(plane.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*serving)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, name="kubelet", daemon=True).start()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}},
        }
        patch = json.dumps({"status": status})
        plane.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", patch)
        try:
            yield callers
        finally:
            server.shutdown()
