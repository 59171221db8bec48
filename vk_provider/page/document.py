"""The page as a document of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vk_provider.page.chart import draw_bar, draw_history
from vk_provider.page.facts import LatencyFacts, NamespaceFacts, NodeFacts, OfferingFacts, PageFacts
from vk_provider.page.markup import Markup, cut, format_moment, join, tag
from vk_provider.page.style import STYLE

MAX_ROWS = 20
"""Of each list; how many more there are is said."""
MAX_STAGES = 6
REFRESH_S = 30
PHASES = ("Running", "Pending", "Succeeded", "Failed", "Unknown")

Row = Sequence[object]


def render_page(facts: PageFacts) -> str:
    title = f"vk-provider: {cut(facts.owner)}"
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="refresh" content="{REFRESH_S}">'),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    body = tag("body", tag("main", *_parts(facts)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _parts(facts: PageFacts) -> Iterable[Markup]:
    since = f"version {facts.version}, since {format_moment(facts.started_at)}"
    where = f"{cut(facts.owner)} on the {cut(facts.cloud)} cloud"
    yield tag("header", tag("h1", "vk-provider"), tag("p", where), tag("p", since))
    if facts.problems:
        yield tag("ul", *(tag("li", cut(each, 400)) for each in facts.problems[:MAX_ROWS]), class_="problems")
    yield _figures(facts)
    yield tag(
        "div",
        _card("USD an hour by namespace", _history(facts), wide=True),
        _card("Nodes", _nodes(facts.nodes)),
        _card("Namespaces", _namespaces(facts.namespaces, facts)),
        _card("Instances by type and zone", _offerings(facts.offerings)),
        _card("Launches", _launches(facts)),
        _card("From bind to", _latencies(facts.latencies)),
        _card("Capacity that is short", _shortages(facts)),
        class_="cards",
    )
    yield tag("footer", f"As of {format_moment(facts.now)}. The page loads itself again every {REFRESH_S} s.")


def _card(title: str, content: Markup, *, wide: bool = False) -> Markup:
    return tag("section", tag("h2", title), content, class_="wide" if wide else None)


def _figures(facts: PageFacts) -> Markup:
    instances = sum(each.instances for each in facts.offerings)
    usd = sum(each.usd for each in facts.namespaces)  # all that is paid for, as the limit counts it
    limit = f"an hour of at most ${facts.limit:.2f}" if facts.limit else "an hour"
    stages = [f"{count} {cut(stage)}" for stage, count in sorted(facts.stages.items()) if count][:MAX_STAGES]
    shown = [(f"${usd:.4f}", limit), (str(instances), f"instances: {', '.join(stages)}" if stages else "instances")]
    shown += [(str(facts.phases[phase]), f"pods {phase}") for phase in PHASES if facts.phases.get(phase)]
    if facts.held_pods:
        shown.append((str(facts.held_pods), "pods wait for room in the budget"))
    figures = (tag("div", tag("b", value), tag("span", name), class_="figure") for value, name in shown)
    return tag("div", *figures, class_="figures")


def _history(facts: PageFacts) -> Markup:
    if facts.history is None:
        return tag("p", "The history is not known at the moment.", class_="empty")
    return draw_history(facts.history)


def _nodes(nodes: Sequence[NodeFacts]) -> Markup:
    rows = [
        (
            cut(each.name),
            cut(each.zone) or "-",
            tag("span", cut(each.problem) or "Ready", class_="bad" if each.problem else "good"),
            f"{each.pods} of {each.capacity}" if each.capacity else str(each.pods),
            draw_bar(each.pods / each.capacity if each.capacity else 0.0, f"{each.pods} of {each.capacity} pods"),
        )
        for each in nodes
    ]
    return _table(("name", "zone", "state", "#pods", ""), rows, "There is no Node.")


def _namespaces(namespaces: Sequence[NamespaceFacts], facts: PageFacts) -> Markup:
    most = max((each.usd for each in namespaces), default=0.0) or 1.0
    rows = []
    for each in sorted(namespaces, key=lambda each: (-each.usd, each.name)):
        share = each.usd / (each.limit or most)
        said = f"of ${each.limit:.4f}" if each.limit else ""
        bar = draw_bar(share if each.limit else min(share, 0.89), f"{100 * share:.0f} %")
        rows.append((cut(each.name) or "(spare)", str(each.instances), f"${each.usd:.4f}", said, bar))
    return _table(("namespace", "#instances", "#USD an hour", "limit", ""), rows, "No instance runs.")


def _offerings(offerings: Sequence[OfferingFacts]) -> Markup:
    ranked = sorted(offerings, key=lambda each: (-each.usd, each.instance_type, each.zone, each.capacity_type))
    rows = [
        (cut(each.instance_type), cut(each.zone), cut(each.capacity_type), str(each.instances), f"${each.usd:.4f}")
        for each in ranked
    ]
    return _table(("type", "zone", "capacity", "#instances", "#USD an hour"), rows, "No instance runs.")


def _launches(facts: PageFacts) -> Markup:
    rows = [(cut(result), str(count)) for result, count in sorted(facts.launches.items())]
    return _table(("result", "#instances since the start"), rows, "Nothing was launched yet.")


def _latencies(latencies: Sequence[LatencyFacts]) -> Markup:
    rows = [
        (each.name, str(each.count), *(f"{seconds:.2f} s" if each.count else "-" for seconds in each.quantiles))
        for each in latencies
    ]
    return _table(("what", "#pods", "#p50", "#p95", "#p99"), rows, "No pod was launched yet.")


def _shortages(facts: PageFacts) -> Markup:
    rows = [(cut(what), f"{seconds:.0f} s") for what, seconds in facts.shortages]
    return _table(("what", "#avoided for"), rows, "The cloud has refused nothing lately.")


def _table(heads: Sequence[str], rows: Sequence[Row], empty: str) -> Markup:
    """A head that begins with # is above numbers."""
    if not rows:
        return tag("p", empty, class_="empty")
    kinds = ["number" if head.startswith("#") else None for head in heads]
    head = tag("tr", *(tag("th", name.lstrip("#"), class_=kind) for name, kind in zip(heads, kinds, strict=True)))
    lines = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows[:MAX_ROWS]
    ]
    table = tag("div", tag("table", tag("thead", head), tag("tbody", *lines)), class_="scroll")
    more = len(rows) - MAX_ROWS
    return join((table, tag("p", f"and {more} more", class_="more"))) if more > 0 else table
