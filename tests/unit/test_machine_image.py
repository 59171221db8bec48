"""The files of EC2's machine image fit the agent."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

from vk_provider.agent import app, image_builder
from vk_provider.agent.metadata_guard import find_own_cgroup
from vk_provider.agent.network import NetworkPaths
from vk_provider.agent.worker.rules.spec import log_directory
from vk_provider.cloud.aws.catalog.machines import STORE_LOSS
from vk_provider.cloud.aws.stores.volume import HINT, STORE_DEVICE
from vk_provider.wire.bootdata import AGENT_PORT
from vk_provider.wire.imagebuild import KIND, STORE_DIRECTORY

AWS = Path(__file__).parents[2] / "manifests" / "aws"


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read(AWS / name)
    return parsed


def test_the_agents_unit_starts_it_with_options_that_it_has(tmp_path: Path) -> None:
    program, command, *options = unit("vk-agent.service")["Service"]["ExecStart"].split()
    assert (program, command) == ("/opt/vk-provider/bin/vk-provider", "agent")
    parsed = app.parse_options(options)
    assert parsed.watch_interruptions
    (tmp_path / "cgroup.controllers").touch()
    group = "system.slice/vk-agent.service"  # where systemd puts a service of the system
    assert find_own_cgroup(f"0::/{group}\n", tmp_path) == group
    config = tomllib.loads((AWS / "containerd.toml").read_text())
    assert parsed.containerd_address == config["grpc"]["address"]
    plugins = config["plugins"]
    paths = NetworkPaths()
    assert plugins["io.containerd.cri.v1.runtime"]["cni"]["conf_dir"] == str(paths.cni_conf_dir)
    assert plugins["io.containerd.cri.v1.images"]["registry"]["config_path"] == str(paths.certs_dir)


def test_a_bad_start_is_not_repeated_in_a_loop() -> None:
    service = unit("vk-agent.service")["Service"]
    assert service["RestartPreventExitStatus"] == str(app.EXIT_BAD_START)
    assert service["Restart"] == "always"


def test_the_script_is_one_and_installs_every_file_that_is_here() -> None:
    script = AWS / "build-image.sh"
    for each in AWS.glob("*.sh"):
        subprocess.run(["bash", "-n", str(each)], check=True)
    text = script.read_text()
    there = {path.name for path in AWS.iterdir()} - {script.name}
    assert set(re.findall(r'"\$here/([^"]+)"', text)) == there
    config = tomllib.loads((AWS / "containerd.toml").read_text())
    (bin_dir,) = config["plugins"]["io.containerd.cri.v1.runtime"]["cni"]["bin_dirs"]
    assert f"tar -C {bin_dir}" in text


def test_the_disks_are_ready_before_containerd_and_the_agent_which_a_failure_does_not_hold_up() -> None:
    parsed, script = unit("vk-instance-store.service"), (AWS / "instance-store.sh").read_text()
    assert parsed["Unit"]["Before"].split() == ["containerd.service", "vk-agent.service"]
    for name in ("containerd.service", "vk-agent.service"):
        assert "vk-instance-store" not in unit(name)["Unit"].get("Requires", "")
    options = app.parse_options([])
    (moved,) = re.findall(r"^DIRECTORIES=\((.*)\)$", script, re.MULTILINE)
    pod = {"metadata": {"namespace": "n", "name": "p", "uid": "u"}}
    logs = Path(log_directory(pod)).parent
    blobs = options.state_dir / "blobs"
    assert moved.split() == [*map(str, (options.containerd_root, options.kubelet_dir, blobs, logs))]
    assert f"STATE=$ROOT{options.run_dir}/instance-store\n" in script
    assert f"USABLE_PERCENT={round(100 * (1 - STORE_LOSS))} " in script
    target = re.findall(r'/instance-store.sh" (\S+)', (AWS / "build-image.sh").read_text())
    assert target == [parsed["Service"]["ExecStart"]]


def test_prepared_images_are_there_before_containerd_and_a_builder_has_no_agent() -> None:
    parsed, script = unit("vk-image-store.service"), (AWS / "image-store.sh").read_text()
    assert "vk-instance-store.service" in parsed["Unit"]["After"].split()
    assert parsed["Unit"]["Before"].split() == ["containerd.service", "vk-agent.service"]
    options = app.parse_options([])
    assert f"CONTAINERD=$ROOT{options.containerd_root}\n" in script
    assert f"STATE=$ROOT{options.run_dir}/image-store\n" in script and f"store=$VOLUME/{STORE_DIRECTORY}\n" in script
    assert f"XEN_DEVICE:-{STORE_DEVICE.replace('/sd', '/xvd')}}}" in script
    assert f"""'"kind":"{KIND}"'""" in script and f'"{HINT}":{{"uuid":' in script
    order = f"{options.run_dir}/image-order"
    builder = unit("vk-image-builder.service")
    assert f"ORDER=$ROOT{order}\n" in script and builder["Unit"]["ConditionPathExists"] == order
    assert unit("vk-agent.service")["Unit"]["ConditionPathExists"] == f"!{order}"
    *_, module, path = builder["Service"]["ExecStart"].split()
    assert (module, path) == (image_builder.__name__, order)
    target = re.findall(r'/image-store.sh" (\S+)', (AWS / "build-image.sh").read_text())
    assert target == [parsed["Service"]["ExecStart"]]


def test_the_document_names_the_agents_port() -> None:
    assert f"TCP {AGENT_PORT}" in (AWS / "README.md").read_text()


def test_gpus_are_described_as_the_agent_names_them_before_it_starts() -> None:
    parsed = unit("vk-nvidia-cdi.service")
    assert "--device-name-strategy=index" in parsed["Service"]["ExecStart"]
    assert "vk-agent.service" in parsed["Unit"]["Before"].split()
    (enabled,) = re.findall(r"^systemctl enable (.*)$", (AWS / "build-image.sh").read_text(), re.MULTILINE)
    assert "vk-nvidia-cdi" in enabled.split()
