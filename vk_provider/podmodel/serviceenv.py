"""Service environment variables: X_SERVICE_HOST, X_SERVICE_PORT and the docker-link names.

Source: the documentation "Discovering services"; order and names as the kubelet's.
"""

from __future__ import annotations

from collections.abc import Iterable

from vk_provider.jsontypes import Json


def _variable_name(text: str) -> str:
    return text.replace("-", "_").upper()


def build_service_environment(services: Iterable[Json], namespace: str, service_links: bool) -> dict[str, str]:
    """Return the variables of the namespace's services (when `service_links`) and always of default/kubernetes.

    services: [{"name", "namespace", "clusterIP", "ports": [{"name", "port", "protocol"}]}]; headless ones are skipped.
    """
    chosen: dict[str, Json] = {}
    for service in services:
        if service.get("clusterIP") in (None, "", "None") or not service.get("ports"):
            continue
        name = service["name"]
        if service.get("namespace") == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
        elif service.get("namespace") == namespace and service_links:
            chosen[name] = service
    variables: dict[str, str] = {}
    for name in sorted(chosen):
        variables.update(_service_variables(chosen[name]))
    return variables


def _service_variables(service: Json) -> dict[str, str]:
    prefix = _variable_name(service["name"])
    address = service["clusterIP"]
    ports = service["ports"]
    variables = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
    variables[f"{prefix}_PORT"] = _link(address, ports[0])
    for port in ports:
        protocol = port.get("protocol") or "TCP"
        link = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        variables[link] = _link(address, port)
        variables[f"{link}_PROTO"] = protocol.lower()
        variables[f"{link}_PORT"] = str(port["port"])
        variables[f"{link}_ADDR"] = address
    return variables


def _link(address: str, port: Json) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{(port.get('protocol') or 'TCP').lower()}://{host}:{port['port']}"
