"""The configured cloud: found by name, also one of somebody else; what it cannot do is said at the start."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.unit.thirdparty import install
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cli import main
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.aws.stores.settings import ImageStoreSettings
from vk_provider.cloud.base import InstanceRuntime
from vk_provider.cloud.simulated.connector import SimulatedConnector
from vk_provider.clouds import check_cloud, create_backend, digest_configuration, find_image_stores, find_left_stores
from vk_provider.errors import EXIT_BAD_START, BadStartError
from vk_provider.settings import CloudSettings, ImageSettings, NodeSettings, PoolSettings, Settings, load_settings

SHARING = (NodeSettings("n1"), NodeSettings("n2", port=1, shared_host_paths=("/tmp/x",)))
MARS = '[[nodes]]\nname = "n"\naddress = "127.0.0.1"\n[cloud]\nbackend = "mars"\nowner = "us"\n'
ACCOUNT = '[cloud.mars]\naccount = "a-7"\n'


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages that this process imports from."""
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    monkeypatch.delitem(sys.modules, "mars_cloud", raising=False)
    return directory


@pytest.fixture
def identity() -> ProviderIdentity:
    return ProviderIdentity.create(datetime.datetime.now(datetime.UTC))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "provider.toml"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadStartError) as caught:
        load_settings(path, {})
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_cloud_whose_instances_share_nothing_refuses_shared_host_paths() -> None:
    check_cloud(Settings(SHARING, cloud=CloudSettings(backend="local")))
    with pytest.raises(BadStartError, match="shared_host_paths of node n2: instances of the simulated cloud cannot"):
        check_cloud(Settings(SHARING, cloud=CloudSettings(backend="simulated")))
    check_cloud(Settings((NodeSettings("n1"),), cloud=CloudSettings(backend="simulated")))


def test_a_cloud_that_cannot_have_images_ready_refuses_to_be_told_so() -> None:
    node, cloud = (NodeSettings("n1"),), CloudSettings(backend="simulated")
    with pytest.raises(
        BadStartError, match="images.prepare: the simulated cloud cannot have images ready; next: leave"
    ):
        check_cloud(Settings(node, cloud=cloud, images=ImageSettings(prepare=True)))
    for prepare in (None, False):
        check_cloud(Settings(node, cloud=cloud, images=ImageSettings(prepare=prepare)))
    check_cloud(Settings(node, cloud=CloudSettings(backend="local"), images=ImageSettings(prepare=True)))


def test_named_images_are_refused_where_nothing_is_prepared() -> None:
    node, images = (NodeSettings("n1"),), ImageSettings(named=("nginx:1",))
    for name, said in (
        ("simulated", "images.named: the simulated cloud cannot"),
        ("aws", "images.named: the settings of"),
    ):
        with pytest.raises(BadStartError, match=said):
            check_cloud(Settings(node, cloud=CloudSettings(backend=name), images=images))
    local = CloudSettings(backend="local")
    check_cloud(Settings(node, cloud=local, images=images))
    with pytest.raises(BadStartError, match="images.named: nothing is prepared with images.prepare = false"):
        check_cloud(Settings(node, cloud=local, images=replace(images, prepare=False)))


def test_a_named_image_that_is_no_reference_is_refused(tmp_path: Path) -> None:
    text = '[[nodes]]\nname = "n"\naddress = "127.0.0.1"\n[cloud]\nbackend = "local"\nowner = "us"\n'
    assert load_settings(write(tmp_path, f'{text}[images]\nnamed = ["nginx:1"]\n'), {}).images.named == ("nginx:1",)
    many = ", ".join(f'"nginx:{number}"' for number in range(101))
    assert "images.named has 101 images" in refusal(write(tmp_path, f"{text}[images]\nnamed = [{many}]\n"))
    assert "images.named: 'NGINX:1'" in refusal(write(tmp_path, f'{text}[images]\nnamed = ["NGINX:1"]\n'))


def test_ec2_has_images_ready_where_its_own_settings_let_it() -> None:
    node, off = (NodeSettings("n1"),), CloudSettings(backend="aws")
    with pytest.raises(BadStartError, match=r"next: cloud\.aws\.image_stores\.enabled = true"):
        check_cloud(Settings(node, cloud=off, images=ImageSettings(prepare=True)))
    assert find_image_stores(Settings(node, cloud=off), check_cloud(Settings(node, cloud=off))) is None
    on = CloudSettings(backend="aws", own=AwsCloudSettings(image_stores=ImageStoreSettings(enabled=True)))
    for prepare in (None, True, False):
        settings = Settings(node, cloud=on, images=ImageSettings(prepare=prepare))
        found = find_image_stores(settings, check_cloud(settings))
        assert (found is not None) == (prepare is not False)
        assert (find_left_stores(settings, check_cloud(settings)) is not None) == (prepare is False)
    assert find_left_stores(Settings(node, cloud=off), check_cloud(Settings(node, cloud=off))) is not None
    simulated = Settings(node, cloud=CloudSettings(backend="simulated"))
    assert find_left_stores(simulated, check_cloud(simulated)) is None


def test_a_pool_of_stopped_instances_is_refused_by_a_cloud_that_cannot_stop_any() -> None:
    pool = PoolSettings("warm", cpu="1", memory="1Gi", count=1, max=1, state="stopped")
    settings = Settings((NodeSettings("n1"),), cloud=CloudSettings(backend="local"), pools=(pool,))
    with pytest.raises(BadStartError, match=r'pool warm: state = "stopped": the local cloud cannot stop instances'):
        check_cloud(settings)
    for name in ("aws", "simulated"):
        check_cloud(replace(settings, cloud=CloudSettings(backend=name)))


