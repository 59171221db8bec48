"""What is known of a connection -> the whole answer. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vk_provider.explain.document import (
    EndpointDocument,
    Explanation,
    PolicyDocument,
    SeenDocument,
    SourceDocument,
    TableDocument,
    TargetDocument,
)
from vk_provider.explain.facts import DnsFacts, Facts
from vk_provider.explain.services import ServiceView, describe_port, is_out_of_step, why_unused, why_used
from vk_provider.explain.verdict import decide
from vk_provider.explain.words import TOO_LARGE, join_address, quote_port, why_no_dns
from vk_provider.netpolicy.judgement import Judgement
from vk_provider.netpolicy.policy import Direction
from vk_provider.serviceproxy.address import Family
from vk_provider.wire.inbound import printable

BEHIND_S = 1.0
"""A table that is out of date for less is on its way."""
_TITLES = {"services": "Services", "policy": "network policies"}


def build(facts: Facts) -> Explanation:
    explanation = Explanation(
        source=_source(facts),
        target=_target(facts),
        endpoints=_endpoints(facts),
        policies=_policies(facts),
        notes=[printable(note) for note in _notes(facts)],
        verdict=decide(facts),
    )
    seen = _seen(facts)
    if seen is not None:
        explanation["seen"] = seen
    return explanation


def _source(facts: Facts) -> SourceDocument:
    source = facts.source
    tables = [
        TableDocument(
            name=table.name,
            newest=table.newest,
            inForce=table.in_force,
            behindSeconds=round(table.behind_s, 1),
            heldSeconds=round(table.held_s, 1),
        )
        for table in source.tables
    ]
    pod = source.pod
    return SourceDocument(
        namespace=pod.namespace,
        name=pod.name,
        node=pod.node,
        phase=pod.phase,
        address=facts.source_address,
        hostNetwork=pod.host_network,
        instance=source.instance,
        tables=tables,
        agent=printable(facts.kernel.silent),
    )


def _target(facts: Facts) -> TargetDocument:
    view, target, frontend = facts.view, facts.target, facts.frontend
    address = frontend.address if frontend is not None else target.address
    port = frontend.port if frontend is not None else (view.port.number if view is not None else target.number)
    found = TargetDocument(
        written=facts.written, kind="Address", name="", address=address, port=port, protocol=facts.protocol, text=""
    )
    if view is not None:
        found |= {"kind": "ExternalName" if view.kind == "ExternalName" else "Service", "name": view.key}
        found["text"] = _describe_service(facts, view)
    elif target.kind in ("service", "name"):
        found |= {"kind": "Name", "name": target.name, "text": "a name outside of the cluster"}
        if target.outside and target.kind == "name":
            found["text"] = "no such Service, so a name outside of the cluster"
        elif target.kind == "service":
            found |= {"name": f"{target.namespace}/{target.name}", "text": "there is no such Service"}
    elif facts.pod is not None:
        found |= {"kind": "Pod", "name": facts.pod.key, "text": f"pod on Node {facts.pod.node}, {facts.pod.phase}"}
    if facts.route is not None and facts.route.owner.startswith("host ports of "):
        found |= {"kind": "Host port", "text": "a host port of a pod, at its Node's address"}
    elif facts.is_node_address and view is None:
        found["text"] = "the address of a Node"
    return found


def _describe_service(facts: Facts, view: ServiceView) -> str:
    if view.kind == "ExternalName":
        return f"ExternalName: DNS answers with {view.external_name}"
    port, route = view.port, facts.route
    words = [
        f"{view.kind}, port {describe_port(port)}" if port.is_known else f"{view.kind}, no port {quote_port(facts)}"
    ]
    targets = sorted({item.endpoint.port for item in view.endpoints})
    if targets and view.kind != "headless":
        words.append(f"-> {', '.join(map(str, targets))}")
    more = [f"by way of {' and '.join(facts.resolution.followed)}"] if facts.resolution.followed else []
    if facts.is_node_address:
        more.append("at its node port")
    if view.internal_local:
        more.append("internalTrafficPolicy Local")
    if route is not None and route.affinity_s:
        more.append(f"a client stays with its endpoint for {route.affinity_s} s")
    if route is not None and route.is_masqueraded:
        more.append("endpoints see the instance's address")
    return "; ".join([" ".join(words), *more])


def _endpoints(facts: Facts) -> list[EndpointDocument]:
    view, source = facts.view, facts.source
    used = {path.place for path in facts.paths}
    used_addresses = {place.address for place in used}
    rows: list[EndpointDocument] = []
    for item in view.endpoints if view is not None else ():
        endpoint = item.endpoint
        if view is not None and view.kind == "headless":
            is_used = endpoint.address in used_addresses
        else:
            is_used = (endpoint.address, endpoint.port) in used
        why = why_used(item) if is_used or view is None else why_unused(item, view, source.pod.node, source.zone)
        row = EndpointDocument(
            address=endpoint.address, port=endpoint.port, pod=item.pod, node=endpoint.node, used=is_used, why=why
        )
        rows.append(row)
    shown = {(row["address"], row["port"]) for row in rows}
    if facts.route is not None and facts.route.outcome == "chosen":
        rows += [
            EndpointDocument(
                address=path.place.address,
                port=path.place.port,
                pod=path.pod.key if path.pod else "",
                node=path.pod.node if path.pod else "",
                used=True,
                why="in the compiled table",
            )
            for path in facts.paths
            if path.place not in shown
        ]
    return sorted(rows, key=lambda row: not row["used"])


def _policies(facts: Facts) -> list[PolicyDocument]:
    """What says the same of several endpoints is one entry."""
    found: dict[tuple[Direction, str, Judgement], list[str]] = {}
    uids = {facts.source.pod.key: facts.source.pod.uid}
    for path in facts.paths:
        where = "addresses outside the cluster" if facts.is_outside else join_address(*path.place)
        if path.egress is not None:
            found.setdefault(("egress", facts.source.pod.key, path.egress), []).append(where)
        if path.ingress is not None and path.pod is not None:
            uids[path.pod.key] = path.pod.uid
            found.setdefault(("ingress", path.pod.key, path.ingress), []).append(where)
    return [
        PolicyDocument(
            direction=direction,
            pod=pod,
            endpoints=endpoints,
            isolatedBy=list(said.isolated_by),
            allowed=said.allowed,
            rule=f"{said.rule.policy} {direction} rule {said.rule.number}" if said.rule else "",
            text=_rule_text(facts, direction, said),
            drops=_drops(facts, uids[pod], direction) if said.isolated_by else None,
        )
        for (direction, pod, said), endpoints in sorted(found.items(), key=lambda item: item[0][:2])
    ]


def _rule_text(facts: Facts, direction: Direction, said: Judgement) -> str:
    if said.too_large:
        return f"they {TOO_LARGE}"
    return facts.rules.get((said.rule.policy, direction, said.rule.number), "") if said.rule else ""


def _drops(facts: Facts, uid: str, direction: Direction) -> int | None:
    answer = facts.kernel.answer
    own = answer.get("drops") if answer is not None and uid == facts.source.pod.uid else None
    known = own or facts.kernel.drops.get(uid)
    return known.get(direction) if known is not None else None


def _seen(facts: Facts) -> SeenDocument | None:
    frontend, answer = facts.frontend, facts.kernel.answer
    if answer is None or "connections" not in answer or frontend is None:
        return None
    found = [
        item for item in answer["connections"] if (item["port"], item["protocol"]) == (frontend.port, facts.protocol)
    ]
    by_endpoint: dict[str, int] = {}
    for item in found:
        where = join_address(item["endpoint"], item["endpointPort"])
        by_endpoint[where] = by_endpoint.get(where, 0) + 1
    answered = sum(item["answered"] for item in found)
    return SeenDocument(connections=len(found), answered=answered, byEndpoint=by_endpoint)


def _notes(facts: Facts) -> Iterator[str]:
    """What the reader should know beside the verdict."""
    source = facts.source
    if facts.kernel.silent:
        yield f"{facts.kernel.silent}: what is said here is what was compiled for it, not what its kernel has"
    for table in source.tables:
        title = _TITLES[table.name]
        if not table.in_force:
            yield f"no table of {title} is in force on the instance yet"
        elif table.in_force != table.newest and table.behind_s >= BEHIND_S:
            yield f"the instance acts by an earlier table of {title}, out of date for {table.behind_s:.0f} s"
    for name, info in (facts.kernel.answer or {"tables": {}})["tables"].items():
        assert isinstance(info, dict)
        if info["error"]:
            yield f"the instance could not apply its newest table {name}: {info['error']}"
    for pod in sorted(facts.unjudged):
        yield f"the policies of pod {pod} are not compiled yet: nothing is known of them"
    resolution = facts.resolution
    if resolution.other_dns and facts.target.kind == "service" and facts.paths:
        what = "asks the servers of its dnsConfig" if resolution.is_dns_own else "does not ask the cluster's DNS"
        yield f"by address alone: the pod {what} ({resolution.other_dns})"
    if resolution.dns is not None and facts.target.is_name and facts.paths:
        yield from _dns_notes(resolution.dns)
    if resolution.other_family and facts.paths:
        other = "IPv4" if facts.family is Family.IPV6 else "IPv6"
        yield f"judged by {facts.family.api_name}: the name {resolution.other_family} {other} addresses, too"
    if _is_owner_unknown(facts):
        yield f"a pod of another Node may have {facts.target.address}: the API server finds pods by their first address"
    view, route = facts.view, facts.route
    used = [path.place for path in facts.paths] if route is not None and route.outcome == "chosen" else []
    if view is not None and is_out_of_step(view, used):
        yield "the compiled table has endpoints that the API server does not show any more: a change is on its way"
    foreign = [path.pod for path in facts.paths if path.pod is not None and not path.pod.is_ours]
    if any(not pod.host_network for pod in foreign):
        nodes = ", ".join(sorted({pod.node for pod in foreign}))
        yield f"policies for ingress on Node {nodes} are enforced there, and are not looked at here"


def _is_owner_unknown(facts: Facts) -> bool:
    """Whether it is an address that cannot be looked up: IPv4 is nearly every cluster's primary family."""
    is_direct = facts.route is None or facts.route.outcome == "direct"
    is_nobodys = facts.pod is None and facts.view is None and not facts.is_node_address
    return facts.target.kind == "address" and facts.family is Family.IPV6 and is_direct and is_nobodys


def _dns_notes(dns: DnsFacts) -> Iterator[str]:
    if not dns.is_open:
        yield f"by address alone: the pod may not ask the cluster's DNS ({dns.server}, UDP 53)"
    elif dns.route.outcome in ("refused", "dropped"):
        yield f"by address alone: the cluster's DNS ({dns.server}) does not answer: {why_no_dns(dns)}"
