"""Reads the settings: the file, then what the environment overrides, then the checks."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from vk_provider.cloud.discovery import find_backends, load_backend
from vk_provider.errors import BadStartError
from vk_provider.settings.build import SettingError, build_table, join, list_keys
from vk_provider.settings.checks import check_settings
from vk_provider.settings.cloud import CloudSettings
from vk_provider.settings.provider import Settings

ENVIRONMENT_PREFIX = "VK_PROVIDER_"


def load_settings(path: str | Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read, override from the environment, check. Raises BadStartError with one line that names file and key."""
    try:
        document = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise BadStartError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadStartError(f"{path} is not valid TOML: {error}") from None
    _override(document, os.environ if environment is None else environment)
    try:
        settings: Settings = build_table(Settings, document, "", {"cloud": _build_cloud})
        check_settings(settings)
    except (SettingError, BadStartError) as error:
        raise BadStartError(f"{path}: {error}") from None
    return settings


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, table in get_type_hints(Settings).items():
        if not is_dataclass(table):
            continue
        hints = get_type_hints(table)
        for item in list_keys(table):
            text = environment.get(f"{ENVIRONMENT_PREFIX}{name}_{item.name}".upper())
            if text is None:
                continue
            held = document.setdefault(name, {})
            if isinstance(held, dict):  # else `build_table` reports the error
                held[item.name] = _read(text, hints[item.name])


def _read(text: str, kind: Any) -> Any:
    """A value as TOML would have it; the text itself where it is none, which `build_table` reports."""
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if kind is bool:
        return text.lower() in ("1", "true", "yes")
    if get_origin(kind) is tuple:
        return [part for part in text.split(",") if part]
    return text


def _build_cloud(value: Any, where: str) -> CloudSettings:
    """The table of the cloud with those of the backends, each in the backend's own class: all that the file has are
    checked, the configured one's is kept."""
    if not isinstance(value, dict):
        raise SettingError(f"{where} must be a table")
    names = find_backends().keys()
    if taken := sorted(names & {item.name for item in list_keys(CloudSettings)}):
        raise SettingError(f"a cloud is installed under the name {taken[0]!r}, which is a key of the table {where}")
    common = {key: item for key, item in value.items() if key not in names}
    settings: CloudSettings = build_table(CloudSettings, common, where, beside=names)
    load_backend(settings.backend)
    own = {name: _build_own(name, value.get(name, {}), where) for name in names & {settings.backend, *value}}
    return replace(settings, own=own.get(settings.backend))


def _build_own(name: str, value: Any, where: str) -> Any:
    backend = load_backend(name)
    settings = build_table(backend.settings, value, join(where, name))
    if problem := backend.check(settings):
        raise SettingError(f"{join(where, name)}.{problem}")
    return settings
