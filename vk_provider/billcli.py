"""`vk-provider instances` and `vk-provider cost`: ask the providers of the Nodes through the API server, with the
user's kubeconfig, or read a ledger's file.

Exit codes: 0 answered, 2 the question cannot be answered as it was put, 3 nobody could be asked.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.instancerows import InstanceAnswer, InstanceRow, render_instances
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import NODES, node_path
from vk_provider.ledger.question import (
    CostQuestionError,
    CostReport,
    answer,
    merge,
    parse_question,
)
from vk_provider.ledger.report import FORMATS, render_cost, render_rows
from vk_provider.ledger.span import SNAPSHOT
from vk_provider.ledger.store import LedgerStoreError, open_for_reading

ANSWER_LIMIT_S = 30.0
BAD_REQUEST = 2
OUR_PROVIDER_ID = "vk-provider://"
MAX_MESSAGE = 1000

AnswerT = TypeVar("AnswerT")


def main(argv: Sequence[str]) -> int:
    """argv: with the command. Raises BadStartError."""
    options = _parse(argv)
    try:
        sys.stdout.write(_list_instances(options) if options.command == "instances" else _ask_cost(options))
    except CostQuestionError as error:
        print(f"vk-provider: {_one_line(error)}", file=sys.stderr)
        return BAD_REQUEST
    except (BadStartError, LedgerStoreError) as error:  # it may quote what the asked Node has answered
        raise BadStartError(_one_line(error)) from None
    return 0


def _one_line(error: Exception) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(error)[:MAX_MESSAGE])


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vk-provider")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    instances = commands.add_parser(
        "instances",
        help="what runs, for which pod, since when and at what price",
        description="Lists the instances of the Nodes. WITNESS says who names the pod: its agent, the pod's status, "
        "the instance's tags, or the launch alone; of a spare one, that it is empty (agent), stopped (listing) or of "
        "its pool (tags). USD/H is with the network disks. DISKS: root volume, disks within the machine, data "
        "volumes. What makes prepared images is for (prepared images), and so are the snapshots that are kept of them, "
        "which -o wide, json and csv show, too. It needs the permissions to list nodes and to get nodes/proxy.",
    )
    cost = commands.add_parser(
        "cost",
        help="what instances have cost",
        description="Sums costs from the ledgers of the providers. It needs the permissions to list nodes and to get "
        "nodes/proxy, or with --ledger that to read the file.",
    )
    cost.add_argument(
        "--by",
        default="namespace",
        metavar="KEYS",
        help="namespace, label:KEY, node, type, zone, capacity, pod or instance; several with commas",
    )
    cost.add_argument("--since", default="7d", help="an age such as 7d, 12h or 90m, a date or RFC 3339 (default: 7d)")
    cost.add_argument("--until", default="", help="the same (default: now)")
    source = cost.add_mutually_exclusive_group()
    source.add_argument("--from-tags", action="store_true", help="from the cloud's listing alone, as far as it reaches")
    source.add_argument("--ledger", metavar="FILE", help="read this file instead of asking providers")
    for command in (instances, cost):
        command.add_argument("--node", default="", help="of this Node alone")
        command.add_argument("-o", "--output", choices=FORMATS, default="table", help="wide: a table with all columns")
        command.add_argument("--kubeconfig", help="default: $KUBECONFIG, ~/.kube/config or in-cluster")
        command.add_argument("--context", help="of the kubeconfig")
    return parser.parse_args(argv)


def _list_instances(options: argparse.Namespace) -> str:
    answers = asyncio.run(_ask(options, "bill/instances", {}))
    rows = [row for each in answers for row in _read(each, InstanceAnswer)["instances"]]
    rows.sort(key=lambda row: (row["since"], row["instance"]))
    if options.output == "table":
        rows = [row for row in rows if row["type"] != SNAPSHOT]
    if options.output in ("table", "wide"):
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        return render_instances(rows, time.time(), is_wide=options.output == "wide", width=width)
    return render_rows(list(InstanceRow.__annotations__), rows, options.output)


def _ask_cost(options: argparse.Namespace) -> str:
    given = {"by": options.by, "since": options.since, "until": options.until}
    now = time.time()
    question = parse_question(given, now, options.node)
    if options.ledger:
        store = open_for_reading(options.ledger)
        try:
            return render_cost(answer(store, question), options.output)
        finally:
            store.close()
    # All providers are asked for the same time, by whatever clock they have.
    asked = {
        "by": options.by,
        "since": f"{question.since:.3f}",
        "until": f"{question.until:.3f}" if options.until else "",
        "source": "tags" if options.from_tags else "ledger",
        "alone": "1" if options.node else "",
    }
    answers = asyncio.run(_ask(options, "bill/cost", {name: value for name, value in asked.items() if value}))
    return render_cost(merge([_read(each, CostReport) for each in answers]), options.output)


async def _ask(options: argparse.Namespace, path: str, query: Mapping[str, str]) -> list[Json]:
    """Of each of our Nodes. Raises CostQuestionError, BadStartError."""
    client = await KubeClient.connect(options.kubeconfig, options.context)
    try:
        nodes = await _find_nodes(client, options.node)
        return list(await asyncio.gather(*(_ask_node(client, node, path, query) for node in nodes)))
    except KubeApiError as error:
        if error.is_invalid:
            raise CostQuestionError(str(error)) from None
        raise BadStartError(str(error)) from None
    finally:
        await client.close()


async def _find_nodes(client: KubeClient, wanted: str) -> list[str]:
    listed = (await client.get(NODES)).get("items") or []
    ours = [
        str(node["metadata"]["name"])
        for node in listed
        if str((node.get("spec") or {}).get("providerID") or "").startswith(OUR_PROVIDER_ID)
    ]
    if wanted and wanted not in ours:
        raise CostQuestionError(f"{wanted} is not a Node of vk-provider; there are: {', '.join(ours) or 'none'}")
    if not ours:
        raise CostQuestionError("the cluster has no Node of vk-provider")
    return [wanted] if wanted else ours


async def _ask_node(client: KubeClient, node: str, path: str, query: Mapping[str, str]) -> Json:
    try:
        return await client.request(
            "GET", node_path(node, f"proxy/{path}"), query=query, timeout_s=ANSWER_LIMIT_S, retry=False
        )
    except KubeApiError as error:
        if error.is_not_found:
            raise BadStartError(f"the provider of Node {node} is of a version without this question") from None
        raise


def _read(document: Json, kind: type[AnswerT]) -> AnswerT:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise BadStartError(f"the provider's answer is of another version: {error}") from None
