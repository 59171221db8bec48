"""What the API's documentation says about one new connection, word by word (k8s.io/api networking/v1 types.go and
https://kubernetes.io/docs/concepts/services-networking/network-policies/). It shares nothing with the compiler.
"""

from __future__ import annotations

import ipaddress

from tests.policy_worlds import World
from vk_provider.jsontypes import Json


def allows(world: World, subject: str, direction: str, address: str, protocol: str, port: int) -> bool:
    """Whether the pod with UID `subject` may be reached from `address` at its `port` (ingress), or may reach `port` at
    `address` (egress)."""
    pod = world.pods[subject]
    if pod["spec"].get("hostNetwork"):
        return True
    # "By default, a pod is non-isolated [...] if there is any NetworkPolicy that both selects the pod and has "Ingress"
    # in its policyTypes [...] the only allowed connections [...] are those allowed by the ingress list of some" policy.
    isolating = [
        policy
        for policy in world.policies.values()
        if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and is_selected(policy["spec"]["podSelector"], pod["metadata"]["labels"])
        and direction in list_types(policy)
    ]
    if not isolating:
        return True
    for policy in isolating:
        for rule in policy["spec"].get(direction) or []:
            peers = rule.get("from" if direction == "ingress" else "to") or []
            if peers and not any(is_peer(world, policy, peer, address) for peer in peers):
                continue
            answering = pod if direction == "ingress" else find_pod(world, address)
            ports = rule.get("ports") or []
            if not ports or any(is_port(item, answering, protocol, port) for item in ports):
                return True
    return False


def list_types(policy: Json) -> list[str]:
    """ "policies that contain an egress section are assumed to affect egress, and all policies (whether or not they
    contain an ingress section) are assumed to affect ingress"."""
    written = policy["spec"].get("policyTypes")
    if not written:
        return ["ingress", "egress"] if policy["spec"].get("egress") else ["ingress"]
    return [name.lower() for name in written]


def is_peer(world: World, policy: Json, peer: Json, address: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return is_inside(address, block["cidr"]) and not any(
            is_inside(address, item) for item in block.get("except") or []
        )
    pod = find_pod(world, address)
    if pod is None:
        return False
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"]["labels"]
    if "namespaceSelector" not in peer:
        return namespace == policy["metadata"]["namespace"] and is_selected(peer["podSelector"], labels)
    if not is_selected(peer["namespaceSelector"], world.namespaces[namespace]):
        return False
    return "podSelector" not in peer or is_selected(peer["podSelector"], labels)


def find_pod(world: World, address: str) -> Json | None:
    """The pod that has the address now: a terminated one has none, a hostNetwork one has its node's, and its traffic
    is "treated the same as all other traffic to/from the node IP"."""
    for pod in world.pods.values():
        if pod["spec"].get("hostNetwork") or pod["status"]["phase"] in ("Succeeded", "Failed"):
            continue
        if address in [entry["ip"] for entry in pod["status"]["podIPs"]]:
            return pod
    return None


def is_port(item: Json, pod: Json | None, protocol: str, port: int) -> bool:
    if item.get("protocol", "TCP") != protocol:
        return False
    wanted = item.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return wanted <= port <= item.get("endPort", wanted)
    if pod is None:
        return False
    for container in pod["spec"]["containers"]:
        for named in container["ports"]:
            if named["name"] == wanted and named["protocol"] == protocol:
                return bool(named["containerPort"] == port)
    return False


def is_inside(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def is_selected(selector: Json, labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        key, operator = expression["key"], expression["operator"]
        if operator == "In" and labels.get(key) not in expression["values"]:
            return False
        if operator == "NotIn" and key in labels and labels[key] in expression["values"]:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
    return True
