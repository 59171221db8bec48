"""The part of kubernetes_asyncio that reads kubeconfigs and the configuration of a pod, without the rest of it.

The package imports everything that it has: 850 modules with model classes, 37 MB and 0.3 s of CPU, which a process that
uses none of them would pay for as long as it runs. Its `config` needs of them the names of two classes, for functions
that nobody calls here. So modules without content stand in for the package and its `client` while `config` is imported.
Afterwards the import system knows of neither: whoever imports kubernetes_asyncio gets the real one.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

LIBRARY = "kubernetes_asyncio"


@dataclass(eq=False)
class ApiConfiguration:
    """What the library's loaders fill in: the fields of its client.Configuration that they write.

    api_key: {"BearerToken": the Authorization header}, empty with a certificate
    refresh_api_key_hook: reads a pod's token again when it is old
    """

    host: str = ""
    api_key: dict[str, str] = field(default_factory=dict)
    refresh_api_key_hook: Callable[[ApiConfiguration], None] | None = None
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None


def _import_config() -> tuple[Any, Any]:
    """kube_config and incluster_config. Raises ImportError."""
    if f"{LIBRARY}.client" not in sys.modules and (spec := importlib.util.find_spec(LIBRARY)) is not None:
        client = ModuleType(f"{LIBRARY}.client")
        client.__dict__.update(ApiClient=ApiConfiguration, Configuration=ApiConfiguration)
        try:
            with _standing_in({LIBRARY: importlib.util.module_from_spec(spec), client.__name__: client}):
                return _import_now()
        except ImportError as error:
            # A version that needs more of itself.
            log.warning("kubernetes_asyncio is imported as a whole, which takes 40 MB more: %s", error)
    return _import_now()


def _import_now() -> tuple[Any, Any]:
    from kubernetes_asyncio.config import incluster_config, kube_config

    return kube_config, incluster_config


@contextmanager
def _standing_in(modules: dict[str, ModuleType]) -> Iterator[None]:
    """`modules` in the place of the library's; afterwards nothing of it counts as imported, since what was imported
    meanwhile refers to them."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == LIBRARY or name.startswith(f"{LIBRARY}.")]:
            del sys.modules[name]


kube_config, incluster_config = _import_config()
