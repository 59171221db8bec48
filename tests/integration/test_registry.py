"""The real registry program: start, push, start again with the images, stop."""

import json
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.images.distribution import RegistryClient, push_image
from tests.cluster.images.oci import MANIFEST_TYPE, RunConfig
from tests.cluster.images.rootfs import Rootfs
from tests.cluster.images.store import BuiltImage, ImageStore
from tests.cluster.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Registry(tmp_path / "state", f"127.0.0.1:{port}")
    running.up()
    yield running
    running.down()


def make_image(store: ImageStore, text: str) -> BuiltImage:
    tree = Rootfs()
    tree.add_text("/hello", text)
    return store.put_image(RunConfig(cmd=("cat", "/hello")), [store.put_layer(tree)])


def pull_manifest(registry: Registry, repository: str, tag: str) -> dict[str, object]:
    url = f"http://{registry.address}/v2/{repository}/manifests/{tag}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers={"Accept": MANIFEST_TYPE})) as response:
        return json.load(response)


def test_an_image_is_pushed_once_and_survives_a_restart(registry: Registry, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    client = RegistryClient(registry.address)
    image = make_image(store, "one")
    assert push_image(client, "some/name:1", image, store, {})
    assert not push_image(client, "some/name:1", image, store, {})
    registry.down()
    registry.up()
    assert pull_manifest(registry, "some/name", "1")["layers"] == [image.layers[0].document()]


def test_a_tag_follows_a_changed_image_and_shared_blobs_are_mounted(registry: Registry, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    client = RegistryClient(registry.address)
    known: dict[str, str] = {}
    push_image(client, "a:1", make_image(store, "one"), store, known)
    changed = make_image(store, "two")
    assert push_image(client, "a:1", changed, store, known)
    assert client.tag_digest("a", "1") == changed.manifest.digest
    assert not client.push_blob("b", changed.layers[0], store, known[changed.layers[0].digest])
    assert push_image(client, "b:1", changed, store, known)


def test_up_is_idempotent_and_a_taken_port_is_a_clear_error(registry: Registry, tmp_path: Path) -> None:
    registry.up()
    with pytest.raises(ClusterError, match=r"cannot listen on .*\n.*choose a free port"):
        Registry(tmp_path / "other", registry.address).up()


def test_down_leaves_no_state_and_an_absent_registry_names_the_next_step(registry: Registry) -> None:
    registry.down()
    assert not registry.state.exists()
    with pytest.raises(ClusterError, match="registry up"):
        RegistryClient(registry.address).ping()
