"""The files of configMap, secret, downwardAPI and projected volumes.

Source: "Projected Volumes", KEP-2451/KEP-1205 (tokens' modes), KEP-3257 trust bundles, KEP-4317 pod certificates,
KEP-5936 (file owners).
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.errors import MissingReferenceError, PodModelError
from vk_provider.podmodel.fieldref import resolve_metadata_field, resolve_resource_field
from vk_provider.podmodel.lookup import decode_secret_value, find_config_map, find_secret
from vk_provider.podmodel.references import token_request, trust_bundle_key
from vk_provider.podmodel.security import common_user
from vk_provider.podmodel.spec import spec_of
from vk_provider.wire.session import References, token_key

DEFAULT_MODE = 0o644
PRIVATE_MODE = 0o600


@dataclass(frozen=True)
class ProjectedFile:
    """One file of a volume; owner_uid None leaves it to root."""

    data: bytes = field(repr=False)
    mode: int = DEFAULT_MODE
    owner_uid: int | None = None


Files = dict[str, ProjectedFile]


@dataclass(frozen=True)
class _Sources:
    pod: Json
    references: References
    context: PodContext
    default_mode: int
    default_user: int | None


def is_file_volume(volume: Json) -> bool:
    """Tell whether the volume's content is files made from references."""
    return any(volume.get(kind) is not None for kind in ("configMap", "secret", "downwardAPI", "projected"))


def build_volume_files(volume: Json, pod: Json, references: References, context: PodContext) -> Files:
    """Return path -> file of a configMap, secret, downwardAPI or projected volume.

    Raises MissingReferenceError with the kubelet's text for what is missing and not optional.
    """
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        source = volume.get(kind)
        if source is None:
            continue
        mode = source.get("defaultMode")
        sources = _Sources(
            pod, references, context, DEFAULT_MODE if mode is None else int(mode), source.get("defaultUser")
        )
        if kind == "projected":
            return _projected_files(volume["name"], source, sources)
        try:
            return _source_files(kind, source, sources)
        except MissingReferenceError:
            raise
        except PodModelError as error:
            raise MissingReferenceError(str(error)) from error
    raise ValueError(f"volume {volume.get('name')} is not made of files")


def _source_files(kind: str, source: Json, sources: _Sources) -> Files:
    if kind == "configMap":
        return _config_map_files(source, source.get("name") or "", sources)
    if kind == "secret":
        return _secret_files(source, source.get("secretName") or source.get("name") or "", sources)
    return _downward_files(source, sources)


def _config_map_files(source: Json, name: str, sources: _Sources) -> Files:
    optional = bool(source.get("optional"))
    found = _find(find_config_map, name, optional, sources)
    data = {key: text.encode() for key, text in (found.get("data") or {}).items()}
    binary = {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}
    return _pick({**binary, **data}, source, optional, "configmap references non-existent config key", sources)


def _secret_files(source: Json, name: str, sources: _Sources) -> Files:
    optional = bool(source.get("optional"))
    found = _find(find_secret, name, optional, sources)
    data = {key: decode_secret_value(value) for key, value in (found.get("data") or {}).items()}
    return _pick(data, source, optional, "references non-existent secret key", sources)


def _find(find: Callable[[References, str], Json], name: str, optional: bool, sources: _Sources) -> Json:
    """{} for an optional object that does not exist. Raises MissingReferenceError."""
    try:
        return find(sources.references, name)
    except MissingReferenceError as error:
        if not (error.not_found and optional):
            raise
        return {}


def _pick(data: dict[str, bytes], source: Json, optional: bool, complaint: str, sources: _Sources) -> Files:
    items = source.get("items") or []
    if not items:
        return {key: ProjectedFile(value, sources.default_mode, sources.default_user) for key, value in data.items()}
    files: Files = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = _file(data[item["key"]], item, sources)
        elif not optional:
            raise MissingReferenceError(f"{complaint}: {item['key']}")
    return files


def _file(data: bytes, item: Json, sources: _Sources) -> ProjectedFile:
    mode, user = item.get("mode"), item.get("user")
    return ProjectedFile(
        data, sources.default_mode if mode is None else int(mode), sources.default_user if user is None else user
    )


