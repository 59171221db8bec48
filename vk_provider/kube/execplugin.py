"""Runs the exec credential plugin of a kubeconfig (client.authentication.k8s.io) with a time limit.

kubernetes_asyncio reads the configuration, but waits for a plugin without limit and does not kill it when cancelled.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.kube.configlibrary import ApiConfiguration, kube_config

TIME_LIMIT_S = 30.0
"""`aws eks get-token` and its like take seconds, also with a retry."""
END_S = 2.0


class PluginError(Exception):
    """The plugin failed, took too long, or gave no credential; one line that names it."""


class PluginLoader(kube_config.KubeConfigLoader):
    """KubeConfigLoader whose exec plugin is killed after TIME_LIMIT_S. Use the class method `load`."""

    @classmethod
    async def load(cls, paths: str, context: str | None, configuration: ApiConfiguration) -> PluginLoader:
        """Read the kubeconfig into `configuration`. Raises PluginError and what the library raises."""
        merged = await asyncio.to_thread(kube_config.KubeConfigMerger, paths)
        loader = cls(config_dict=merged.config, active_context=context, config_base_path=None)
        await loader.load_and_set(configuration)
        return loader

    async def load_from_exec_plugin(self) -> bool:
        """Always run the plugin: it is called only when the credential is old."""
        node = self._user["exec"]
        status = await run_plugin(kube_config.ExecProvider(node))
        if status.get("token"):
            self.token = f"Bearer {status['token']}"
        elif status.get("clientCertificateData") and status.get("clientKeyData"):
            for attribute, key in (("cert_file", "clientCertificateData"), ("key_file", "clientKeyData")):
                text = kube_config.FileOrData(status, None, data_key_name=key, base64_file_content=False)
                setattr(self, attribute, text.as_file())
        else:
            raise PluginError(f"exec plugin {node['command']} gave neither a token nor a certificate with its key")
        expiry = status.get("expirationTimestamp")
        self.exec_plugin_expiry = kube_config.parse_rfc3339(expiry) if expiry else None
        return True


async def run_plugin(provider: Any) -> Json:
    """`status` of the ExecCredential. provider: the library's ExecProvider. Raises PluginError. After TIME_LIMIT_S the
    plugin is killed, with all processes of its session."""
    name = provider.args[0]
    info = {"apiVersion": provider.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *provider.args,
            env={**provider.env, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        ),
        name=f"start of {name}",
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the plugin alone, and processes that it has started would run on.
        await asyncio.wait({starting})
        if starting.exception() is None:
            await _end(starting.result())
        raise
    except OSError as error:
        raise PluginError(f"exec plugin {name} cannot be started: {error.strerror or error}") from None
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        await _end(process)
        raise PluginError(f"exec plugin {name} gave no credential within {TIME_LIMIT_S:g} s and was killed") from None
    except BaseException:
        await _end(process)
        raise
    if process.returncode:
        said = " ".join(errors.decode(errors="replace").split())[-300:]
        raise PluginError(f"exec plugin {name} failed with exit code {process.returncode}: {said}".rstrip(": "))
    return _parse(name, provider.api_version, output)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The child of a shell may keep the output open and outlive the shell."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        pass  # a process in uninterruptible sleep (disk, network) cannot be killed


def _parse(name: str, api_version: str, output: bytes) -> Json:
    try:
        document = json.loads(output)
        status = document["status"]
        if document["kind"] != "ExecCredential" or not isinstance(status, dict):
            raise KeyError("status")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PluginError(f"exec plugin {name} gave no ExecCredential") from None
    if document.get("apiVersion") != api_version:
        said = document.get("apiVersion")
        raise PluginError(f"exec plugin {name} speaks {said}, the kubeconfig asks for {api_version}")
    return status
