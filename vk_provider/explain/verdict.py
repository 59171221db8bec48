"""One line that says whether the connection is made, and the next step when it is not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vk_provider.explain.document import Outcome, VerdictDocument
from vk_provider.explain.facts import Facts, Path
from vk_provider.explain.services import ServiceView, ready_endpoints
from vk_provider.explain.words import TOO_LARGE, count, join_address, name_path, quote_port, why_no_dns
from vk_provider.netpolicy.judgement import Judgement
from vk_provider.serviceproxy.service import PROXY_NAME_LABEL

_AGAIN = "ask again in a second"


def decide(facts: Facts) -> VerdictDocument:
    """The first reason counts, in the order in which a connection meets them."""
    steps: tuple[Callable[[Facts], VerdictDocument | None], ...] = (
        _of_source,
        _of_no_table,
        _of_name,
        _of_route,
        _of_pod,
        _of_paths,
    )
    for step in steps:
        verdict = step(facts)
        if verdict is not None:
            return verdict
    raise AssertionError("unreachable: the paths decide")


def _say(outcome: Outcome, text: str, following: str = "") -> VerdictDocument:
    return VerdictDocument(outcome=outcome, connects=outcome == "connects", text=text, next=following)


def _of_source(facts: Facts) -> VerdictDocument | None:
    pod = facts.source.pod
    if pod.has_ended:
        return _say("impossible", f"pod {pod.key} has ended ({pod.phase})")
    if not pod.addresses:
        following = f"kubectl -n {pod.namespace} describe pod {pod.name}"
        return _say("impossible", f"pod {pod.key} is {pod.phase} and has no address yet", following)
    if facts.frontend is not None and facts.frontend.family not in pod.families:
        text = f"pod {pod.key} has no IPv{facts.frontend.family} address, and {facts.frontend.address} is one"
        return _say("impossible", text)
    return None


def _of_no_table(facts: Facts) -> VerdictDocument | None:
    """Without it an address of the Services' networks looks like any other."""
    if facts.has_table:
        return None
    return _say("unknown", "the provider has not compiled a table of Services yet", _AGAIN)


def _of_unjudged(facts: Facts) -> VerdictDocument | None:
    """Where nothing that is known is in the way. Without a judgement a path counts as open."""
    if not facts.unjudged:
        return None
    pods = sorted(facts.unjudged)
    more = f" (and of {count(len(pods) - 1, 'other pod')})" if len(pods) > 1 else ""
    return _say("unknown", f"the policies of pod {pods[0]} are not compiled yet{more}", _AGAIN)


def _of_name(facts: Facts) -> VerdictDocument | None:
    """What DNS decides alone."""
    target, view = facts.target, facts.view
    if target.kind == "service" and view is None:
        following = f"kubectl -n {target.namespace} get services"
        return _say("unresolved", f"no Service {target.name!r} in namespace {target.namespace!r}", following)
    by_dns = _of_dns(facts)
    if by_dns is not None:
        return by_dns
    if target.kind == "name" or (view is not None and view.kind == "ExternalName"):
        return _of_outside_name(facts, target.name if view is None else view.external_name)
    if view is not None and view.kind == "headless" and not facts.paths:
        return _of_empty_headless(facts, view)
    if view is not None and view.kind != "headless" and facts.frontend is None:
        families = " or ".join(family.api_name for family in facts.source.pod.families)
        return _say("unresolved", f"Service {view.key} has no {families} address, and the pod has no other")
    return None


def _of_dns(facts: Facts) -> VerdictDocument | None:
    """Where the name itself leads nowhere unless DNS is asked: a ClusterIP is in the environment, too."""
    resolution, dns, view = facts.resolution, facts.resolution.dns, facts.view
    is_clusters = bool(resolution.followed) or (view is not None and view.kind in ("headless", "ExternalName"))
    if resolution.other_dns and not resolution.is_dns_own and is_clusters:
        policy = "ClusterFirstWithHostNet" if facts.source.pod.host_network else "ClusterFirst"
        text = f"the pod does not ask the cluster's DNS ({resolution.other_dns}), which alone knows {facts.target.name}"
        return _say("unresolved", text, f"give it dnsPolicy: {policy}")
    if dns is None or not (is_clusters or facts.target.kind == "name"):
        return None
    if not dns.is_open:
        return _say(
            "dropped",
            f"the name cannot be resolved: the pod may not ask the cluster's DNS ({dns.server}, UDP 53)",
            "allow the question in its policies for egress: UDP and TCP 53",
        )
    if dns.route.outcome in ("refused", "dropped"):
        return _say("unresolved", f"the cluster's DNS ({dns.server}) does not answer: {why_no_dns(dns)}")
    return None


