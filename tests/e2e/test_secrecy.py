"""Nothing secret is written where others may read it."""

from __future__ import annotations

import base64
import os
import signal
import stat
from pathlib import Path

import pytest

from tests.e2e.instances import LiveInstance
from tests.e2e.manifest import SLEEP, container, pod, secret
from tests.e2e.nodeless import Namespace
from tests.e2e.until import until

pytestmark = pytest.mark.real

MARKER = "s3cret-m4rker-of-the-e2e-tests"
MOUNTED = f"{MARKER}-mounted"


@pytest.fixture(scope="module")
def instance(namespace: Namespace) -> LiveInstance:
    """The instance of a pod that uses a Secret in every way; another such pod does not start, which is logged."""
    variable = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "env"}}}
    namespace.apply(
        secret("keys", env=MARKER, file=MOUNTED),
        pod(
            "keeper",
            container(
                namespace.nodeless.image,
                SLEEP,
                env=[variable],
                envFrom=[{"secretRef": {"name": "keys"}}],
                volumeMounts=[{"name": "keys", "mountPath": "/keys"}],
            ),
            volumes=[{"name": "keys", "secret": {"secretName": "keys"}}],
        ),
        pod("broken", container(namespace.nodeless.image, SLEEP, env=[variable], command=["/no/such/program"])),
    )
    namespace.wait_ready("keeper")
    namespace.wait_event("broken", "Failed")
    assert namespace.execute("keeper", "echo $PASSWORD; cat /keys/file").stdout == f"{MARKER}\n{MOUNTED}"
    return namespace.instance("keeper")


def test_no_secret_is_in_any_log(namespace: Namespace, instance: LiveInstance) -> None:
    token = namespace.execute("keeper", "cat /var/run/secrets/kubernetes.io/serviceaccount/token").stdout
    words = [MARKER, base64.b64encode(MARKER.encode()).decode()[:30], token.split(".")[2]]
    logs = [namespace.nodeless.environment.provider.log, *namespace.nodeless.instance_logs]
    assert len(logs) > 3
    for log in logs:
        text = log.read_text(errors="replace")
        assert not [word for word in words if word in text], f"a secret stands in {log}"


def test_no_secret_is_in_status_and_events(namespace: Namespace, instance: LiveInstance) -> None:
    for name in ("keeper", "broken"):
        assert MARKER not in namespace.describe(name)
    assert MARKER not in namespace.kubectl("get", "pods,events", "-o", "json").stdout


def test_what_agent_and_provider_keep_is_for_root_alone(namespace: Namespace, instance: LiveInstance) -> None:
    state = Path(f"/proc/{instance.pid}/root/var/lib/vk-agent")
    journal = [path for path in state.rglob("*") if path.is_file()]
    assert journal, "the agent keeps no journal"
    identity = list((namespace.nodeless.environment.root / "identity").iterdir())
    assert identity, "the provider keeps no identity"
    kept = [*journal, *identity, instance.directory / "user-data", instance.directory / "instance.json"]
    assert [f"{path} {_mode(path):o}" for path in kept if _mode(path) & 0o077] == []


def test_nobody_but_root_reaches_a_file_that_holds_a_secrets_value(
    namespace: Namespace, instance: LiveInstance
) -> None:
    """containerd keeps the environment of its containers in a database of mode 644: its directory must be closed."""
    root = namespace.nodeless.environment.root
    holding = []
    for path in root.rglob("*"):
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 22
        if small and MARKER.encode() in path.read_bytes():
            holding.append(path)
    assert [str(path) for path in holding if _is_open(path, root)] == []


def _is_open(path: Path, root: Path) -> bool:
    """Whether others may read it, if they may look into `root`."""
    parents = [parent for parent in path.parents if parent.is_relative_to(root) and parent != root]
    return bool(_mode(path) & 0o004) and all(_mode(parent) & 0o001 for parent in parents)


ASK_FOR_TOKEN = (
    "printf 'PUT /latest/api/token HTTP/1.1\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n'"
    " | nc -w 3 169.254.169.254 80"
)
"""The first step to the boot data; nothing but this step is needed to know who may take it."""


def test_the_instances_boot_secret_is_not_for_its_pods(namespace: Namespace, instance: LiveInstance) -> None:
    """Neither for a hostNetwork pod, unless an annotation lets it through. A restarted agent changes nothing."""
    manifests = {
        name: pod(name, container(namespace.nodeless.image, SLEEP), hostNetwork=True) for name in ("host", "allowed")
    }
    manifests["allowed"]["metadata"]["annotations"] = {"vk-provider/allow-instance-metadata": "true"}
    namespace.apply(*manifests.values())
    for name in manifests:
        namespace.wait_ready(name)
    host = namespace.instance("host")
    assert "bootSecret" in (host.directory / "user-data").read_text()
    assert "200 OK" in namespace.execute("allowed", ASK_FOR_TOKEN, check=False).stdout
    assert "200 OK" not in namespace.execute("keeper", ASK_FOR_TOKEN, check=False).stdout
    assert "200 OK" not in namespace.execute("host", ASK_FOR_TOKEN, check=False).stdout
    agent = host.service("vk-agent")
    os.kill(agent, signal.SIGKILL)
    until("the agent runs again", lambda: host.processes("vk-agent") not in ([], [agent]))
    until("exec works again", lambda: namespace.execute("host", "true", check=False).returncode == 0)
    assert "200 OK" not in namespace.execute("host", ASK_FOR_TOKEN, check=False).stdout


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
