"""Resolves the objects that a pod refers to, by name only, and notifies of changes.

ConfigMaps, Secrets and RuntimeClasses are watched one by one and shared (objects), tokens and pod certificates belong
to one pod, Services and ClusterTrustBundles are read as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.nodelogins import NodeLogins, PodLogins
from vk_provider.kube.objects import Key, SharedObjects
from vk_provider.kube.paths import RUNTIME_CLASSES, namespaced_path
from vk_provider.kube.podcertificates import OnPodEvent, PodCertificateSource
from vk_provider.kube.services import ServiceEnvironment
from vk_provider.kube.subscription import PodSubscription
from vk_provider.kube.tokens import request_token
from vk_provider.kube.trustbundles import TrustBundles
from vk_provider.podmodel.references import (
    PodCertificateReference,
    PodReferences,
    TrustBundleReference,
    find_references,
)
from vk_provider.wire.session import References, token_key

_TOKEN_RETRY_S = 15.0
_ERROR_RETRY_S = 10.0
_SERVICES_WAIT_S = 10.0
_CERTIFICATE_WAIT_S = 10.0
_KEPT = ("data", "binaryData", "immutable", "type")


class ReferenceStore:
    """References of all pods of this provider.

    services:    the cluster's; whoever made them runs them
    max_watches: watches of single objects; more objects are read once a minute instead
    calls:       concurrent requests, so that 1,000 new pods do not overload the API server
    on_event:    (pod, event type, reason, message): records an event on the pod
    logins:      the Node's own at the registries of pods' images; None for none
    `run` must be running. `synced` is set once Services are known.
    """

    def __init__(
        self,
        client: KubeClient,
        services: ServiceEnvironment,
        *,
        max_watches: int = 200,
        calls: int = 24,
        on_event: OnPodEvent = lambda *_: None,
        logins: PodLogins | None = None,
    ) -> None:
        self._client, self._on_event = client, on_event
        self._logins = NodeLogins(logins, on_event) if logins is not None else None
        self._calls = asyncio.Semaphore(calls)
        self._records: dict[str, PodSubscription] = {}
        self._services = services
        services.on_change(self._service_changed)
        self._bundles = TrustBundles(client, self._bundles_changed)
        share = max(1, max_watches // 2)
        self._config_maps = self._shared("configmaps", share)
        self._secrets = self._shared("secrets", share)
        self._runtime_classes = SharedObjects(
            client, lambda _: RUNTIME_CLASSES, self._notify, gate=self._calls, max_watches=share
        )

    def _shared(self, resource: str, max_watches: int) -> SharedObjects:
        def collection(namespace: str) -> str:
            return namespaced_path(resource, namespace)

        return SharedObjects(self._client, collection, self._notify, gate=self._calls, max_watches=max_watches)

    @property
    def synced(self) -> asyncio.Event:
        return self._services.synced

    @property
    def services(self) -> ServiceEnvironment:
        return self._services

    async def run(self) -> None:
        """Run until cancelled. What is one pod's, or one object's, fails for itself."""
        try:
            await self._services.synced.wait()
            self._service_changed("")  # pods that were sent without
            await asyncio.Event().wait()
        finally:
            self._close()

    def _close(self) -> None:
        for uid in list(self._records):
            self.release(uid)
        for shared in (self._config_maps, self._secrets, self._runtime_classes):
            shared.close()
        self._bundles.close()

    def subscribe(self, pod: Json, callback: Callable[[], None], on_services: Callable[[], None]) -> None:
        """Call `callback` (on the event loop) when the result of `resolve` changes: an object changed or became
        readable, or a token is due for renewal; `on_services` when `services.entries` may have changed."""
        record = self._record(pod)
        record.callback, record.on_services = callback, on_services

    def release(self, uid: str) -> None:
        """Forget a pod. Its objects are kept for a minute, for the next pod that refers to them."""
        record = self._records.pop(uid, None)
        if record is not None:
            record.close()
        for shared in (self._config_maps, self._secrets, self._runtime_classes):
            shared.hold(uid, set())

    def peek(self, pod: Json) -> References | None:
        """What `resolve` would return for a pod that refers to nothing; None when something has to be asked for."""
        if self._logins is not None or not self._services.synced.is_set():
            return None
        found = find_references(pod)
        if not found.is_empty:
            return None
        record = self._record(pod)
        record.uses_trust_bundles = False
        self._hold(pod["metadata"]["uid"], record.namespace, found)
        return _NO_REFERENCES

    async def resolve(self, pod: Json) -> References:
        """All references now. What cannot be read is in `errors`, what does not exist is None; never raises
        KubeApiError. The first call reads, later ones are answered from memory except for tokens that are due."""
        found, record = find_references(pod), self._record(pod)
        uid, namespace = pod["metadata"]["uid"], record.namespace
        record.uses_trust_bundles = bool(found.trust_bundles)
        self._hold(uid, namespace, found)
        references = _build_references()
        # No task for what is in memory already: a restart resolves thousands of pods at once.
        steps: list[Coroutine[Any, Any, None]] = []
        if not self._services.synced.is_set():
            steps.append(self._wait_services())
        for shared, kind, names in (
            (self._config_maps, "configmap", found.config_maps),
            (self._secrets, "secret", found.secrets),
        ):
            for name in names:
                if shared.is_read((namespace, name)):
                    _put_object(references, kind, name, shared.peek((namespace, name)))
                else:
                    steps.append(self._add_object(shared, (namespace, name), references, kind))
        for audience, seconds in found.tokens:
            token = record.tokens.get(token_key(audience, seconds))
            if token is not None and time.time() < token.refresh_at:
                references["tokens"][token_key(audience, seconds)] = token.reference
                record.plan_refresh(token.refresh_at - time.time())
            else:
                steps.append(self._add_token(pod, record, audience, seconds, references))
        steps += [self._add_bundle(bundle, references) for bundle in found.trust_bundles]
        steps += [self._add_certificate(pod, record, each, references) for each in found.pod_certificates]
        if found.runtime_class:
            steps.append(self._add_runtime_class(found.runtime_class, references))
        if self._logins is not None and (step := self._logins.add(pod, record, references)) is not None:
            steps.append(step)
        await _run_all(steps)
        if references["errors"]:
            record.plan_refresh(_ERROR_RETRY_S)
        return _NO_REFERENCES if references == _NO_REFERENCES else references

    async def read_pull_secrets(self, pod: Json) -> dict[str, Json | None]:
        """The pod's imagePullSecrets by name, from memory where they are followed; None for one that does not exist or
        cannot be read now; after them NODE_LOGINS, where there are any. The pod need not be subscribed."""
        names = [entry["name"] for entry in pod["spec"].get("imagePullSecrets") or () if entry.get("name")]
        metadata, found = pod["metadata"], dict.fromkeys(names)
        keys = {name: (metadata["namespace"], name) for name in found}
        holder = f"pull secrets of {metadata['uid']}"
        self._secrets.hold(holder, set(keys.values()))
        try:
            for name, key in keys.items():
                with contextlib.suppress(KubeApiError):
                    item = self._secrets.peek(key) if self._secrets.is_read(key) else await self._secrets.fetch(key)
                    found[name] = item
        finally:
            self._secrets.hold(holder, set())
        if self._logins is not None:
            await self._logins.add_secret(pod, found)
        return found

    def peek_runtime_class(self, pod: Json) -> tuple[bool, Json | None]:
        """(whether the pod's RuntimeClass has been read, what it is: None where it names none, or one that is not
        there)."""
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return True, None
        key = ("", name)
        return (True, self._runtime_classes.peek(key)) if self._runtime_classes.is_read(key) else (False, None)

    async def read_runtime_class(self, pod: Json) -> Json | None:
        """The pod's RuntimeClass, which it must name; None for one that is not there. The pod need not be subscribed.
        Raises KubeApiError."""
        key = ("", pod["spec"]["runtimeClassName"])
        holder = f"runtime class of {pod['metadata']['uid']}"
        self._runtime_classes.hold(holder, {key})
        try:
            return await self._runtime_classes.fetch(key)
        finally:
            self._runtime_classes.hold(holder, set())

    def _record(self, pod: Json) -> PodSubscription:
        metadata = pod["metadata"]
        return self._records.setdefault(metadata["uid"], PodSubscription(metadata["namespace"]))

    def _hold(self, uid: str, namespace: str, found: PodReferences) -> None:
        self._config_maps.hold(uid, {(namespace, name) for name in found.config_maps})
        self._secrets.hold(uid, {(namespace, name) for name in found.secrets})
        self._runtime_classes.hold(uid, {("", found.runtime_class)} if found.runtime_class else set())

    async def _add_object(self, shared: SharedObjects, key: Key, references: References, kind: str) -> None:
        try:
            _put_object(references, kind, key[1], await shared.fetch(key))
        except KubeApiError as error:
            references["errors"][f"{kind}/{key[1]}"] = str(error)

    async def _add_token(
        self, pod: Json, record: PodSubscription, audience: str, seconds: int, references: References
    ) -> None:
        key, now = token_key(audience, seconds), time.time()
        token = record.tokens.get(key)
        if token is None or now >= token.refresh_at:
            try:
                async with self._calls:
                    token = record.tokens[key] = await request_token(self._client, pod, audience, seconds)
            except KubeApiError as error:
                record.plan_refresh(_TOKEN_RETRY_S)
                if token is None or now >= token.expires_at:
                    references["errors"][f"token/{key}"] = str(error)
                    return
        references["tokens"][key] = token.reference
        if token.refresh_at > now:
            record.plan_refresh(token.refresh_at - now)

    async def _add_bundle(self, bundle: TrustBundleReference, references: References) -> None:
        try:
            text = await self._bundles.select(bundle.name, bundle.signer_name, bundle.label_selector)
        except KubeApiError as error:
            references["errors"][f"trustbundle/{bundle.key}"] = str(error)
            return
        if text:
            references["trustBundles"][bundle.key] = text

    async def _add_certificate(
        self, pod: Json, record: PodSubscription, reference: PodCertificateReference, references: References
    ) -> None:
        key = reference.key
        source = record.certificates.get(key)
        if source is None:
            source = PodCertificateSource(self._client, pod, reference.source, record.notify, self._on_event)
            record.certificates[key] = source
            if record.closed:
                return
            record.tasks.append(asyncio.create_task(source.run(), name=f"pod-certificate {key}"))
        await source.wait_decided(_CERTIFICATE_WAIT_S)
        if source.current is not None:
            pair = source.current
            references["podCertificates"][key] = {"key": pair.key, "certificateChain": pair.certificate_chain}
        elif source.error is not None:
            references["errors"][f"podcertificate/{key}"] = str(source.error)

    async def _add_runtime_class(self, name: str, references: References) -> None:
        try:
            item = await self._runtime_classes.fetch(("", name))
        except KubeApiError as error:
            references["errors"][f"runtimeclass/{name}"] = str(error)
            return
        if item is None:
            references["errors"][f"runtimeclass/{name}"] = f'runtimeclass.node.k8s.io "{name}" not found'
        else:
            references["runtimeHandler"] = item.get("handler") or ""

    async def _wait_services(self) -> None:
        """No container starts before the Services were listed: a pod that is sent sooner is soon sent again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._services.synced.wait(), _SERVICES_WAIT_S)

    def _notify(self, uids: set[str]) -> None:
        for uid in uids:
            record = self._records.get(uid)
            if record is not None:
                record.notify()

    def _service_changed(self, namespace: str) -> None:
        for record in self._records.values():
            if namespace in ("", record.namespace):
                record.notify_services()

    def _bundles_changed(self) -> None:
        for record in self._records.values():
            if record.uses_trust_bundles:
                record.notify()


def _build_references() -> References:
    return References(
        configMaps={}, secrets={}, tokens={}, trustBundles={}, podCertificates={}, runtimeHandler="", errors={}
    )


_NO_REFERENCES = _build_references()
"""The same for all pods that refer to nothing."""


async def _run_all(steps: list[Coroutine[Any, Any, None]]) -> None:
    if len(steps) == 1:
        await steps[0]
        return
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)


def _put_object(references: References, kind: str, name: str, item: Json | None) -> None:
    target = references["configMaps"] if kind == "configmap" else references["secrets"]
    target[name] = _trim_object(item) if item is not None else None


def _trim_object(item: Json) -> Json:
    kept = {name: item[name] for name in _KEPT if name in item}
    return {**kept, "resourceVersion": item["metadata"].get("resourceVersion", "")}
