"""References on a real API server, with the provider's own rights."""

import asyncio
import base64
import datetime
import json
from contextlib import asynccontextmanager
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.waiting import running, until
from vk_provider.jsontypes import Json
from vk_provider.kube.references import ReferenceStore
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.node.object import format_time

CONTAINER = {"name": "c", "image": "x"}


@asynccontextmanager
async def storing(provider: Provider, **options: Any) -> Any:
    services = ServiceEnvironment(provider.client)
    store = ReferenceStore(provider.client, services, **options)
    async with running(services.run(), store.run()):
        yield store
    check_allowed(provider)


async def make_pod(provider: Provider, namespace: str, name: str, **spec: Any) -> Json:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [CONTAINER], "nodeName": "refs-node", **spec},
    }
    made = await provider.plane.kubectl_async("create", "-o", "json", "-f", "-", stdin=json.dumps(manifest))
    pod: Json = json.loads(made.stdout)
    return pod


async def kubectl(provider: Provider, *args: str) -> str:
    return (await provider.plane.kubectl_async(*args)).stdout


def projected(*sources: Json) -> Json:
    return {"name": "v", "projected": {"sources": list(sources)}}


async def test_objects_are_read_missing_ones_are_none_and_changes_call_back(provider: Provider, namespace: str) -> None:
    await kubectl(provider, "create", "configmap", "here", "-n", namespace, "--from-literal=k=1")
    await kubectl(provider, "create", "secret", "generic", "hush", "-n", namespace, "--from-literal=p=w")
    sources = [{"configMapRef": {"name": name, "optional": True}} for name in ("here", "later")]
    container = {**CONTAINER, "envFrom": [*sources, {"secretRef": {"name": "hush"}}]}
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p", containers=[container])
        calls = []
        store.subscribe(pod, lambda: calls.append(1), lambda: None)
        found = await store.resolve(pod)
        assert found["configMaps"]["here"]["data"] == {"k": "1"}
        assert found["configMaps"]["later"] is None
        assert base64.b64decode(found["secrets"]["hush"]["data"]["p"]) == b"w"
        assert found["errors"] == {}
        assert [service["name"] for service in store.services.entries(pod) or []] == ["kubernetes"]
        assert not calls
        await kubectl(provider, "create", "configmap", "later", "-n", namespace, "--from-literal=k=2")
        await until(lambda: calls, "the missing ConfigMap appeared")
        assert (await store.resolve(pod))["configMaps"]["later"]["data"] == {"k": "2"}
        calls.clear()
        await kubectl(provider, "delete", "configmap", "here", "-n", namespace)
        await until(lambda: calls, "the ConfigMap went")
        assert (await store.resolve(pod))["configMaps"]["here"] is None
        store.release(pod["metadata"]["uid"])
        calls.clear()
        await kubectl(provider, "delete", "configmap", "later", "-n", namespace)
        await asyncio.sleep(0.3)
        assert not calls


async def test_pods_share_one_watch_of_an_object(provider: Provider, namespace: str) -> None:
    async with storing(provider, max_watches=2) as store:
        pods = [await make_pod(provider, namespace, f"p{number}") for number in range(5)]
        answers = await asyncio.gather(*(store.resolve(pod) for pod in pods))
        assert all("ca.crt" in answer["configMaps"]["kube-root-ca.crt"]["data"] for answer in answers)
        assert len(store._config_maps) == 1
        tokens = {next(iter(answer["tokens"].values()))["token"] for answer in answers}
        assert len(tokens) == 5


async def test_a_token_is_bound_to_the_pod_and_kept_until_it_is_due(provider: Provider, namespace: str) -> None:
    source = {"serviceAccountToken": {"path": "t", "audience": "bank", "expirationSeconds": 600}}
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p", volumes=[projected(source)])
        first, second = await store.resolve(pod), await store.resolve(pod)
        assert first["tokens"] == second["tokens"]
        token = first["tokens"]["bank|600"]["token"]
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["aud"] == ["bank"]
        assert claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]


