"""The links of instances in network namespaces alone: the real settings of instance, source guard and CNI, without
containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.integration.local_cloud.machine import run, until
from tests.integration.local_cloud.test_ipv6 import ASK, ECHO
from vk_provider.agent.network import build_cni_conflist
from vk_provider.cloud.local import boot, source_guard
from vk_provider.cloud.local.addresses import Addresses
from vk_provider.cloud.local.ipv6 import link_local, translate
from vk_provider.cloud.local.neighbour_guard import Ipv6Port, build_ipv6_elements, build_ipv6_table
from vk_provider.cloud.local.network import BRIDGE

SUBNET, IPV6_SUBNET = "10.9.0.0/26", "fd00:9::/64"
FIRST, SECOND = "10.9.0.16", "10.9.0.18"
POD, POD6 = "10.9.0.17", "fd00:9::11"
CNI_BIN = Path("/usr/lib/cni")


def to_ipv6(address: str) -> str:
    return translate(SUBNET, IPV6_SUBNET, address)


class Links:
    """Namespaces: a bridge, two instances on it, a pod behind the first, and place for another that is not its own.

    ipam: directory in which the plugins note addresses
    """

    def __init__(self, ipam: Path, stack: ExitStack) -> None:
        self._ipam, self._stack = ipam, stack
        names = (f"vk6-{os.getpid()}-{name}" for name in "b12po")
        self.bridge, self.first, self.second, self.pod, self.other_pod = names

    def up(self) -> None:
        for name in (self.bridge, self.first, self.second, self.pod, self.other_pod):
            run("ip", "netns", "add", name)
            self._stack.callback(run, "ip", "netns", "del", name)
        self._batch(
            self.bridge, f"link set lo up\nlink add {BRIDGE} type bridge forward_delay 0\nlink set {BRIDGE} up\n"
        )
        ports = [self._instance(self.first, FIRST, POD), self._instance(self.second, SECOND, "10.9.0.19")]
        table = source_guard.build_table([]) + source_guard.build_elements([FIRST, SECOND])
        table += build_ipv6_table("vk-sources")
        elements = build_ipv6_elements("vk-sources", ports)
        for text in (table, elements, elements):  # a process that has started again admits them once more
            self.run(self.bridge, "nft", "-f", "-", text=text)

    def _instance(self, namespace: str, primary: str, pod: str) -> Ipv6Port:
        mac, port = boot.mac_address(primary), boot.port_name(primary)
        spec = replace(
            boot.BootSpec.from_text(json.dumps(_EMPTY)),
            addresses=Addresses(primary, pod, IPV6_SUBNET, to_ipv6(primary), to_ipv6(pod)),
        )
        self._batch(namespace, "link set lo up\n")
        self._call(self.bridge, f"links.connect_to_bridge(spec, {self._hold(namespace)})", spec)
        assert mac in run("ip", "-n", namespace, "link", "show", "eth0")
        assert BRIDGE in run("ip", "-n", self.bridge, "link", "show", port)
        self._call(namespace, "links.configure(spec)", spec)
        shown = run("ip", "-n", namespace, "-6", "-br", "addr", "show", "eth0", "scope", "link").split()[2:]
        assert shown == [f"{link_local(SUBNET, primary)}/64"]  # and none that the kernel has generated
        for name, value in boot.sysctls(spec).items():
            self.run(namespace, "sh", "-c", f"echo {value} > /proc/sys/{name}")
        return Ipv6Port(port, mac, (to_ipv6(primary), to_ipv6(pod), link_local(SUBNET, primary)))

    def _call(self, namespace: str, expression: str, spec: boot.BootSpec) -> None:
        """As the launcher and the instance do it, in the namespace."""
        given = "spec = boot.BootSpec.from_text(sys.stdin.read())"
        code = f"import sys; from vk_provider.cloud.local import boot, links; {given}; {expression}"
        self.run(namespace, sys.executable, "-c", code, text=spec.to_text())

    def _hold(self, namespace: str) -> int:
        """A process in the namespace."""
        pid = self.start(namespace, "sleep", "60").pid
        deadline = time.monotonic() + 10
        while os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat(f"/run/netns/{namespace}").st_ino:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return pid

    def cni(self, verb: str, namespace: str = "", address: str = POD) -> None:
        """Run the plugins of the agent's network list as containerd does it. namespace: another than the pod's."""
        ipv6 = (to_ipv6(FIRST), to_ipv6(address), IPV6_SUBNET)
        conflist = build_cni_conflist(FIRST, address, SUBNET, self._ipam, 1500, ipv6)
        result = None
        for plugin in conflist["plugins"] if verb == "ADD" else conflist["plugins"][::-1]:
            config = {**plugin, "cniVersion": conflist["cniVersion"], "name": conflist["name"], "prevResult": result}
            answer = self.run(
                self.first,
                str(CNI_BIN / plugin["type"]),
                text=json.dumps({name: value for name, value in config.items() if value is not None}),
                CNI_COMMAND=verb,
                CNI_CONTAINERID=namespace or self.pod,
                CNI_NETNS=f"/run/netns/{namespace or self.pod}",
                CNI_IFNAME="eth0",
                CNI_PATH=str(CNI_BIN),
            )
            result = json.loads(answer) if answer else result

    def start(self, namespace: str, *command: str, output: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A process that is ended with the namespaces."""
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{namespace}", *command], stdout=output, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    async def serve(self, namespace: str) -> None:
        self.start(namespace, sys.executable, "-c", ECHO)
        await until(lambda: ":9999" in self.run(namespace, "ss", "-lnu"))

    def ask(self, namespace: str, address: str) -> str:
        """The address that the server at `address` has seen."""
        return self.run(namespace, sys.executable, "-c", ASK, address)

    def addresses_of_pod(self) -> str:
        return self.run(self.pod, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")

    def _batch(self, namespace: str, text: str) -> None:
        self.run(namespace, "ip", "-batch", "-", text=text)

    def run(self, namespace: str, *command: str, text: str | None = None, **environment: str) -> str:
        """What the command prints; AssertionError when it fails."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


_EMPTY = {
    **{name: "" for name in ("instance_id", "hostname", "directory", "layer", "images", "primary_ip", "pod_ip")},
    **{name: () for name in ("binds", "hidden", "containerd", "agent")},
    **{"bridge_namespace": "", "bridge": BRIDGE, "cgroup": {}, "cpu_milli": 0, "boot_credit_s": 0, "environment": {}},
    **{"subnet": SUBNET, "ipv6_subnet": IPV6_SUBNET, "gateway": "10.9.0.1"},
}
