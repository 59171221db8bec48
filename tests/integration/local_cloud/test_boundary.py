"""What root of an instance, and so a privileged container, cannot do to the machine and to other instances."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import vk_provider
from tests.integration.local_cloud.machine import first_process, inside, run
from tests.integration.local_cloud.test_instance import launch
from vk_provider.cloud.base import Instance
from vk_provider.cloud.local.boot import PREPARED
from vk_provider.cloud.local.cloud import LocalCloud

pytestmark = pytest.mark.real

SNAPSHOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs"
SECRETS = (
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/ssl/private",
    "/etc/kubernetes",
    "/etc/vk-provider",
    "/etc/ssh",
    "/root/.ssh",
    "/root/.kube",
    "/var/lib/dpkg",
    "/var/lib/etcd",
    "/boot",
)


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file below `root`: what it is, when it was changed, and what is in it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        stat = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        about = (stat.st_mode, stat.st_uid, stat.st_mtime_ns, content)
        found[str(path)] = about
    return found


async def test_root_of_an_instance_cannot_change_the_images_that_instances_share(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "attacker", "neighbour")
    assert cloud._preparation is not None
    images, golden = Path(cloud._preparation.template.images), Path(cloud.config.cache_dir) / "golden"
    before = describe(images), describe(golden)
    file = f"{SNAPSHOT}/pause"
    seen = inside(cloud, second.instance_id, f"stat -c '%a %u %Y %s' {file}; sha256sum {file}")
    device = os.stat(images).st_dev
    node = f"{os.major(device)} {os.minor(device)}"
    attacks = (
        f"echo evil > {file}",
        f"echo evil >> {file}",
        f"touch {file}",
        f"touch -d @1 {SNAPSHOT}",
        f"chmod 600 {file}",
        f"chown 1 {file}",
        f"rm {file}",
        f"mv {file} {SNAPSHOT}/other",
        f"touch {SNAPSHOT}/new",
        f"ln {file} /var/lib/containerd/link",
        f"chattr +i {file}",
        f"setfattr -n user.x -v y {file}",
        f"mount -o remount,bind,rw {SNAPSHOT}",
        f"mkdir -p /mnt/b && mount --bind {SNAPSHOT} /mnt/b && mount -o remount,bind,rw /mnt/b",
        f"umount -l {SNAPSHOT} && test -e {file} && echo evil > {file}",
        f"mount -o remount,bind,rw {PREPARED}",
        f"mkdir -p /mnt/p && mount --bind {PREPARED} /mnt/p && mount -o remount,bind,rw /mnt/p",
        f"touch {PREPARED}/new",
        f"unshare --mount sh -c 'mount -o remount,bind,rw {SNAPSHOT}'",
        f"mknod /var/lib/containerd/disk b {node} && cat /var/lib/containerd/disk",
        f"mknod /run/disk b {node} && echo evil > /run/disk",
        "mount -t ext4 /dev/vda /mnt",
        "mkdir -p /mnt/d && mount -t debugfs none /mnt/d",
        "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        f"{sys.executable} -c '{OPEN_BY_HANDLE}' {file}",
        f"for d in /proc/[0-9]*; do echo evil > $d/root{file} && exit 0; done; exit 1",
    )
    succeeded = [attack for attack in attacks if run_status(cloud, first, f"{{ {attack} ; }} >/dev/null 2>&1") == 0]
    assert succeeded == []
    assert (describe(images), describe(golden)) == before
    assert inside(cloud, second.instance_id, f"stat -c '%a %u %Y %s' {file}; sha256sum {file}") == seen
    assert inside(cloud, first.instance_id, f"sha256sum {file}") == seen.splitlines()[1]


OPEN_BY_HANDLE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(136)
ctypes.c_uint.from_buffer(handle).value = 128
mount = ctypes.c_int()
assert libc.name_to_handle_at(-100, sys.argv[1].encode(), handle, ctypes.byref(mount), 0) == 0
own = os.open("/var/lib/containerd", os.O_RDONLY)
sys.exit(0 if libc.open_by_handle_at(own, handle, os.O_RDWR) >= 0 else 1)
""".strip().replace("\n", "; ")


def run_status(cloud: LocalCloud, instance: Instance, script: str) -> int:
    enter = f"nsenter -t {first_process(cloud, instance.instance_id)} --all"
    return int(run(*enter.split(), "sh", "-c", f"({script}); echo $?").splitlines()[-1])