def _of_outside_name(facts: Facts, name: str) -> VerdictDocument:
    """No address is known here. The one path stands for every address that no pod has."""
    if facts.resolution.is_loop:
        return _say("unresolved", f"ExternalName Services name each other: {', '.join(facts.resolution.followed)}")
    if all(path.is_open for path in facts.paths):
        unjudged = _of_unjudged(facts)
        if unjudged is not None:
            return unjudged
        service, _, namespace = facts.target.outside.partition(".")
        why = f", as there is no Service {service!r} in namespace {namespace!r}" if facts.target.outside else ""
        return _say("connects", f"DNS alone decides{why}: nothing here keeps the pod from whatever {name} stands for")
    return _say(
        "dropped",
        f"no policy for egress allows {facts.protocol} {facts.paths[0].place.port} to addresses outside the cluster,"
        f" as that of {name} may be",
        "ask again for the address that the name stands for",
    )


def _of_nobody(facts: Facts, address: str) -> VerdictDocument:
    """An address of the Services' networks that the table does not have."""
    view = facts.view
    if view is None:
        return _say("dropped", f"no Service has the address {address}", "kubectl get services -A")
    if view.kind == "foreign":
        text = f"Service {view.key} is left to another proxy by its label {PROXY_NAME_LABEL}, and none runs here"
        return _say("dropped", text, "take the label away")
    return _say("dropped", f"Service {view.key} is not in the compiled table yet", _AGAIN)


def _of_empty_headless(facts: Facts, view: ServiceView) -> VerdictDocument:
    host = f"{facts.target.host}." if facts.target.host else ""
    text = (
        f"headless Service {view.key} has no ready endpoint: DNS has no address for {host}{view.key.partition('/')[2]}"
    )
    return _say("unresolved", text, _next_for_endpoints(view))


def _wrong_port(view: ServiceView, facts: Facts) -> VerdictDocument:
    return _say(
        "refused",
        f"Service {view.key} has no port {view.port.number}/{facts.protocol}",
        f"its ports are {view.written_ports}",
    )


def _of_route(facts: Facts) -> VerdictDocument | None:
    """What the table of Services refuses or drops."""
    route, view = facts.route, facts.view
    if route is None or route.outcome in ("chosen", "direct"):
        return None
    assert facts.frontend is not None
    where = join_address(facts.frontend.address, facts.frontend.port)
    if route.cause == "no-such-service":
        return _of_nobody(facts, facts.frontend.address)
    name = f"Service {route.owner}" if view is None or view.key == route.owner else f"Service {view.key}"
    match route.cause:
        case "no-endpoints":
            return _say("refused", f"{name} has no ready endpoint", _next_for_endpoints(view) if view else "")
        case "endpoints-elsewhere":
            following = f"run one on Node {facts.source.pod.node}, or set internalTrafficPolicy: Cluster"
            return _say(
                "dropped", f"{name} has endpoints on other Nodes only, and its traffic policy is Local", following
            )
        case "source-ranges":
            following = f"add {facts.source_address}, or use the ClusterIP"
            return _say("dropped", f"loadBalancerSourceRanges of {name} do not admit the pod at {where}", following)
        case "no-such-port" if view is not None and view.key != route.owner:
            text = f"the endpoints of {name} are addresses of Service {route.owner}, which are not translated again"
            return _say("refused", text)
        case "no-such-port" if view is not None:
            return _wrong_port(view, facts)
        case _:
            return _say("refused", f"{name} has no port {quote_port(facts)}")


def _next_for_endpoints(view: ServiceView) -> str:
    namespace, _, name = view.key.partition("/")
    unready = [item for item in view.endpoints if not item.endpoint.ready]
    if unready and unready[0].pod:
        where, _, pod = unready[0].pod.partition("/")
        return f"{count(len(unready), 'endpoint')} not ready: kubectl -n {where} describe pod {pod}"
    if view.selector:
        return f"pods of its selector: kubectl -n {namespace} get pods -l {view.selector}"
    return f"it has no selector, so somebody must write its EndpointSlices: kubectl -n {namespace} get endpointslices"


