"""/configz: the configuration in force, in the words of a KubeletConfiguration."""

from __future__ import annotations

from aiohttp import web

from vk_provider.kubelet.api import KubeletApi


def add_routes(app: web.Application, api: KubeletApi) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kubeletconfig": api.configuration})

    app.router.add_get("/configz", handle)


def build_configuration(
    address: str, port: int, cluster_dns: list[str], cluster_domain: str, max_pods: int, idle_s: float
) -> dict[str, object]:
    """The KubeletConfiguration fields that hold for a nodeless node; the others have no meaning here."""
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": True,
        "address": address,
        "port": port,
        "authentication": {
            "x509": {},
            "webhook": {"enabled": True, "cacheTTL": "2m0s"},
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
        },
        "clusterDomain": cluster_domain,
        "clusterDNS": cluster_dns,
        "streamingConnectionIdleTimeout": _format_duration(idle_s),
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "maxPods": max_pods,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "cgroupDriver": "cgroupfs",
        "enableDebuggingHandlers": True,
        "enableSystemLogHandler": False,
        "enableSystemLogQuery": False,
        "enableProfilingHandler": False,
        "enableDebugFlagsHandler": False,
        "featureGates": {},
    }


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
