"""A start that cannot succeed says why in one line and ends with code 3."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.nodeless import Nodeless

pytestmark = pytest.mark.real

BAD_START = 3


@pytest.fixture
def config(nodeless: Nodeless, tmp_path: Path) -> Iterator[str]:
    """A configuration beside the running provider's: other Node, ports, directories and cloud."""
    text = nodeless.environment.config_file.read_text()
    head, _, rest = text.partition("[[nodes]]")
    rest = rest[rest.index("[kubelet]") :]
    address = nodeless.environment.address
    node = f'[[nodes]]\nname = "nodeless-bad"\naddress = "{address}"\nport = 10290\n\n'
    changes = (
        (str(nodeless.environment.root), str(tmp_path)),
        ("healthz_port = 10348", "healthz_port = 10349"),
        (f'name = "{nodeless.environment.name}"', 'name = "e2ebad"'),
        (nodeless.environment.subnet, "10.208.0.0/16"),
    )
    for old, new in changes:
        rest = rest.replace(old, new)
    rest = rest.replace(f'client_ca_file = "{tmp_path}', f'client_ca_file = "{nodeless.environment.root}')
    try:
        yield head + node + rest
    finally:
        left = nodeless.kubectl("get", "node", "nodeless-bad", check=False).returncode == 0
        nodeless.kubectl("delete", "node", "nodeless-bad", "--ignore-not-found")
        take_down_cloud(tmp_path)
        assert not left, "a Node was registered by a process that could not start"


def start(
    tmp_path: Path, text: str, *prefix: str, environment: dict[str, str] | None = None, command: str = "run"
) -> subprocess.CompletedProcess[str]:
    """Start the provider with a configuration; it must end by itself."""
    path = tmp_path / "provider.toml"
    path.write_text(text)
    path.chmod(0o644)
    inherited = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [*prefix, sys.executable, "-m", "vk_provider", command, "--config", str(path)]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=90, check=False, env={**inherited, **(environment or {})}
    )


def require_bad_start(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = ended.stderr.splitlines()
    assert ended.returncode == BAD_START, ended.stderr
    complaint = [line for line in lines if line.startswith("vk-provider: ")]
    assert len(complaint) == 1, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    missing = [word for word in words if word not in complaint[0]]
    assert not missing, complaint[0]


def test_an_unknown_key_is_named(config: str, tmp_path: Path) -> None:
    require_bad_start(start(tmp_path, config + "\n[pods2]\n"), "provider.toml", "unknown key pods2")
    require_bad_start(start(tmp_path, config.replace("dns =", "dnss =")), "unknown key cluster.dnss")


def test_a_wrong_type_is_named_with_its_value(config: str, tmp_path: Path) -> None:
    wrong = config.replace("healthz_port = 10349", 'healthz_port = "high"')
    require_bad_start(start(tmp_path, wrong), "kubelet.healthz_port must be a int, not 'high'")
    require_bad_start(start(tmp_path, wrong, command="check-config"), "kubelet.healthz_port")


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    require_bad_start(start(tmp_path, "this is no toml"), "provider.toml", "TOML")


def test_a_kubeconfig_that_is_missing_broken_or_refused_is_named(config: str, tmp_path: Path) -> None:
    line = next(line for line in config.splitlines() if line.startswith("kubeconfig ="))
    require_bad_start(
        start(tmp_path, config.replace(line, 'kubeconfig = "/no/such/kubeconfig"')), "/no/such/kubeconfig"
    )
    broken = tmp_path / "broken.kubeconfig"
    broken.write_text("clusters: 7\n")
    require_bad_start(start(tmp_path, config.replace(line, f'kubeconfig = "{broken}"')), "kubeconfig")


def test_without_root_the_local_cloud_says_so(config: str, tmp_path: Path, nodeless: Nodeless) -> None:
    """As user nobody, who may read the code and the kubeconfig but makes no namespaces."""
    public = tmp_path / "public"
    public.mkdir()
    kubeconfig = nodeless.plane.kubeconfig_for("somebody")
    text = kubeconfig.read_text()
    for number, path in enumerate(sorted(set(_paths(text)))):
        copy = public / f"{number}-{Path(path).name}"
        shutil.copy(path, copy)
        copy.chmod(0o644)
        text = text.replace(path, str(copy))
    (public / "kubeconfig").write_text(text)
    line = next(line for line in config.splitlines() if line.startswith("kubeconfig ="))
    ended = _start_as_nobody(config.replace(line, f'kubeconfig = "{public}/kubeconfig"'), tmp_path)
    require_bad_start(ended, "root")


def _start_as_nobody(config: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Privileges are dropped by the process itself after its imports, since the interpreter may lie where only root
    may look."""
    path = tmp_path / "provider.toml"
    path.write_text(config.replace(str(tmp_path), str(tmp_path / "public")))
    for directory in (tmp_path, *list(tmp_path.parents)[:2]):
        directory.chmod(0o755)
    path.chmod(0o644)
    (tmp_path / "public").chmod(0o777)
    script = (
        "import os, sys, pkgutil, importlib, vk_provider\n"
        "for module in pkgutil.walk_packages(vk_provider.__path__, 'vk_provider.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from vk_provider.cli import main\n"
        f"sys.exit(main(['run', '--config', {str(path)!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90, check=False, env=environment
    )


def _paths(kubeconfig: str) -> list[str]:
    return [word.strip('",') for word in kubeconfig.split() if word.strip('",').startswith("/")]


def test_without_containerd_on_the_path_the_local_cloud_says_so(config: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(directory).iterdir():
            link = tools / program.name
            if not program.name.startswith("containerd") and not link.is_symlink():
                link.symlink_to(program)
    ended = start(tmp_path, config, environment={"PATH": str(tools)})
    require_bad_start(ended, "containerd is not on PATH")
    assert not Path("/sys/class/net/vk-e2ebad").exists(), "a network was made for nothing"


def test_a_taken_kubelet_port_is_named(config: str, tmp_path: Path, nodeless: Nodeless) -> None:
    address = nodeless.environment.address
    with socket.create_server((address, 10290)):
        require_bad_start(start(tmp_path, config), f"{address}", "10290")


def test_a_taken_health_port_is_named(config: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 10349)):
        require_bad_start(start(tmp_path, config), "10349")


def test_a_subnet_that_is_in_use_is_named(config: str, tmp_path: Path, nodeless: Nodeless) -> None:
    taken = nodeless.environment.subnet
    require_bad_start(start(tmp_path, config.replace("10.208.0.0/16", taken)), f"subnet {taken} collides")


def take_down_cloud(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "vk_provider",
        "local-cloud",
        "down",
        "--name",
        "e2ebad",
        "--subnet",
        "10.208.0.0/16",
        "--state-dir",
        str(tmp_path / "cloud"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(argv, check=True, env=environment, capture_output=True, timeout=60)
