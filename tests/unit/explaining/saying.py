"""A pod that asks, what it may ask for, and what it is told."""

from __future__ import annotations

from tests.policy_worlds import make_pod
from tests.service_objects import make_port, make_service, make_slice
from tests.unit.explaining.rig import World
from vk_provider.explain.document import Explanation
from vk_provider.jsontypes import Json

CLIENT, SERVER = "10.1.0.1", "10.1.0.2"
WEB = make_service("a/web", "10.96.0.2", ports=[make_port(80, name="http")])
WEB_PORTS = [{"name": "http", "protocol": "TCP", "port": 8080}]


def web_slice(*endpoints: Json) -> Json:
    return make_slice("a/web", *endpoints, ports=WEB_PORTS)


def pod(name: str, address: str, **more: object) -> Json:
    return make_pod(name, "a", {"app": name}, address, **more)


def headless(*endpoints: Json, port: int = 80) -> tuple[Json, Json]:
    made = make_slice("a/peers", *endpoints, ports=[{"name": "", "protocol": "TCP", "port": 8080}])
    made["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    service = make_service("a/peers", "None", ports=[make_port(port)])
    return service, made


async def verdict(world: World, written: str, protocol: str = "") -> tuple[str, str, str]:
    said = (await world.explain("client", written, protocol))["verdict"]
    assert said["connects"] == (said["outcome"] == "connects")
    return said["outcome"], said["text"], said["next"]


def rows(explanation: Explanation) -> list[tuple[str, bool, str]]:
    return [(row["address"], row["used"], row["why"]) for row in explanation["endpoints"]]
