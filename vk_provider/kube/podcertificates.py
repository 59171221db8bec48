"""Certificates for `podCertificate` projections: key, PodCertificateRequest, wait for the signer, renewal.

Follows KEP-4317 and the kubelet's podcertificate manager: the key is made here, the request is bound to the pod, its
service account and its node, and a denied or failed request is final.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from vk_provider import eventreasons
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.eventreasons import EventReason
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, follow
from vk_provider.kube.paths import field_selector, namespaced_path, node_path, pod_certificate_request_path
from vk_provider.kube.trustbundles import split_certificates
from vk_provider.rfc3339 import parse_time

log = logging.getLogger(__name__)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
OnPodEvent = Callable[[Json, str, EventReason, str], None]
"""(pod, event type, reason, message)."""
REFUSALS = {"Denied": eventreasons.POD_CERTIFICATE_DENIED, "Failed": eventreasons.FAILED}
"""Condition of a PodCertificateRequest -> the reason of the event, which is spelled as the condition."""

_REFRESH_JITTER_S = 300
_ABANDON_S = 600.0


@dataclass(frozen=True, slots=True)
class PodCertificate:
    """PEM key (PKCS#8) and chain; `refresh_at` in Unix seconds."""

    key: str
    certificate_chain: str
    refresh_at: float


class PodCertificateDeniedError(KubeApiError):
    """The signer denied or failed the request: asking again does not help."""


class PodCertificateSource:
    """Keeps one projection's certificate: `current` is the newest, on_change() is called when it changes."""

    def __init__(
        self, client: KubeClient, pod: Json, source: Json, on_change: Callable[[], None], on_event: OnPodEvent
    ) -> None:
        self._client, self._pod, self._source = client, pod, source
        self._on_change, self._on_event = on_change, on_event
        self.current: PodCertificate | None = None
        self.error: KubeApiError | None = None
        self._decided = asyncio.Event()

    async def wait_decided(self, timeout_s: float) -> None:
        """Wait for the first certificate or refusal, at most `timeout_s`; on_change() is called for later ones."""
        try:
            await asyncio.wait_for(self._decided.wait(), timeout_s)
        except TimeoutError:
            pass

    async def run(self) -> None:
        """Issue and renew until cancelled or refused for good."""
        backoff = Backoff(first_s=1.0, max_s=60.0)
        while True:
            try:
                self.current = await self._try_issue()
            except PodCertificateDeniedError as error:
                self.error = error
                self._decided.set()
                self._on_change()
                return
            except KubeApiError as error:
                log.warning("pod certificate of %s: %s", self._pod["metadata"]["name"], error)
                self.error = error
                await asyncio.sleep(backoff.next_delay_s())
                continue
            self.error = None
            self._decided.set()
            backoff.reset()
            self._on_change()
            await asyncio.sleep(max(1.0, self.current.refresh_at - time.time()))

    async def _try_issue(self) -> PodCertificate:
        """What nobody expects of an answer is an error of this projection alone. Raises KubeApiError."""
        try:
            return await self._issue()
        except KubeApiError:
            raise
        except Exception as error:
            log.exception("the pod certificate of %s cannot be made", self._pod["metadata"]["name"])
            raise KubeApiError(NO_ANSWER, "Unreadable", f"{type(error).__name__}: {error}") from error

    async def _issue(self) -> PodCertificate:
        key = await asyncio.to_thread(generate_key, self._source.get("keyType") or "")
        namespace = self._pod["metadata"]["namespace"]
        body = await self._build_request(key)
        created = await self._client.create(pod_certificate_request_path(namespace), body)
        name = created["metadata"]["name"]
        try:
            status = await asyncio.wait_for(self._wait_decided(namespace, name), _ABANDON_S)
        except TimeoutError:
            raise KubeApiError(
                NO_ANSWER, "Timeout", f"PodCertificateRequest {namespace}/{name} is not decided"
            ) from None
        self._raise_refusal(f"{namespace}/{name}", status)
        refresh_at = parse_time(status["beginRefreshAt"]) + random.uniform(0, _REFRESH_JITTER_S)
        chain = "".join(split_certificates(status["certificateChain"]))
        if not chain:
            message = f"PodCertificateRequest {namespace}/{name} has no certificate in its certificateChain"
            raise KubeApiError(NO_ANSWER, "Unreadable", message)
        return PodCertificate(_key_pem(key), chain, refresh_at)

    async def _build_request(self, key: PrivateKey) -> Json:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        account = spec.get("serviceAccountName") or "default"
        account_path = namespaced_path("serviceaccounts", metadata["namespace"], account)
        service_account = await self._client.get(account_path)
        node = await self._client.get(node_path(spec["nodeName"]))
        request_spec: Json = {
            "signerName": self._source["signerName"],
            "podName": metadata["name"],
            "podUID": metadata["uid"],
            "serviceAccountName": account,
            "serviceAccountUID": service_account["metadata"]["uid"],
            "nodeName": spec["nodeName"],
            "nodeUID": node["metadata"]["uid"],
            "stubPKCS10Request": base64.b64encode(build_stub_request(key)).decode(),
        }
        if self._source.get("maxExpirationSeconds") is not None:
            request_spec["maxExpirationSeconds"] = self._source["maxExpirationSeconds"]
        if self._source.get("userAnnotations"):
            request_spec["unverifiedUserAnnotations"] = self._source["userAnnotations"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        return {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "PodCertificateRequest",
            "metadata": {"generateName": "req-", "namespace": metadata["namespace"], "ownerReferences": [owner]},
            "spec": request_spec,
        }

    async def _wait_decided(self, namespace: str, name: str) -> Json:
        """Wait until the request has a condition; returns its status."""
        decided: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def observe(kind: str, item: Json) -> None:
            status = item.get("status") or {}
            if decided.done():
                return
            if kind == "DELETED":
                decided.set_exception(KubeApiError(404, "NotFound", f"PodCertificateRequest {name} was deleted"))
            elif status.get("conditions"):
                decided.set_result(status)

        query = field_selector(metadata__name=name, spec__nodeName=self._pod["spec"]["nodeName"])
        informer = Informer(self._client, pod_certificate_request_path(namespace), query, observe)
        task = asyncio.create_task(follow(informer), name=f"watch podcertificaterequest {name}")
        try:
            return await decided
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _raise_refusal(self, request: str, status: Json) -> None:
        for condition in status["conditions"]:
            kind, reason, text = condition["type"], condition.get("reason", ""), condition.get("message", "")
            if kind not in REFUSALS:
                continue
            verb = "was denied" if kind == "Denied" else "failed"
            words = f'PodCertificateRequest {request} {verb}, reason="{reason}", message="{text}"'
            self._on_event(self._pod, "Warning", REFUSALS[kind], words)
            raise PodCertificateDeniedError(403, reason, words)


def generate_key(key_type: str) -> PrivateKey:
    """Make a private key of a PodCertificateProjection keyType. Raises KubeApiError for an unknown one."""
    match key_type:
        case "RSA3072" | "RSA4096":
            return rsa.generate_private_key(public_exponent=65537, key_size=int(key_type.removeprefix("RSA")))
        case "ECDSAP256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ECDSAP384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ECDSAP521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ED25519":
            return ed25519.Ed25519PrivateKey.generate()
    raise PodCertificateDeniedError(0, "UnsupportedKeyType", f'unsupported key type "{key_type}"')


def build_stub_request(key: PrivateKey) -> bytes:
    """An empty PKCS#10 request (DER) with the key and the proof of its possession."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
