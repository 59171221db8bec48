"""Kubeconfig files that carry their certificates or token inside."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any


def write_certificate_kubeconfig(path: Path, server: str, ca: Path, user: str, pair: tuple[Path, Path]) -> Path:
    """A kubeconfig of `user` with a client certificate; `server` is a URL, `pair` certificate and key."""
    certificate, key = pair
    credentials = {"client-certificate-data": _encode(certificate), "client-key-data": _encode(key)}
    return _write(path, server, ca, user, credentials)


def write_token_kubeconfig(path: Path, server: str, ca: Path, user: str, token: str) -> Path:
    """A kubeconfig of `user` with a bearer token."""
    return _write(path, server, ca, user, {"token": token})


def _write(path: Path, server: str, ca: Path, user: str, credentials: dict[str, str]) -> Path:
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": _encode(ca)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".new")
    # JSON is YAML; written this way no YAML library is needed.
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(config, handle, indent=2)
    partial.replace(path)
    return path


def _encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