async def test_a_cloud_says_how_its_agents_are_reached(identity: ProviderIdentity) -> None:
    for name, kind in (("local", HttpsConnector), ("simulated", SimulatedConnector)):
        cloud, connector = create_backend(Settings(SHARING[:1], cloud=CloudSettings(backend=name)), identity)
        assert cloud.name == name and type(connector) is kind
        await connector.close()
        await cloud.close()


async def test_the_agents_of_somebody_else_s_cloud_are_reached_by_https_unless_it_says_otherwise(
    packages: Path, tmp_path: Path, identity: ProviderIdentity
) -> None:
    install(packages)
    settings = load_settings(write(tmp_path, MARS + ACCOUNT), {})
    cloud, connector = create_backend(settings, identity)
    assert type(cloud).__name__ == "MarsCloud" and type(connector) is HttpsConnector
    await connector.close()


async def test_a_cloud_that_is_installed_beside_the_provider_is_started_with_its_own_settings(tmp_path: Path) -> None:
    packages, api = tmp_path / "packages", web.Application()
    packages.mkdir()
    install(packages)

    async def version(_: web.Request) -> web.Response:
        return web.json_response({})

    api.router.add_get("/version", version)
    async with TestServer(api) as server:
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("")).rstrip("/")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        own = f'[cluster]\nkubeconfig = "{tmp_path}/kubeconfig"\n[identity]\ndirectory = "{tmp_path}/identity"\n'
        arguments = ("-m", "vk_provider", "run", "--config", str(write(tmp_path, MARS + ACCOUNT + own)))
        search = os.pathsep.join(map(str, (packages, *sys.path)))
        provider = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**os.environ, "PYTHONPATH": search}, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, said = await asyncio.wait_for(provider.communicate(), 60.0)
        finally:
            if provider.returncode is None:
                provider.kill()
                await provider.wait()
    assert said.decode().splitlines()[-1] == "vk-provider: no launch window for a-7, owner us"
    assert provider.returncode == EXIT_BAD_START


def test_the_settings_of_somebody_else_s_cloud_are_read_and_checked_as_our_own(packages: Path, tmp_path: Path) -> None:
    install(packages)
    own = load_settings(write(tmp_path, MARS + ACCOUNT), {}).cloud.own
    assert (own.account, own.rockets) == ("a-7", 2)
    for table, said in (
        ("", "cloud.mars.account is missing"),
        ('[cloud.mars]\naccount = "earth"\n', "cloud.mars.account is Earth's"),
        (ACCOUNT + "rockets = 0\n", "cloud.mars.rockets must be more than 0, not 0"),
        (ACCOUNT + "fuel = 1\n", "unknown key cloud.mars.fuel (known here: account, rockets)"),
    ):
        assert refusal(write(tmp_path, MARS + table)) == said
    speed = MARS + "speed = 1\n"
    assert "local, mars, orphan_min_age_s" in refusal(write(tmp_path, speed)), "its table is among the known keys"


def test_an_unknown_cloud_is_refused_with_the_names_of_the_known_ones(
    packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(packages)
    path = write(tmp_path, MARS.replace('"mars"', '"venus"'))
    assert main(["check-config", "--config", str(path)]) == EXIT_BAD_START
    said = capsys.readouterr().err
    known = "'aws', 'local', 'mars', 'simulated'"
    assert said == f"vk-provider: {path}: cloud.backend must be one of {known}, not 'venus'\n"


@pytest.mark.parametrize(("name", "others"), [("mars", "the distribution mars-cloud"), ("local", "vk-provider itself")])
def test_two_clouds_of_one_name_are_refused(packages: Path, tmp_path: Path, name: str, others: str) -> None:
    if name == "mars":
        install(packages)
    install(packages, "red-planet", name)
    said = refusal(write(tmp_path, '[[nodes]]\nname = "n"\n[cloud]\nbackend = "simulated"\n'))
    assert said.startswith(f"two clouds have the name '{name}': that of ") and "the distribution red-planet" in said
    assert others in said


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "import no_such_package",
            "the cloud 'mars' of the distribution mars-cloud cannot be imported: ModuleNot",
        ),
        ("BACKEND = 1", "mars_cloud:BACKEND of the distribution mars-cloud is no CloudBackend with the name 'mars'"),
        ("from vk_provider.cloud.local.backend import BACKEND", "is no CloudBackend with the name 'mars'"),
    ],
)
def test_a_cloud_that_cannot_be_used_is_a_bad_start(packages: Path, tmp_path: Path, module: str, said: str) -> None:
    install(packages, module=module)
    assert said in refusal(write(tmp_path, MARS))
    load_settings(write(tmp_path, MARS.replace('"mars"', '"simulated"')), {})  # it is imported only when it is used


def test_a_cloud_cannot_take_the_name_of_a_key_of_the_table(packages: Path, tmp_path: Path) -> None:
    install(packages, name="owner")
    assert "'owner'" in refusal(write(tmp_path, '[[nodes]]\nname = "n"\n[cloud]\nowner = "us"\n'))


def test_another_machine_image_is_another_configuration_of_idle_instances(identity: ProviderIdentity) -> None:
    """Settings may name a parameter that holds the image: what counts is what it holds."""
    settings = Settings(SHARING[:1], cloud=CloudSettings(backend="simulated"))
    runtime = InstanceRuntime("containerd", "2.1.4", images=("ami-0000000000000001",))
    first = digest_configuration(settings, identity, runtime)
    assert first == digest_configuration(settings, identity, replace(runtime))
    assert first != digest_configuration(settings, identity, replace(runtime, images=("ami-0000000000000002",)))
