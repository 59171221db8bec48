"""The objects that a pod refers to: read from the API before it starts, and watched afterwards.

Only names that the pod's spec holds, as the Node authorizer demands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import all_containers, spec_of

DEFAULT_TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class TrustBundleReference:
    """A clusterTrustBundle source: by name, or by signer and label selector (None selects nothing, {} everything)."""

    key: str
    name: str = ""
    signer_name: str = ""
    label_selector: Json | None = field(default=None, compare=False, hash=False)
    optional: bool = False


@dataclass(frozen=True)
class PodCertificateReference:
    """A podCertificate source; key is `<volume>/<source index>`, source the API's PodCertificateProjection."""

    key: str
    source: Json = field(compare=False, hash=False)


@dataclass(frozen=True)
class PodReferences:
    """All references of one pod. Names are of the pod's namespace; tokens are (audience, expiration seconds)."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    tokens: frozenset[tuple[str, int]] = frozenset()
    runtime_class: str = ""
    trust_bundles: frozenset[TrustBundleReference] = frozenset()
    pod_certificates: frozenset[PodCertificateReference] = frozenset()
    service_account: str = ""
    image_pull_secrets: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the pod refers to nothing that has to be read."""
        found = (self.config_maps, self.secrets, self.tokens, self.trust_bundles, self.pod_certificates)
        return not (any(found) or self.runtime_class)

    @property
    def access(self) -> tuple[Any, ...]:
        """Whom the pod acts as, and what of its namespace it is given to read; equal for pods of one template."""
        return self.service_account, *(tuple(sorted(each)) for each in (self.secrets, self.config_maps, self.tokens))


def find_references(pod: Json) -> PodReferences:
    """Collect the references; `secrets` has those of imagePullSecrets too."""
    spec = spec_of(pod)
    found = _Collector()
    for container in all_containers(pod):
        found.add_environment(container)
    for volume in spec.get("volumes") or []:
        found.add_volume(volume)
    pull_secrets = tuple(
        dict.fromkeys(entry["name"] for entry in spec.get("imagePullSecrets") or [] if entry.get("name"))
    )
    return PodReferences(
        config_maps=frozenset(found.config_maps),
        secrets=frozenset({*found.secrets, *pull_secrets}),
        tokens=frozenset(found.tokens),
        runtime_class=spec.get("runtimeClassName") or "",
        trust_bundles=frozenset(found.trust_bundles),
        pod_certificates=frozenset(found.pod_certificates),
        service_account=spec.get("serviceAccountName") or "default",
        image_pull_secrets=pull_secrets,
    )


def trust_bundle_key(source: Json) -> str:
    """Return the key of a clusterTrustBundle source within References.trustBundles.

    `name/<name>`, or `signer/<signer name>/<label selector as JSON with sorted keys, null when absent>`.
    """
    if source.get("name"):
        return f"name/{source['name']}"
    selector = json.dumps(source.get("labelSelector"), sort_keys=True, separators=(",", ":"))
    return f"signer/{source.get('signerName') or ''}/{selector}"


class _Collector:
    def __init__(self) -> None:
        self.config_maps: set[str] = set()
        self.secrets: set[str] = set()
        self.tokens: set[tuple[str, int]] = set()
        self.trust_bundles: set[TrustBundleReference] = set()
        self.pod_certificates: set[PodCertificateReference] = set()

    def add_environment(self, container: Json) -> None:
        for source in container.get("envFrom") or []:
            self._add_pair(source, "configMapRef", "secretRef")
        for variable in container.get("env") or []:
            self._add_pair(variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef")

    def _add_pair(self, source: Json, config_map: str, secret: str) -> None:
        if (source.get(config_map) or {}).get("name"):
            self.config_maps.add(source[config_map]["name"])
        if (source.get(secret) or {}).get("name"):
            self.secrets.add(source[secret]["name"])

    def add_volume(self, volume: Json) -> None:
        self._add_pair(volume, "configMap", "secret")
        if (volume.get("secret") or {}).get("secretName"):
            self.secrets.add(volume["secret"]["secretName"])
        for index, source in self._sources(volume):
            self._add_pair(source, "configMap", "secret")
            token = source.get("serviceAccountToken")
            if token:
                self.tokens.add(token_request(token))
            bundle = source.get("clusterTrustBundle")
            if bundle:
                self.trust_bundles.add(_trust_bundle(bundle))
            if source.get("podCertificate"):
                key = f"{volume['name']}/{index}"
                self.pod_certificates.add(PodCertificateReference(key, source["podCertificate"]))

    @staticmethod
    def _sources(volume: Json) -> Iterator[tuple[int, Json]]:
        yield from enumerate((volume.get("projected") or {}).get("sources") or [])


def token_request(source: Json) -> tuple[str, int]:
    """Return (audience, expiration seconds) of a serviceAccountToken source."""
    return source.get("audience") or "", int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)


def _trust_bundle(source: Json) -> TrustBundleReference:
    return TrustBundleReference(
        key=trust_bundle_key(source),
        name=source.get("name") or "",
        signer_name=source.get("signerName") or "",
        label_selector=source.get("labelSelector"),
        optional=bool(source.get("optional")),
    )
