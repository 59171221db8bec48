"""A Node on a real control plane, with the provider's own rights."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.waiting import running, until
from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.base import InstancePage
from vk_provider.errors import CloudError
from vk_provider.inventory import take_inventory
from vk_provider.kube.csr import ServingCertificate
from vk_provider.kube.recorder import EventRecorder
from vk_provider.node.controller import NodeController
from vk_provider.node.heldleases import HeldLeases
from vk_provider.node.spec import NodeSpec, Taint
from vk_provider.settings.kubelet import KUBELET_SERVING

CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "1Ti"}


def spec(name: str, **more: Any) -> NodeSpec:
    return NodeSpec(name, "10.99.0.1", CAPACITY, taints=(Taint("virtual-kubelet.io/provider", "t"),), **more)


@asynccontextmanager
async def controlling(provider: Provider, node: NodeSpec, problems: list[str]) -> Any:
    recorder = EventRecorder(provider.client)
    controller = NodeController(provider.client, recorder, node, [lambda: problems[0] if problems else ""])
    async with running(recorder.run(), controller.run()):
        await asyncio.wait_for(controller.registered.wait(), 10)
        yield controller
        await recorder.flush(5)
    check_allowed(provider)
    await provider.plane.kubectl_async("delete", "node", node.name, "--ignore-not-found")


async def read(provider: Provider, *args: str) -> Any:
    return json.loads((await provider.plane.kubectl_async("get", *args, "-o", "json")).stdout)


def modes(directory: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in directory.iterdir()]


async def until_read(provider: Provider, *args: str) -> Any:
    for _ in range(600):
        found = await provider.plane.kubectl_async("get", *args, "-o", "json", check=False)
        if found.returncode == 0:
            return json.loads(found.stdout)
        await asyncio.sleep(0.05)
    raise AssertionError(f"{args} did not appear")


def ready(node: Any) -> Any:
    return next(each for each in node["status"]["conditions"] if each["type"] == "Ready")


async def test_a_node_is_ready_once_its_checks_pass(provider: Provider) -> None:
    problems = ["pods are not listed yet"]
    async with controlling(provider, spec("node-checks"), problems) as controller:
        node = await read(provider, "node", "node-checks")
        assert ready(node)["message"] == "pods are not listed yet"
        problems.clear()
        controller.wake()
        await until(lambda: controller.is_ready)
        node = await read(provider, "node", "node-checks")
        assert (ready(node)["status"], ready(node)["reason"]) == ("True", "KubeletReady")
        lease = await until_read(provider, "lease", "node-checks", "-n", "kube-node-lease")
        assert lease["spec"]["holderIdentity"] == "node-checks"
        assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        await controller._recorder.flush(5)
        events = await read(provider, "events", "--field-selector", "involvedObject.name=node-checks")
        reasons = {event["reason"] for event in events["items"]}
        assert {"Starting", "NodeHasSufficientMemory", "NodeReady"} <= reasons


async def test_a_deleted_node_comes_back_at_once_with_its_lease(provider: Provider) -> None:
    async with controlling(provider, spec("node-deleted"), []) as controller:
        await until(lambda: controller.is_ready and controller.informer.connected and controller.lease.renewed_at)
        first, renewed_at = controller.uid, controller.lease.renewed_at
        await provider.plane.kubectl_async("delete", "node", "node-deleted")
        await until(lambda: controller.uid not in ("", first), timeout_s=3)
        await until(lambda: controller.lease.renewed_at > renewed_at, timeout_s=3)
        lease = await until_read(provider, "lease", "node-deleted", "-n", "kube-node-lease")
        assert lease["metadata"]["ownerReferences"][0]["uid"] == controller.uid


async def test_a_restart_into_a_cloud_outage_holds_the_lease(provider: Provider) -> None:
    """Else the Node's pods, which run on, would be evicted."""
    async with controlling(provider, spec("node-held"), []) as controller:
        await until(lambda: controller.lease.renewed_at)
        before = await until_read(provider, "lease", "node-held", "-n", "kube-node-lease")
        supervisor, cloud = Supervisor(), Outage()
        leases = HeldLeases(supervisor, provider.client, ["node-held", "node-never-seen"])
        asking = asyncio.create_task(take_inventory(cloud, leases))
        held = before
        async with asyncio.timeout(5):  # the first provider itself renews every 10 s
            while held["spec"] == before["spec"]:
                held = await read(provider, "lease", "node-held", "-n", "kube-node-lease")
        assert held["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        cloud.over = True
        assert (await asyncio.wait_for(asking, 10)).instances == []
        assert not supervisor._tasks
    leases_now = await read(provider, "lease", "-n", "kube-node-lease")
    assert "node-never-seen" not in {lease["metadata"]["name"] for lease in leases_now["items"]}


class Outage:
    """A Cloud that fails until it is `over`."""

    name = "outage"
    over = False

    async def describe_offerings(self) -> list[Any]:
        if not self.over:
            raise CloudError("no answer")
        return []

    async def describe_runtime(self) -> None:
        return None

    async def list_page(self, page: str = "") -> InstancePage:
        return InstancePage(())


async def test_a_condition_that_somebody_else_sets_is_put_right(provider: Provider) -> None:
    async with controlling(provider, spec("node-unknown"), []) as controller:
        await until(lambda: controller.is_ready and controller.informer.connected)
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "?"}
        patch = json.dumps({"status": {"conditions": [unknown]}})
        patching = ("patch", "node", "node-unknown", "--subresource=status", "--type=strategic", "-p", patch)
        await provider.plane.kubectl_async(*patching)
        await asyncio.sleep(0.2)
        await until(lambda: controller.is_ready)
        assert ready(await read(provider, "node", "node-unknown"))["status"] == "True"


