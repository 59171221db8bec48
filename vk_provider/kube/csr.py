"""The node's serving certificate: by CertificateSigningRequest with rotation, or from files watched for change.

Kubernetes signs requests for kubernetes.io/kubelet-serving after their approval, but has no controller that approves
them; EKS does the same with a signer of its own. Until then the API server cannot verify this node, and logs and exec
do not work: a warning says so.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.filechanges import FileChanges
from vk_provider.errors import NO_ANSWER, BadStartError, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.certificates import KeyPair, build_serving_request, compute_rotation_at, generate_key_pem
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer
from vk_provider.kube.paths import CERTIFICATE_SIGNING_REQUESTS, csr_path, field_selector

log = logging.getLogger(__name__)

OnCertificate = Callable[[bytes, bytes], None]
"""(certificate chain PEM, key PEM): called for the first certificate and for every newer one."""

_SIGN_LIMIT_S = 15 * 60.0
_REMIND_S = 60.0


class ServingCertificate:
    """Serving certificate of one node by CSR.

    names:     SANs: the Node's hostname and addresses, at least one address
    signer:    signerName of the requests
    state_dir: holds <node>-serving.{crt,key}, mode 0600; a certificate there that is still valid is used again
    """

    def __init__(
        self,
        client: KubeClient,
        node_name: str,
        names: Sequence[str],
        state_dir: Path,
        on_certificate: OnCertificate,
        signer: str,
    ) -> None:
        self._client, self._node_name, self._names = client, node_name, tuple(names)
        self._signer = signer
        self._certificate_path = state_dir / f"{node_name}-serving.crt"
        self._key_path = state_dir / f"{node_name}-serving.key"
        self._on_certificate = on_certificate
        self.current: KeyPair | None = None

    async def run(self) -> None:
        """Load or request a certificate, renew it after 70 to 90 % of its life; until cancelled."""
        backoff = Backoff(first_s=1.0, max_s=60.0)
        self._use(await asyncio.to_thread(self._load))
        while True:
            if self.current is not None:
                await self._sleep_until_rotation(self.current)
            try:
                pair = await self._request()
            except KubeApiError as error:
                log.warning("no serving certificate for node %s: %s", self._node_name, error)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            try:
                await asyncio.to_thread(self._save, pair)
            except OSError as error:
                log.error("the serving certificate of node %s cannot be kept: %s", self._node_name, error)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            self._use(pair)

    async def _sleep_until_rotation(self, pair: KeyPair) -> None:
        rotation_at = compute_rotation_at(pair.leaf, random.uniform(0.7, 0.9))
        # In steps: sleep does not count the time in which the machine is suspended.
        while (left_s := rotation_at - time.time()) > 0:  # noqa: ASYNC110 - it waits for a time, not for an event
            await asyncio.sleep(min(left_s, 3600))

    def _use(self, pair: KeyPair | None) -> None:
        if pair is not None:
            self.current = pair
            log.info("serving certificate of node %s is valid until %s", self._node_name, pair.leaf.not_valid_after_utc)
            self._on_certificate(pair.certificate, pair.key)

    def _load(self) -> KeyPair | None:
        try:
            pair = KeyPair(self._certificate_path.read_bytes(), self._key_path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("the last serving certificate of node %s cannot be read: %s", self._node_name, error)
            return None
        return pair if pair.is_usable(self._names, datetime.now(UTC)) else None

    def _save(self, pair: KeyPair) -> None:
        self._key_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._key_path, pair.key)
        write_private(self._certificate_path, pair.certificate)

    async def _request(self) -> KeyPair:
        key = generate_key_pem()
        request = build_serving_request(key, self._node_name, self._names)
        body: Json = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "csr-"},
            "spec": {
                "request": base64.b64encode(request).decode(),
                "signerName": self._signer,
                "usages": ["digital signature", "server auth"],
            },
        }
        created = await self._client.create(csr_path(), body)
        name = created["metadata"]["name"]
        log.info("certificate signing request %s waits for approval (kubectl certificate approve %s)", name, name)
        pair = KeyPair(await self._wait_signed(name), key)
        if not pair.is_usable(self._names, datetime.now(UTC)):
            raise KubeApiError(
                NO_ANSWER, "BadCertificate", f"the certificate issued for {name} is not what was asked for"
            )
        return pair

    async def _wait_signed(self, name: str) -> bytes:
        signed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def observe(kind: str, item: Json) -> None:
            if signed.done():
                return
            try:
                certificate = read_issued(kind, item)
            except KubeApiError as error:
                signed.set_exception(error)
                return
            if certificate:
                signed.set_result(certificate)

        selector = field_selector(metadata__name=name)
        informer = Informer(self._client, CERTIFICATE_SIGNING_REQUESTS, selector, observe)
        task = asyncio.create_task(informer.run(), name=f"watch csr {name}")
        deadline = time.monotonic() + _SIGN_LIMIT_S
        try:
            while time.monotonic() < deadline:
                done, _ = await asyncio.wait({signed}, timeout=_REMIND_S)
                if done:
                    return signed.result()
                log.warning(
                    "certificate signing request %s is not signed yet: kubectl certificate approve %s", name, name
                )
            raise KubeApiError(NO_ANSWER, "Timeout", f"certificate signing request {name} was not signed")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def read_issued(kind: str, request: Json) -> bytes:
    """The certificate of a CertificateSigningRequest as an informer shows it, b"" while it is undecided.

    Raises KubeApiError when the request was denied, failed or deleted.
    """
    name, status = request["metadata"]["name"], request.get("status") or {}
    if kind == "DELETED":
        raise KubeApiError(404, "NotFound", f"certificate signing request {name} was deleted")
    for condition in status.get("conditions") or []:
        if condition["type"] in ("Denied", "Failed"):
            words = f"certificate signing request {name} {condition['type'].lower()}: {condition.get('message', '')}"
            raise KubeApiError(403, condition["type"], words)
    return base64.b64decode(status.get("certificate") or "")


class FileCertificate:
    """Serving certificate from files that an operator or a mount renews."""

    def __init__(self, certificate_path: Path, key_path: Path, on_certificate: OnCertificate) -> None:
        self._paths = (certificate_path, key_path)
        self._changes = FileChanges(self._paths)
        self._on_certificate = on_certificate
        self.current: KeyPair | None = None

    def load(self) -> None:
        """Read the files. Raises BadStartError; then the previous pair stays in force."""
        try:
            pair = KeyPair(*(path.read_bytes() for path in self._paths))
        except OSError as error:
            raise BadStartError(f"serving certificate cannot be read: {error}") from error
        if not pair.is_usable((), datetime.now(UTC)):
            raise BadStartError(
                f"serving certificate {self._paths[0]} is expired, or not that of its key, or the key has a password"
            )
        if pair != self.current:
            try:
                self._on_certificate(pair.certificate, pair.key)
            except OSError as error:
                # ssl.SSLError too: the server reads the files itself, and they may be in the middle of a change.
                raise BadStartError(f"serving certificate {self._paths[0]} cannot be used: {error}") from error
            self.current = pair

    async def run(self) -> None:
        """Watch for new files until cancelled."""
        await self._changes.run(self._take)

    def _take(self) -> bool:
        try:
            self.load()
        except BadStartError as error:
            log.warning("keeping the old serving certificate: %s", error)
            return False
        return True


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically, with mode 0600."""
    partial = path.with_name(path.name + ".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)