async def test_a_token_of_an_account_that_went_is_an_error_that_names_it(provider: Provider, namespace: str) -> None:
    source = {"serviceAccountToken": {"path": "t", "audience": "bank", "expirationSeconds": 600}}
    await kubectl(provider, "create", "serviceaccount", "brief", "-n", namespace)
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p", serviceAccountName="brief", volumes=[projected(source)])
        await kubectl(provider, "delete", "serviceaccount", "brief", "-n", namespace)
        found = await store.resolve(pod)
        assert 'serviceaccounts "brief" not found' in found["errors"]["token/bank|600"]


async def test_services_of_the_namespace_come_with_the_clusters_own(provider: Provider, namespace: str) -> None:
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p")
        calls: list[int] = []
        changed: list[int] = []
        before = await store.resolve(pod)
        store.subscribe(pod, lambda: changed.append(1), lambda: calls.append(1))
        await kubectl(provider, "create", "service", "clusterip", "web", "-n", namespace, "--tcp=80:8080")
        await kubectl(provider, "create", "service", "clusterip", "headless", "-n", namespace, "--clusterip=None")
        await until(lambda: calls, "a service came")
        services = {each["name"]: each for each in store.services.entries(pod) or []}
        assert set(services) == {"kubernetes", "web"}
        assert services["web"]["ports"] == [{"name": "80-8080", "port": 80, "protocol": "TCP"}]
        unlinked = {**pod, "spec": {**pod["spec"], "enableServiceLinks": False}}
        assert [each["name"] for each in store.services.entries(unlinked) or []] == ["kubernetes"]
        assert not changed and await store.resolve(pod) == before  # no reference has changed


async def test_a_runtime_class_gives_its_handler_and_a_missing_one_an_error(provider: Provider, namespace: str) -> None:
    manifest = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "fast"}, "handler": "kata"}
    await provider.plane.kubectl_async("apply", "-f", "-", stdin=json.dumps(manifest))
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p", runtimeClassName="fast")
        assert (await store.resolve(pod))["runtimeHandler"] == "kata"
        other = {**pod, "spec": {**pod["spec"], "runtimeClassName": "none"}}
        assert (await store.resolve(other))["errors"] == {
            "runtimeclass/none": 'runtimeclass.node.k8s.io "none" not found'
        }


async def test_a_runtime_class_is_read_before_the_pod_has_an_instance(provider: Provider, namespace: str) -> None:
    metadata = {"name": "large", "annotations": {"vk-provider/instance-family": "m7i"}}
    manifest = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": metadata, "handler": "runc"}
    await provider.plane.kubectl_async("apply", "-f", "-", stdin=json.dumps(manifest))
    async with storing(provider) as store:
        plain = await make_pod(provider, namespace, "plain")
        pod = {**plain, "spec": {**plain["spec"], "runtimeClassName": "large"}}
        assert store.peek_runtime_class(plain) == (True, None)
        assert store.peek_runtime_class(pod) == (False, None)
        read = await store.read_runtime_class(pod)
        assert read is not None and read["metadata"]["annotations"]["vk-provider/instance-family"] == "m7i"
        assert store.peek_runtime_class(pod) == (True, read), "kept for the next pod of its class"
        missing = {**plain, "spec": {**plain["spec"], "runtimeClassName": "missing"}}
        assert await store.read_runtime_class(missing) is None


