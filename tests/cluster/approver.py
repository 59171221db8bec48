"""Approves serving certificates of our own nodes: nobody else does, the controller manager only signs what is approved.

`up` runs it beside the control plane, `run` in the foreground. It acts as a user of its own that may do nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.approval import SIGNER, Policy, find_objection, is_pending
from tests.cluster.controlplane import ControlPlane

__all__ = ["Policy", "down", "run", "run_approver", "up"]

NAME = "kubelet-serving-approver"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SELECTOR = {"fieldSelector": f"spec.signerName={SIGNER}"}
RETRY_S = 1.0
logger = logging.getLogger(__name__)


def up(plane: ControlPlane, policy: Policy) -> None:
    """Start it as a process of the control plane's state directory; it ends with `down` of either."""
    _grant(plane)
    arguments = ["-m", "tests.cluster", "approver", "run", "--state", str(plane.state.root)]
    for flag, values in (("node", policy.nodes), ("network", policy.networks), ("requestor", policy.requestors)):
        arguments += [word for value in values for word in (f"--{flag}", value)]
    tree = str(Path(__file__).parents[2])
    plane.state.process(NAME).start([sys.executable, *arguments], {"PYTHONPATH": tree})


def down(plane: ControlPlane) -> None:
    """Stop it."""
    plane.state.process(NAME).stop()


def run(plane: ControlPlane, policy: Policy) -> None:
    """Approve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _grant(plane)
    asyncio.run(_run_until_signal(plane, policy))


async def _run_until_signal(plane: ControlPlane, policy: Policy) -> None:
    task = asyncio.create_task(run_approver(plane, policy), name=NAME)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass  # the signal asked for it, and nothing is left to do


async def run_approver(plane: ControlPlane, policy: Policy) -> None:
    """List, then watch, and approve what the policy allows; starts over when the API server was away. Runs for ever."""
    context = ssl.create_default_context(cafile=str(plane.ca))
    context.load_cert_chain(*plane.client_certificate(NAME))
    connector = aiohttp.TCPConnector(ssl=context)
    timeout = aiohttp.ClientTimeout(total=None, connect=10)
    async with aiohttp.ClientSession(plane.url, connector=connector, timeout=timeout) as session:
        while True:
            try:
                async for request in _follow(session):
                    await _decide(session, request, policy)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                logger.warning("API server: %s", error)
            await asyncio.sleep(RETRY_S)


async def _follow(session: aiohttp.ClientSession) -> AsyncIterator[dict[str, Any]]:
    """Every request there is and every one that comes, until the watch ends."""
    async with session.get(REQUESTS, params=SELECTOR, raise_for_status=True) as answer:
        listed = await answer.json()
    for request in listed["items"]:
        yield request
    watch = {**SELECTOR, "watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with session.get(REQUESTS, params=watch, raise_for_status=True) as answer:
        async for line in answer.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return  # the version is too old: list again
            if event["type"] == "ADDED":
                yield event["object"]


async def _decide(session: aiohttp.ClientSession, request: dict[str, Any], policy: Policy) -> None:
    if not is_pending(request):
        return
    name, user = request["metadata"]["name"], request["spec"].get("username")
    objection = find_objection(request, policy)
    if objection:
        logger.warning("left pending %s of %s: %s", name, user, objection)
        return
    approved = {"type": "Approved", "status": "True", "reason": "OurNode", "message": "a node of this cluster"}
    body = {**request, "status": {**request.get("status", {}), "conditions": [approved]}}
    # A line of a watch has no kind of its own; a list's item has none either.
    body |= {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    async with session.put(f"{REQUESTS}/{name}/approval", json=body) as answer:
        if answer.status in (404, 409):
            return  # gone, or decided meanwhile
        answer.raise_for_status()
    logger.info("approved %s of %s", name, user)


def _grant(plane: ControlPlane) -> None:
    """The user and its role: read requests, approve those of this signer."""
    plane.kubeconfig_for(NAME)
    group = "rbac.authorization.k8s.io"
    certificates = "certificates.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": [
            {
                "apiGroups": [certificates],
                "resources": ["certificatesigningrequests"],
                "verbs": ["get", "list", "watch"],
            },
            {"apiGroups": [certificates], "resources": ["certificatesigningrequests/approval"], "verbs": ["update"]},
            {"apiGroups": [certificates], "resources": ["signers"], "resourceNames": [SIGNER], "verbs": ["approve"]},
        ],
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAME},
        "subjects": [{"apiGroup": group, "kind": "User", "name": NAME}],
    }
    plane.rest.apply(f"/apis/{group}/v1/clusterroles/{NAME}", role)
    plane.rest.apply(f"/apis/{group}/v1/clusterrolebindings/{NAME}", binding)