def _of_pod(facts: Facts) -> VerdictDocument | None:
    """A pod that was named and cannot be reached, whatever the network does."""
    pod = facts.pod
    if facts.target.kind != "pod" or pod is None:
        return None
    if pod.has_ended:
        return _say("dropped", f"pod {pod.key} has ended ({pod.phase}): nobody has its address")
    if not pod.addresses:
        following = f"kubectl -n {pod.namespace} describe pod {pod.name}"
        return _say("dropped", f"pod {pod.key} is {pod.phase} and has no address yet", following)
    return None


def _of_paths(facts: Facts) -> VerdictDocument:
    closed = [path for path in facts.paths if not path.is_open]
    if closed:
        return _of_closed(facts, closed)
    unjudged = _of_unjudged(facts)
    if unjudged is not None:
        return unjudged
    view = facts.view
    if view is not None and view.kind == "headless":
        return _of_headless(facts, view)
    if facts.route is not None and facts.route.outcome == "chosen":
        return _say("connects", f"connects to {_of_endpoints(facts)}")
    (path,) = facts.paths
    if path.pod is not None and path.pod.is_ours:
        return _say("connects", f"connects to {name_path(path)}, if it listens there")
    if path.pod is not None and not path.pod.host_network:
        return _say("connects", f"nothing here is in the way to {name_path(path)}; its own Node may enforce policies")
    what = "the Node" if facts.is_node_address else "whoever is there"
    return _say("connects", f"nothing here is in the way to {join_address(*path.place)}: {what} answers, or not")


def _of_headless(facts: Facts, view: ServiceView) -> VerdictDocument:
    """Its ports are not translated."""
    listening = {item.endpoint.port for item in ready_endpoints(view)}
    asked = {path.place.port for path in facts.paths}
    if asked != listening:
        ports = ", ".join(map(str, sorted(listening))) or view.written_ports
        text = (
            f"headless Service {view.key} translates no ports: its endpoints listen on {ports}, not {quote_port(facts)}"
        )
        return _say("refused", text, f"use port {ports}")
    return _say("connects", f"connects to {_of_endpoints(facts)}: DNS gives the addresses of the pods")


def _of_endpoints(facts: Facts) -> str:
    """Such as `one of 2 endpoints of Service a/web`."""
    owner = facts.view.key if facts.view else facts.route.owner if facts.route else ""
    whose = f" of Service {owner}" if facts.view else ""
    if len(facts.paths) == 1:
        return f"{name_path(facts.paths[0])}, the only endpoint{whose}" if whose else name_path(facts.paths[0])
    stays = ", the same one for each client" if facts.route is not None and facts.route.affinity_s else ""
    return f"one of {len(facts.paths)} endpoints{whose}{stays}"


def _of_closed(facts: Facts, closed: Sequence[Path]) -> VerdictDocument:
    reasons = list(dict.fromkeys(reason for path in closed for reason in _reasons(facts, path)))
    more = f" (and {count(len(reasons) - 1, 'other reason')})" if len(reasons) > 1 else ""
    text, following = reasons[0]
    if len(closed) < len(facts.paths):
        text = f"{len(closed)} of {len(facts.paths)} endpoints cannot be reached: {text}"
        return _say("sometimes", text + more, following)
    return _say("dropped", text + more, following)


def _reasons(facts: Facts, path: Path) -> Iterator[tuple[str, str]]:
    """(what, next step) of each direction that is denied."""
    source = facts.source.pod
    port = f"{facts.protocol} {path.place.port}"
    if path.egress is not None and not path.egress.allowed:
        what = f"allows {port} to {name_path(path, with_port=False)}"
        yield _denied("egress", source.key, path.egress, what)
    if path.ingress is not None and not path.ingress.allowed and path.pod is not None:
        who = f"{source.key} ({path.seen_as})"
        if path.seen_as not in source.addresses:
            who = f"{path.seen_as}, the instance of {source.key}: its address stands for the pod's here"
        yield _denied("ingress", path.pod.key, path.ingress, f"allows {port} from {who}")


def _denied(direction: str, pod: str, said: Judgement, what: str) -> tuple[str, str]:
    names = ", ".join(said.isolated_by)
    text = f"dropped by the policies that select pod {pod} for {direction} ({names}): none {what}"
    if said.too_large:
        text = f"dropped: the policies that select pod {pod} for {direction} ({names}) {TOO_LARGE}"
    namespace, _, name = said.isolated_by[0].partition("/") if said.isolated_by else ("", "", "")
    return text, f"kubectl -n {namespace} describe networkpolicy {name}"
