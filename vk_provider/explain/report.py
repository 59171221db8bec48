"""The answer as text for a terminal. Pure.

What is shown is one line per thing, whatever the names in it are: no character of them moves the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vk_provider.explain.document import Explanation, PolicyDocument, TableDocument
from vk_provider.explain.words import count, join_address

MAX_ROWS = 20
"""Endpoints that are listed."""
MAX_TEXT = 1000
"""Characters of a line."""
_HEAD = 9


def render(explanation: Explanation) -> str:
    lines = [
        *_source(explanation),
        *_target(explanation),
        *_endpoints(explanation),
        *_policies(explanation["policies"]),
        *_seen(explanation),
        *(_line("NOTE", note) for note in explanation["notes"]),
        "",
        *_verdict(explanation),
    ]
    return "\n".join(lines) + "\n"


def _line(heading: str, text: str) -> str:
    return f"{heading:<{_HEAD}}{clean(text)}".rstrip()


def clean(text: str) -> str:
    """On one line, without what a terminal acts on, cut to MAX_TEXT characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_TEXT])


def _source(explanation: Explanation) -> Iterator[str]:
    source = explanation["source"]
    where = f"on Node {source['node']}"
    if source["instance"]:
        where += f", instance {source['instance']}"
    address = f" {source['address']}" if source["address"] else ""
    network = ", in the host's network" if source["hostNetwork"] else ""
    yield _line("POD", f"{source['namespace']}/{source['name']}{address} ({source['phase']}{network}) {where}")
    for table in source["tables"]:
        yield _line("", f"{_TABLES.get(table['name'], table['name'])}: {_state(table)}")


_TABLES = {"services": "table of Services", "policy": "table of policies"}


def _state(table: TableDocument) -> str:
    if not table["newest"]:
        return "not compiled yet"
    if not table["inForce"]:
        return "not in force yet"
    if table["inForce"] == table["newest"]:
        return f"in force for {_duration(table['heldSeconds'])}, up to date"
    return f"an earlier one in force, out of date for {_duration(table['behindSeconds'])}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _target(explanation: Explanation) -> Iterator[str]:
    target = explanation["target"]
    where = ""
    if target["address"]:
        where = join_address(target["address"], target["port"]) if target["port"] else target["address"]
    name = f"{target['kind']} {target['name']}".strip() if target["name"] or not where else ""
    text = target["text"]
    yield _line(
        "TARGET", ", ".join(part for part in (name, f"{where} {target['protocol']}" if where else "", text) if part)
    )


def _endpoints(explanation: Explanation) -> Iterator[str]:
    rows = explanation["endpoints"]
    if not rows:
        return
    used = sum(row["used"] for row in rows)
    yield _line("ENDPOINT", f"{used} of {count(len(rows), 'endpoint')} used from here")
    cells = [
        (
            "+" if row["used"] else "-",
            join_address(row["address"], row["port"]),
            row["pod"] or "no pod",
            row["node"] or "no Node",
            row["why"],
        )
        for row in rows[:MAX_ROWS]
    ]
    yield from (_line("", text) for text in _align(cells))
    if len(rows) > MAX_ROWS:
        yield _line("", f"and {len(rows) - MAX_ROWS} more")


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _policies(policies: Sequence[PolicyDocument]) -> Iterator[str]:
    heading = "POLICY"
    for policy in policies[:MAX_ROWS]:
        about = policy["endpoints"][0] if len(policy["endpoints"]) == 1 else f"{len(policy['endpoints'])} endpoints"
        whom = f"{policy['direction']} of {policy['pod']}" + (f" to {about}" if policy["direction"] == "egress" else "")
        yield _line(heading, f"{'+' if policy['allowed'] else '-'}  {whom}: {_said(policy)}")
        heading = ""
        if policy["drops"]:
            yield _line(
                "", f"   its kernel has dropped {count(policy['drops'], 'packet')} of its {policy['direction']}"
            )
    if len(policies) > MAX_ROWS:
        yield _line("", f"and {len(policies) - MAX_ROWS} more")


def _said(policy: PolicyDocument) -> str:
    if not policy["isolatedBy"]:
        return "no policy selects it for that"
    if policy["rule"]:
        return f"{policy['rule']} ({policy['text']})" if policy["text"] else policy["rule"]
    if policy["allowed"]:
        return "allowed"
    return f"no rule of {', '.join(policy['isolatedBy'])} allows it" + (f": {policy['text']}" if policy["text"] else "")


def _seen(explanation: Explanation) -> Iterator[str]:
    seen = explanation.get("seen")
    if seen is None:
        return
    text = f"{count(seen['connections'], 'connection')} tracked by the kernel now, {seen['answered']} answered"
    if seen["byEndpoint"]:
        text += ": " + ", ".join(f"{number} by {where}" for where, number in sorted(seen["byEndpoint"].items())[:4])
    yield _line("SEEN", text)


def _verdict(explanation: Explanation) -> Iterator[str]:
    verdict = explanation["verdict"]
    text = verdict["text"]
    if verdict["outcome"] in ("refused", "dropped", "unknown") and not text.startswith(verdict["outcome"]):
        text = f"{verdict['outcome']}: {text}"
    yield f"=> {clean(text)}"
    if verdict["next"]:
        yield f"   next: {clean(verdict['next'])}"