async def test_trust_bundles_are_found_by_name_and_by_signer(provider: Provider, namespace: str) -> None:
    anchor = provider.plane.ca.read_text()
    for name, signer in (("plain-bundle", ""), ("example.com:signer:a", "example.com/signer")):
        spec = {"trustBundle": anchor, **({"signerName": signer} if signer else {})}
        manifest = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": name, "labels": {"live": "yes"}},
            "spec": spec,
        }
        await provider.plane.kubectl_async("apply", "-f", "-", stdin=json.dumps(manifest))
    by_name = {"clusterTrustBundle": {"name": "plain-bundle", "path": "a"}}
    selector = {"matchLabels": {"live": "yes"}}
    by_signer = {"clusterTrustBundle": {"signerName": "example.com/signer", "labelSelector": selector, "path": "b"}}
    missing = {"clusterTrustBundle": {"name": "absent", "path": "c", "optional": True}}
    async with storing(provider) as store:
        pod = await make_pod(provider, namespace, "p", volumes=[projected(by_name, by_signer, missing)])
        found = await store.resolve(pod)
        assert found["errors"] == {}
        assert sorted(key.split("/")[0] for key in found["trustBundles"]) == ["name", "signer"]
        assert all(text.count("BEGIN CERTIFICATE") == 1 for text in found["trustBundles"].values())


async def request_certificate(provider: Provider, store: ReferenceStore, namespace: str) -> tuple[Any, Json]:
    """A pod that wants a certificate: (task that resolves it, its PodCertificateRequest)."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "refs-node"}}
    await provider.plane.kubectl_async("apply", "-f", "-", stdin=json.dumps(node))
    source = {"podCertificate": {"signerName": "example.com/s", "keyType": "ECDSAP256", "credentialBundlePath": "x"}}
    pod = await make_pod(provider, namespace, "p", volumes=[projected(source)])
    resolving = asyncio.create_task(store.resolve(pod))
    for _ in range(100):
        listed = await kubectl(provider, "get", "podcertificaterequests", "-n", namespace, "-o", "json")
        if items := json.loads(listed)["items"]:
            assert items[0]["spec"]["podUID"] == pod["metadata"]["uid"]
            return resolving, items[0]
        await asyncio.sleep(0.05)
    raise AssertionError("no PodCertificateRequest was made")


async def decide(provider: Provider, request: Json, status: Json) -> None:
    metadata = request["metadata"]
    where = ("podcertificaterequests", metadata["name"], "-n", metadata["namespace"], "--subresource=status")
    await kubectl(provider, "patch", *where, "--type=merge", "-p", json.dumps({"status": status}))


def condition(kind: str, message: str = "") -> Json:
    return {"type": kind, "status": "True", "reason": "Test", "message": message, "lastTransitionTime": format_time(0)}


def sign(request: Json) -> Json:
    """Status of an issued request, signed by a CA made up here."""
    asked = x509.load_der_x509_csr(base64.b64decode(request["spec"]["stubPKCS10Request"]))
    begin = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    end, name = begin + datetime.timedelta(hours=2), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s")])
    builder = x509.CertificateBuilder(name, name, asked.public_key(), 1, begin, end)
    certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    times = {"notBefore": begin, "notAfter": end, "beginRefreshAt": begin + datetime.timedelta(hours=1)}
    return {
        "conditions": [condition("Issued")],
        "certificateChain": certificate.public_bytes(Encoding.PEM).decode(),
        **{key: format_time(at.timestamp()) for key, at in times.items()},
    }


async def test_a_pod_certificate_is_delivered_once_it_is_signed(provider: Provider, namespace: str) -> None:
    async with storing(provider) as store:
        resolving, request = await request_certificate(provider, store, namespace)
        await decide(provider, request, sign(request))
        found = await resolving
        assert found["errors"] == {}
        pair = found["podCertificates"]["v/0"]
        leaf = x509.load_pem_x509_certificate(pair["certificateChain"].encode())
        key = load_pem_private_key(pair["key"].encode(), None)
        assert leaf.public_key() == key.public_key()


async def test_a_denied_pod_certificate_is_an_error_with_its_reason(provider: Provider, namespace: str) -> None:
    told: list[tuple[str, str]] = []
    async with storing(provider, on_event=lambda pod, kind, reason, text: told.append((kind, reason))) as store:
        resolving, request = await request_certificate(provider, store, namespace)
        await decide(provider, request, {"conditions": [condition("Denied", "not today")]})
        found = await resolving
        assert "not today" in found["errors"]["podcertificate/v/0"]
        assert told == [("Warning", "Denied")]
