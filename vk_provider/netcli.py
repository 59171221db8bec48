"""`vk-provider net explain`: asks the provider of the pod's Node through the API server, with the user's kubeconfig.

Exit codes: 0 it connects, 1 it does not, or that is not known yet, 2 the question cannot be answered as it was put,
3 nobody could be asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

import msgspec

from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.explain.document import Explanation
from vk_provider.explain.report import clean, render
from vk_provider.explain.target import QuestionError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import node_path, pod_path
from vk_provider.podmodel.labels import is_subdomain

ANSWER_LIMIT_S = 30.0
"""Asked once: the provider gives up before, and says so."""
BAD_REQUEST = 2
_NOT_OURS = "page not found"
"""What a kubelet says to the path, or an earlier provider."""


def main(argv: Sequence[str]) -> int:
    """Raises BadStartError."""
    options = _parse(argv)
    try:
        explanation = asyncio.run(_ask(options))
    except QuestionError as error:
        print(f"vk-provider: {clean(str(error))}", file=sys.stderr)
        return BAD_REQUEST
    except BadStartError as error:  # it may quote what the asked Node has answered
        raise BadStartError(clean(str(error))) from None
    if options.output == "json":
        print(json.dumps(explanation, indent=2))
    else:
        sys.stdout.write(render(explanation))
    return 0 if explanation["verdict"]["connects"] else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vk-provider net", description="The cluster's network as a pod meets it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    explain = commands.add_parser(
        "explain",
        help="which Service, endpoints and policies decide whether a pod can connect",
        description="Says which Service, endpoints, policies and rule decide whether a pod can open a connection. "
        "Exit code 0: it connects, 1: it does not, or that is not known yet, 2: bad request, 3: nobody could be asked. "
        "It needs the permissions to get pods and nodes/proxy.",
    )
    explain.add_argument("pod", metavar="POD", help="NAME or NAMESPACE/NAME of the pod that connects")
    explain.add_argument(
        "target",
        metavar="TARGET[:PORT]",
        help="a Service (web, web.shop, web.shop.svc.cluster.local), an address, pod/NAME or pod/NAMESPACE/NAME; "
        "PORT is a number or the name of a Service's port, and may be left out where there is only one",
    )
    explain.add_argument("-n", "--namespace", default="default", help="of the pod (default: default)")
    explain.add_argument("--protocol", default="", help="TCP, UDP or SCTP (default: the port's, else TCP)")
    explain.add_argument("-o", "--output", choices=("text", "json"), default="text")
    explain.add_argument("--kubeconfig", help="default: $KUBECONFIG, ~/.kube/config or in-cluster")
    explain.add_argument("--context", help="of the kubeconfig")
    return parser.parse_args(argv)


async def _ask(options: argparse.Namespace) -> Explanation:
    """Raises QuestionError, BadStartError."""
    before, slash, after = options.pod.partition("/")
    namespace, name = (before, after) if slash else (options.namespace, before)
    if not is_subdomain(namespace) or not is_subdomain(name):
        raise QuestionError(f"POD is written NAME or NAMESPACE/NAME, not {options.pod!r}")
    client = await KubeClient.connect(options.kubeconfig, options.context)
    try:
        return await _ask_node(client, namespace, name, options)
    except KubeApiError as error:
        if error.is_invalid or error.is_not_found:
            raise QuestionError(str(error)) from None
        raise BadStartError(str(error)) from None
    finally:
        await client.close()


async def _ask_node(client: KubeClient, namespace: str, name: str, options: argparse.Namespace) -> Explanation:
    pod = await client.get(pod_path(namespace, name))
    node = str((pod.get("spec") or {}).get("nodeName") or "")
    if not node:
        raise QuestionError(f"pod {namespace}/{name} is not bound to a Node yet")
    path = node_path(node, f"proxy/net/explain/{namespace}/{name}")
    query = {"target": options.target, "protocol": options.protocol}
    try:
        answer = await client.request("GET", path, query=query, timeout_s=ANSWER_LIMIT_S, retry=False)
    except KubeApiError as error:
        if error.is_not_found and _NOT_OURS in str(error).lower():
            raise QuestionError(f"Node {node} of pod {namespace}/{name} is not one of vk-provider") from None
        raise
    return read(answer)


def read(answer: Json) -> Explanation:
    """Raises BadStartError for what is no Explanation."""
    try:
        return msgspec.convert(answer, Explanation)
    except msgspec.ValidationError as error:
        raise BadStartError(f"the provider's answer is of another version: {error}") from None