async def test_a_restart_adopts_the_node_without_making_it_flap(provider: Provider) -> None:
    async with controlling(provider, spec("node-adopt"), []) as controller:
        await until(lambda: controller.is_ready)
        recorder = EventRecorder(provider.client)
        problems = ["caches are not synced"]
        untainted = NodeSpec("node-adopt", "10.99.0.1", CAPACITY, labels={"new": "label"})
        successor = NodeController(provider.client, recorder, untainted, [lambda: "".join(problems)])
        before = ready(await read(provider, "node", "node-adopt"))["lastTransitionTime"]
        async with running(successor.run()):
            await asyncio.wait_for(successor.registered.wait(), 10)
            await asyncio.sleep(0.5)
            node = await read(provider, "node", "node-adopt")
            assert ready(node)["status"] == "True"
            problems.clear()
            await until(lambda: successor._sent)
            node = await read(provider, "node", "node-adopt")
        assert node["metadata"]["labels"]["new"] == "label"
        assert not [taint for taint in node["spec"].get("taints", []) if taint["key"] == "virtual-kubelet.io/provider"]
        assert ready(node)["lastTransitionTime"] == before


def requested_name(request: Any) -> str:
    """The common name that is asked for: others of the control plane's users have requests of their own there."""
    asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    return str(asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_a_serving_certificate_is_signed_once_approved_and_used_again(provider: Provider, tmp_path: Path) -> None:
    given: list[tuple[bytes, bytes]] = []
    names = ["node-cert", "10.99.0.1"]

    def certificate() -> ServingCertificate:
        return ServingCertificate(
            provider.client,
            "node-cert",
            names,
            tmp_path,
            lambda chain, key: given.append((chain, key)),
            KUBELET_SERVING,
        )

    async with running(certificate().run()):
        request: Any = None
        for _ in range(600):
            items = (await read(provider, "csr"))["items"]
            request = next((each for each in items if requested_name(each) == "system:node:node-cert"), None)
            if request:
                break
            await asyncio.sleep(0.05)
        await provider.plane.kubectl_async("certificate", "approve", request["metadata"]["name"])
        await until(lambda: given, "the certificate")
    leaf = x509.load_pem_x509_certificate(given[0][0])
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(provider.plane.ca.read_bytes()))
    assert leaf.subject.rfc4514_string() == "CN=system:node:node-cert,O=system:nodes"
    assert modes(tmp_path) == [0o600, 0o600]
    async with running(certificate().run()):
        await until(lambda: len(given) == 2)
    assert given[0] == given[1]
    check_allowed(provider)


async def test_a_serving_certificate_is_asked_of_the_signer_in_the_settings(provider: Provider, tmp_path: Path) -> None:
    """The one of EKS, which nobody signs for here: what is checked is that the API server takes the request so."""
    signer = "beta.eks.amazonaws.com/app-serving"
    names = ["node-eks", "10.99.0.2"]
    async with running(ServingCertificate(provider.client, "node-eks", names, tmp_path, lambda *_: None, signer).run()):
        found: list[Any] = []
        for _ in range(600):
            items = (await read(provider, "csr"))["items"]
            found = [each["spec"] for each in items if each["spec"]["signerName"] == signer]
            if found:
                break
            await asyncio.sleep(0.05)
    assert len(found) == 1 and sorted(found[0]["usages"]) == ["digital signature", "server auth"]
    check_allowed(provider)


async def test_what_another_runtime_could_do_is_taken_off_the_node(provider: Provider) -> None:
    handlers = ({"name": "", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False}},)
    able = spec("node-runtime", runtime_handlers=handlers, supplemental_groups_policy=True)
    async with controlling(provider, able, []) as controller:
        await until(lambda: controller.is_ready)
        status = (await read(provider, "node", "node-runtime"))["status"]
        assert status["runtimeHandlers"] == list(handlers) and status["features"] == {"supplementalGroupsPolicy": True}
    async with controlling(provider, spec("node-runtime"), []) as controller:
        await until(lambda: "runtimeHandlers" not in (controller.node or {"status": {"runtimeHandlers": 1}})["status"])
        status = (await read(provider, "node", "node-runtime"))["status"]
        assert "runtimeHandlers" not in status and "features" not in status
