"""A container's environment, and its command with the variables filled in."""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.envfile import parse_env_file
from vk_provider.podmodel.errors import ContainerConfigError, MissingReferenceError, PodModelError
from vk_provider.podmodel.expansion import expand
from vk_provider.podmodel.fieldref import resolve_field, resolve_resource_field
from vk_provider.podmodel.lookup import decode_secret_value, find_config_map, find_secret
from vk_provider.podmodel.serviceenv import build_service_environment
from vk_provider.podmodel.spec import namespace_of, spec_of
from vk_provider.wire.session import References

EnvFiles = Mapping[tuple[str, str], str]
"""(volume name, path in the volume) -> text of an environment file, see `env_file_keys`."""


def build_environment(
    pod: Json,
    container: Json,
    references: References,
    services: list[Json] | None,
    context: PodContext,
    env_files: EnvFiles | None = None,
) -> list[tuple[str, str]]:
    """Return the variables in order: envFrom, env as declared, then service variables that are not set yet.

    services: as of wire.session.PodMessage; None while they are not known

    Raises ContainerConfigError with the kubelet's message. Bytes of a Secret that are not UTF-8 are kept as surrogate
    escapes: encode values with errors="surrogateescape" for CRI.
    """
    try:
        return _build(pod, container, references, services, context, env_files or {})
    except ContainerConfigError:
        raise
    except PodModelError as error:
        raise ContainerConfigError(str(error)) from error


def expand_command(container: Json, environment: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return (command, args) with `$(VAR)` expanded from the container's whole environment."""
    variables = dict(environment)
    command = [expand(word, variables) for word in container.get("command") or []]
    return command, [expand(word, variables) for word in container.get("args") or []]


def env_file_keys(container: Json) -> list[tuple[str, str]]:
    """Return (volume name, path) of every fileKeyRef of the container, without duplicates."""
    found: dict[tuple[str, str], None] = {}
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
        if reference:
            found[(reference["volumeName"], reference["path"])] = None
    return list(found)


def _build(
    pod: Json,
    container: Json,
    references: References,
    services: list[Json] | None,
    context: PodContext,
    env_files: EnvFiles,
) -> list[tuple[str, str]]:
    if services is None:  # as a kubelet, getServiceEnvVarMap
        raise ContainerConfigError("services have not yet been read at least once, cannot construct envvars")
    links = spec_of(pod).get("enableServiceLinks")
    of_services = build_service_environment(services, namespace_of(pod), links is None or bool(links))
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        variables.update(_read_source(source, references))
    for variable in container.get("env") or []:
        value: str | None = variable.get("value") or ""
        if value:
            value = expand(value, variables, of_services)
        elif variable.get("valueFrom"):
            value = _resolve_source(pod, container, variable["valueFrom"], references, context, env_files)
        if value is not None:
            variables[variable["name"]] = value
    for name, value in of_services.items():
        variables.setdefault(name, value)
    return list(variables.items())


def _read_source(source: Json, references: References) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    try:
        if source.get("configMapRef"):
            values = find_config_map(references, source["configMapRef"]["name"]).get("data") or {}
            return {prefix + key: value for key, value in sorted(values.items())}
        if source.get("secretRef"):
            values = find_secret(references, source["secretRef"]["name"]).get("data") or {}
            return {prefix + key: _text(value) for key, value in sorted(values.items())}
    except MissingReferenceError as error:
        reference = source.get("configMapRef") or source.get("secretRef") or {}
        if error.not_found and reference.get("optional"):
            return {}
        raise
    return {}


def _resolve_source(
    pod: Json, container: Json, source: Json, references: References, context: PodContext, env_files: EnvFiles
) -> str | None:
    """Return the value, None when an optional source is missing and the variable is left out."""
    if source.get("fieldRef"):
        return resolve_field(pod, source["fieldRef"]["fieldPath"], context)
    if source.get("resourceFieldRef"):
        return resolve_resource_field(pod, container, source["resourceFieldRef"], context, env=True)
    if source.get("fileKeyRef"):
        return _file_value(source["fileKeyRef"], env_files)
    reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
    if not reference:
        return ""
    try:
        if source.get("configMapKeyRef"):
            values = find_config_map(references, reference["name"]).get("data") or {}
        else:
            values = find_secret(references, reference["name"]).get("data") or {}
    except MissingReferenceError as error:
        if error.not_found and reference.get("optional"):
            return None
        raise
    key = reference["key"]
    if key in values:
        return values[key] if source.get("configMapKeyRef") else _text(values[key])
    if reference.get("optional"):
        return None
    kind = "ConfigMap" if source.get("configMapKeyRef") else "Secret"
    raise MissingReferenceError(f"couldn't find key {key} in {kind} {namespace_of(pod)}/{reference['name']}")


def _file_value(reference: Json, env_files: EnvFiles) -> str | None:
    key, path, volume = reference["key"], reference["path"], reference["volumeName"]
    text = env_files.get((volume, path))
    try:
        value = parse_env_file(text, key) if text is not None else None
    except PodModelError:
        value = None
    if value is None:
        raise ContainerConfigError("couldn't parse env file")
    if value or reference.get("optional"):
        return value or None
    raise ContainerConfigError(f'environment variable key "{key}" not found in file "{path}"')


def _text(value: str) -> str:
    return decode_secret_value(value).decode("utf-8", "surrogateescape")
