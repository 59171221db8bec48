"""What a cluster leaves on the machine: taken before `up`, while it runs, and after `down`."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.process import start_time
from tests.demo.environment import Environment
from vk_provider.serviceproxy.frame import NODE_TABLE_PREFIX

WATCHED = ("/etc", "/opt", "/root", "/run", "/srv", "/usr/local", "/var/lib", "/var/log", "/var/tmp")
"""Where a careless program writes; /tmp belongs to the test runner."""
_DEPTH = 3
_SKIPPED = ("/root/.cache", "/var/lib/dpkg", "/var/lib/apt", "/var/log/journal")


_LEGACY_TABLES = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))
_SWITCHES = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/proxy_arp",
    "fs/inotify/max_user_instances",
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """processes: {pid: start time} of the cluster; namespaces: theirs; traces: see `find_traces`; taken: clock ticks
    since boot."""

    taken: int
    processes: dict[int, int]
    namespaces: frozenset[str]
    traces: frozenset[str]


def take_footprint(environment: Environment) -> Footprint:
    """All that belongs to the cluster just now. A zombie is nobody's process any more."""
    pids = find_processes(environment)
    namespaces = {_link(f"/proc/{pid}/ns/{kind}") for pid in pids for kind in ("net", "mnt", "pid")}
    own = {_link(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid")}
    known = {pid: started for pid in pids if (started := start_time(pid)) is not None}
    taken = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    return Footprint(taken, known, frozenset(namespaces - own - {""}), frozenset(find_traces(environment)))


def find_processes(environment: Environment) -> set[int]:
    """By control group, by the state directory in the command line, and all their descendants."""
    found = {pid for group in _cgroups(environment) for file in group.rglob("cgroup.procs") for pid in _pids(file)}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
        if str(environment.root).encode() in command:
            found.add(int(entry))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def find_traces(environment: Environment) -> list[str]:
    """Interfaces, named namespaces, control groups, mounts, routes and tables that carry the cluster's name."""
    name = f"vk-{environment.name}"
    traces = [f"control group {path}" for path in _cgroups(environment)]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(environment.root) in line or name in line:
            traces.append(f"mount {line.split()[4]}")
    links = os.listdir("/sys/class/net")
    traces += [f"interface {link}" for link in links if link == name]
    traces += [f"network namespace {item}" for item in _netns() if item == name]
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    traces += [f"route {line}" for line in routes.splitlines() if f"dev {name}" in line]
    tables = subprocess.run(["nft", "list", "tables", "inet"], capture_output=True, text=True, check=True).stdout
    traces += [line for line in tables.splitlines() if f" {NODE_TABLE_PREFIX}{environment.name}_" in line]
    return traces


def surviving(footprint: Footprint) -> list[str]:
    """Processes of the footprint that live, and others as old that are in its namespaces: the number of a namespace
    that is gone may be given to a younger process of somebody else."""
    left = [
        f"process {pid}: {_command(pid)}" for pid, started in footprint.processes.items() if start_time(pid) == started
    ]
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (start_time(int(entry)) or footprint.taken + 1) <= footprint.taken:
            inside = {_link(f"/proc/{entry}/ns/{kind}") for kind in ("net", "mnt", "pid")} & footprint.namespaces
            left += [f"process {entry} in {item}: {_command(int(entry))}" for item in inside]
    return left


def read_host_rules() -> str:
    """The host's firewall rules without their counters, and its switches that routing for instances could tempt one to
    set; without the Nodes' tables of Services (`find_traces`). Reading makes no table: iptables(8) would."""
    listed = subprocess.run(["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True)
    rules = re.sub(rf"^table inet {NODE_TABLE_PREFIX}.*?^}}\n", "", listed.stdout, flags=re.MULTILINE | re.DOTALL)
    legacy = [path.read_text() for path in _LEGACY_TABLES if path.exists()]
    switches = [f"{name} = {Path('/proc/sys', name).read_text()}" for name in _SWITCHES]
    return "\n".join([rules, *legacy, *switches])


def list_files() -> set[str]:
    """Paths below the watched directories, to a limited depth."""
    found: set[str] = set()
    for top in WATCHED:
        _walk(top, _DEPTH, found)
    return found


def _walk(directory: str, depth: int, found: set[str]) -> None:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.path.startswith(_SKIPPED):
            continue
        found.add(entry.path)
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            _walk(entry.path, depth - 1, found)


def _cgroups(environment: Environment) -> list[Path]:
    name = f"vk-{environment.name}"
    return [path for parent in Path("/sys/fs/cgroup").iterdir() if (path := parent / name).exists()] + [
        path for path in (Path("/sys/fs/cgroup") / name,) if path.exists()
    ]


def _netns() -> list[str]:
    try:
        return os.listdir("/run/netns")
    except FileNotFoundError:
        return []


def _pids(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text().split()]
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "?"
