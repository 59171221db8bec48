"""Nothing secret is written where others may read it."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from tests.e2e.instances import LiveInstance
from tests.e2e.manifest import SLEEP, container, pod, secret
from tests.e2e.nodeless import Namespace

pytestmark = pytest.mark.real

MARKER = "s3cret-m4rker-of-the-e2e-tests"
MOUNTED = f"{MARKER}-mounted"


@pytest.fixture(scope="module")
def instance(namespace: Namespace) -> LiveInstance:
    """The instance of a pod that uses a Secret in every way; another such pod does not start, which is logged."""
    variable = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "env"}}}
    namespace.apply(
        secret("keys", env=MARKER, file=MOUNTED),
        pod("keeper", container(
            namespace.nodeless.image, SLEEP, env=[variable], envFrom=[{"secretRef": {"name": "keys"}}],
            volumeMounts=[{"name": "keys", "mountPath": "/keys"}],
        ), volumes=[{"name": "keys", "secret": {"secretName": "keys"}}]),
        pod("broken", container(namespace.nodeless.image, SLEEP, env=[variable], command=["/no/such/program"])),
    )  # fmt: skip
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


def test_what_agent_and_cloud_keep_on_disk_is_for_root_alone(namespace: Namespace, instance: LiveInstance) -> None:
    kept = [path for path in (instance.directory / "disk" / "agent").rglob("*") if path.is_file()]
    assert kept, "the agent keeps no journal"
    kept += [instance.directory / "user-data", instance.directory / "instance.json"]
    kept += list((namespace.nodeless.environment.root / "identity").rglob("*.*"))
    open_files = [f"{path} {_mode(path):o}" for path in kept if path.is_file() and _mode(path) & 0o077]
    directories = {path.parent for path in kept if path.is_file()}
    reachable = [f"{path} {_mode(path):o}" for path in directories if _mode(path) & 0o007]
    assert open_files == []
    assert reachable == []


def test_a_file_that_holds_a_secrets_value_lies_in_memory_or_is_for_root_alone(instance: LiveInstance) -> None:
    found = []
    for path in instance.directory.rglob("*"):
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20
        if small and MOUNTED.encode() in path.read_bytes():
            found.append(path)
    assert [f"{path} {_mode(path):o}" for path in found if _mode(path) & 0o077] == []


def test_the_instances_boot_secret_is_not_for_its_pods(namespace: Namespace, instance: LiveInstance) -> None:
    answer = namespace.execute("keeper", "wget -T 5 -qO- http://169.254.169.254/latest/user-data", check=False)
    assert answer.returncode != 0
    assert "boot_secret" not in answer.stdout


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
