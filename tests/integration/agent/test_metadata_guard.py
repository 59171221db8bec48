"""The rule that closes the metadata endpoint, in a real kernel: the agent's cgroup passes where the image says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vk_provider.agent.metadata_guard import build_rules

pytestmark = pytest.mark.real

GROUP = "vk-test.slice/vk-agent.service"
SCRIPT = f"""
set -e
mkdir "$1/unified"
mount -t cgroup2 none "$1/unified"
mount --bind "$1/unified" /sys/fs/cgroup
group=/sys/fs/cgroup/{GROUP}
mkdir -p "$group"
trap 'kill $server; rmdir "$group" "${{group%/*}}"' EXIT
ip link set lo up
ip address add 169.254.169.254/32 dev lo
ip address add 10.9.9.9/32 dev lo  # what is sent back has another destination than what the rule closes
mkdir "$1/www"
echo reached > "$1/www/index.html"
busybox httpd -f -p 80 -h "$1/www" &
server=$!
for _ in $(seq 100); do ss -Hltn 'sport = :80' | grep -q . && break; sleep 0.02; done
ask() {{ curl -s -m 1 --interface 10.9.9.9 http://169.254.169.254/ || echo closed; }}
echo "open: $(ask)"
nft -f "$2"
echo "others: $(ask)"
echo "agent: $(echo $BASHPID > "$group/cgroup.procs"; ask)"
nft -f "$3"
echo "agent, closed for all: $(echo $BASHPID > "$group/cgroup.procs"; ask)"
"""


def test_the_agents_cgroup_passes_and_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "own").write_text(build_rules(GROUP))
    (tmp_path / "all").write_text(build_rules())
    command = ["unshare", "--mount", "--net", "bash", "-c", SCRIPT, "bash"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path / "own"), str(tmp_path / "all")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    print(done.stderr, file=sys.stderr)
    assert done.stdout.splitlines() == [
        "open: reached",
        "others: closed",
        "agent: reached",
        "agent, closed for all: closed",
    ]