async def test_an_instance_sees_software_of_the_machine_and_nothing_that_people_keep_on_it(cloud: LocalCloud) -> None:
    marks = [Path(top, f"vk-secret-{os.getpid()}") for top in ("/etc", "/opt", "/srv", "/usr/local", "/var/lib", "/")]
    try:
        for mark in marks:
            mark.write_text("SECRET")
        (instance,) = await launch(cloud, "secrets")
        wanted = " ".join([*SECRETS, *map(str, marks)])
        assert inside(cloud, instance.instance_id, f"ls -d {wanted} 2>/dev/null", check=False) == ""
        everything = "find / -xdev -name 'vk-secret-*' 2>/dev/null; find /usr -name 'vk-secret-*' 2>/dev/null"
        assert inside(cloud, instance.instance_id, everything, check=False) == ""
        assert run_status(cloud, instance, "umount -l /usr/local && ls /usr/local/* >/dev/null 2>&1") != 0
        visible = "find /root /home /opt /srv -type f -not -path '*/lib*/*' 2>/dev/null"
        files = inside(cloud, instance.instance_id, visible).splitlines()
        files = [f for f in files if not f.startswith(f"{Path(vk_provider.__file__).parent}/")]
        assert [f for f in files if not f.endswith("pyvenv.cfg") and "/bin/python" not in f] == []
        # What runs there still finds what it needs.
        tools = "ip link >/dev/null && nft list tables && getent hosts localhost"
        inside(cloud, instance.instance_id, f"{tools} && test -s /etc/ssl/certs/ca-certificates.crt")
        inside(cloud, instance.instance_id, f"{sys.executable} -c 'import vk_provider.agent.app, ssl'")
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


async def test_root_of_an_instance_is_nobody_on_the_machine(cloud: LocalCloud) -> None:
    first, second = await launch(cloud, "one", "two")
    pids = [str(first_process(cloud, instance.instance_id)) for instance in (first, second)]
    uids = [int(run("ps", "-o", "uid=", "-p", pid)) for pid in pids]
    assert uids[0] != uids[1] and min(uids) > 2**30
    limits = "ls /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    (limit,) = inside(cloud, first.instance_id, limits, check=False).splitlines()
    assert run_status(cloud, first, f"(echo 99999999999 > {limit}) 2>/dev/null") != 0
    # On disk its files have the IDs that they have for it.
    inside(cloud, first.instance_id, "touch /var/lib/kubelet/f && chown 1000660000:2000 /var/lib/kubelet/f")
    file = cloud._store.directory(first.instance_id) / "disk/kubelet/f"
    assert (file.stat().st_uid, file.stat().st_gid) == (1000660000, 2000)


CLAIM = """
import socket, struct, sys
kind, mac, source, target = sys.argv[1:]
pack = lambda address: socket.inet_aton(address)
own = bytes.fromhex(mac.replace(":", ""))
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
if kind == "arp":
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + own + pack(source) + b"\\xff" * 6 + pack(source)
    frame = b"\\xff" * 6 + own + b"\\x08\\x06" + body
else:
    data = b"spoofed"
    udp = struct.pack("!HHHH", 9, 9999, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, pack(source), pack(target))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    frame = b"\\xff" * 6 + own + b"\\x08\\x00" + head + udp
for _ in range(3):
    link.send(frame)
"""

LISTEN = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 9999))
server.settimeout(20)
while True:
    print(*server.recvfrom(100), flush=True)
"""


REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 3)
except ConnectionRefusedError:
    pass
"""
"""Nobody listens there; the refusal comes from the instance."""


async def test_an_instance_cannot_claim_another_ones_address_or_send_from_it(cloud: LocalCloud) -> None:
    attacker, victim, client = await launch(cloud, "attacker", "victim", "client")
    mac = inside(cloud, attacker.instance_id, "cat /sys/class/net/eth0/address")
    other_mac = inside(cloud, victim.instance_id, "cat /sys/class/net/eth0/address")
    listen = f"setsid {sys.executable} -c '{LISTEN}' > /tmp/heard 2>/dev/null & sleep 0.3"
    inside(cloud, client.instance_id, listen)
    reach = f"{sys.executable} -c '{REACH}' {victim.primary_ip}"
    inside(cloud, client.instance_id, reach)

    def send(kind: str, by_mac: str, source: str) -> None:
        script = f"{sys.executable} -c '{CLAIM}' {kind} {by_mac} {source} {client.primary_ip}"
        inside(cloud, attacker.instance_id, script)

    def neighbour() -> str:
        return inside(cloud, client.instance_id, f"ip neigh show {victim.primary_ip}")

    def port_of(address: str) -> str:
        lines = run("bridge", "-n", cloud.config.namespace, "fdb", "show", "br", "br0").splitlines()
        return next((line.split()[2] for line in lines if line.startswith(address) and "permanent" not in line), "")

    at = port_of(other_mac)
    for address in (victim.primary_ip, victim.pod_ip, cloud.config.host_ip, "8.8.8.8"):
        for by_mac in (mac, other_mac):
            send("arp", by_mac, address)
            send("udp", by_mac, address)
    send("udp", other_mac, attacker.primary_ip)  # a foreign MAC alone is enough
    assert other_mac in neighbour() and mac not in neighbour()
    assert port_of(other_mac) == at != port_of(mac)
    assert inside(cloud, client.instance_id, "cat /tmp/heard") == ""
    # With its own addresses the same frames arrive, so it is not that nothing does.
    send("udp", mac, attacker.primary_ip)
    send("udp", mac, attacker.pod_ip)
    heard = inside(cloud, client.instance_id, "sleep 0.3; cat /tmp/heard")
    assert f"'{attacker.primary_ip}'" in heard and f"'{attacker.pod_ip}'" in heard and victim.primary_ip not in heard
    inside(cloud, client.instance_id, reach)