def _downward_files(source: Json, sources: _Sources) -> Files:
    files: Files = {}
    for item in source.get("items") or []:
        if item.get("fieldRef"):
            text = resolve_metadata_field(sources.pod, item["fieldRef"]["fieldPath"])
        else:
            text = resolve_resource_field(
                sources.pod, None, item.get("resourceFieldRef") or {}, sources.context, env=False
            )
        files[posixpath.normpath(item["path"])] = _file(text.encode(), item, sources)
    return files


def _projected_files(volume_name: str, projected: Json, sources: _Sources) -> Files:
    """Merge all sources, later ones win; errors of all sources are reported, as by the kubelet."""
    files: Files = {}
    errors: list[PodModelError] = []
    for index, source in enumerate(projected.get("sources") or []):
        try:
            files.update(_one_source(f"{volume_name}/{index}", source, sources))
        except PodModelError as error:
            errors.append(error)
    if len(errors) == 1:
        raise MissingReferenceError(str(errors[0])) from errors[0]
    if errors:
        texts = dict.fromkeys(str(error) for error in errors)
        raise MissingReferenceError("[" + ", ".join(texts) + "]" if len(texts) > 1 else next(iter(texts)))
    return files


def _one_source(key: str, source: Json, sources: _Sources) -> Files:
    for kind in ("configMap", "secret", "downwardAPI"):
        if source.get(kind) is not None:
            return _source_files(kind, source[kind], sources)
    if source.get("serviceAccountToken"):
        return _token_files(source["serviceAccountToken"], sources)
    if source.get("clusterTrustBundle"):
        return _trust_bundle_files(source["clusterTrustBundle"], sources)
    if source.get("podCertificate"):
        return _certificate_files(key, source["podCertificate"], sources)
    return {}


def _credential_file(data: bytes, source: Json, sources: _Sources) -> ProjectedFile:
    """Return a file for its user only when a user or fsGroup is known (fsGroup later adds the group's read bit)."""
    user = common_user(sources.pod)
    for override in (sources.default_user, source.get("user")):
        user = user if override is None else override
    fs_group = (spec_of(sources.pod).get("securityContext") or {}).get("fsGroup")
    private = user is not None or fs_group is not None
    return ProjectedFile(data, PRIVATE_MODE if private else sources.default_mode, user)


def _token_files(source: Json, sources: _Sources) -> Files:
    key = token_key(*token_request(source))
    found = (sources.references.get("tokens") or {}).get(key)
    if found is None:
        reason = (sources.references.get("errors") or {}).get(f"token/{key}") or "timed out waiting for the token"
        raise MissingReferenceError(f"failed to fetch token: {reason}")
    return {source["path"]: _credential_file(found["token"].encode(), source, sources)}


def _trust_bundle_files(source: Json, sources: _Sources) -> Files:
    key = trust_bundle_key(source)
    text = (sources.references.get("trustBundles") or {}).get(key)
    if not text:
        reason = (sources.references.get("errors") or {}).get(f"trustbundle/{key}")
        if reason:
            raise MissingReferenceError(reason)
        if not source.get("optional"):
            raise MissingReferenceError(_no_bundle(source), not_found=True)
    return {source["path"]: _credential_file((text or "").encode(), source, sources)}


def _no_bundle(source: Json) -> str:
    if source.get("name"):
        name = source["name"]
        return f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{name}" not found'
    if source.get("signerName"):
        return "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    return "ClusterTrustBundle projection requires either name or signerName to be set"


def _certificate_files(key: str, source: Json, sources: _Sources) -> Files:
    found = (sources.references.get("podCertificates") or {}).get(key)
    if found is None:
        reason = (sources.references.get("errors") or {}).get(f"podcertificate/{key}") or "credentials not yet issued"
        raise MissingReferenceError(reason)
    private_key, chain = str(found["key"]).encode(), str(found["certificateChain"]).encode()
    template = _credential_file(b"", source, sources)
    contents = (
        ("credentialBundlePath", private_key + chain),
        ("keyPath", private_key),
        ("certificateChainPath", chain),
    )
    return {source[name]: replace(template, data=data) for name, data in contents if source.get(name)}
