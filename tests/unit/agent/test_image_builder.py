"""What the builder of prepared images makes of names and of what a pull says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vk_provider.agent import image_builder
from vk_provider.agent.image_builder import BuildError, answer, find_cause, find_config, pin
from vk_provider.wire.imagebuild import BuildOrder, OrderedImage

DIGEST = "sha256:" + "0401" * 16


@pytest.mark.parametrize(
    ("reference", "pinned"),
    [
        ("docker.io/library/app:1", "docker.io/library/app"),
        ("registry:5000/app", "registry:5000/app"),
        ("registry:5000/app:v2", "registry:5000/app"),
        (f"registry/app@{DIGEST}", "registry/app"),
        (f"registry/app:1@{DIGEST}", "registry/app"),
    ],
)
def test_an_image_is_pulled_by_its_digest(reference: str, pinned: str) -> None:
    assert pin(reference, DIGEST) == f"{pinned}@{DIGEST}"


@pytest.mark.parametrize(
    ("message", "full", "cause"),
    [
        ("ctr: failed to resolve: 401 Unauthorized", False, "refused"),
        ("ctr: pull access denied, repository does not exist", False, "refused"),
        (f"ctr: registry/app@{DIGEST}: not found", False, "refused"),
        (f"ctr: failed to copy {DIGEST}: dial tcp 10.0.0.1:443: i/o timeout", False, "failed"),
        ("ctr: lookup registry: no such host", False, "failed"),
        ("ctr: read tcp 10.0.1.5:40312->34.2.3.4:443: read: connection reset by peer", False, "failed"),
        ("ctr: read tcp 10.0.1.5:403->34.2.3.4:443: i/o timeout", False, "failed"),
        ("ctr: command not found", False, "failed"),
        ("ctr: unexpected status from HEAD request to https://r/v2/: 403 Forbidden", False, "refused"),
        ("ctr: write /x: no space left on device", False, "full"),
        ("ctr: unexpected EOF", True, "full"),
        (f"ctr: unexpected commit digest {DIGEST}, expected {DIGEST}: failed precondition", False, "corrupt"),
    ],
)
def test_why_a_pull_has_failed(message: str, full: bool, cause: str) -> None:
    assert find_cause(message, full) == cause


def test_the_configuration_is_that_of_the_one_manifest_that_is_there(tmp_path: Path) -> None:
    manifest, config = "a" * 64, "sha256:" + "c" * 64
    (tmp_path / manifest).write_text(json.dumps({"config": {"digest": config}, "layers": []}))
    others = [{"digest": "sha256:" + each * 64} for each in "ab"]
    (tmp_path / "index").write_text(json.dumps({"manifests": others}))
    assert find_config("index", tmp_path) == config
    (tmp_path / ("b" * 64)).write_text("{}")
    assert find_config("index", tmp_path) == "", "several: CRI finds it by itself"
    for text in (
        "",
        "[]",
        "{}",
        '{"manifests": [{}]}',
        '{"config": 1}',
        '{"config": {"digest": "docker.io/library/other:1"}}',
    ):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(BuildError):
            find_config("bad", tmp_path)


def test_a_fault_of_the_builder_is_answered_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_builder, "run", lambda *argv: None)
    order = BuildOrder(nonce="0" * 16, images=[OrderedImage("r/app:1", DIGEST)], max_bytes=1, limit_s=60)
    (tmp_path / "work").write_text("")
    said = answer(order, tmp_path / "device", tmp_path / "base", tmp_path / "work")
    assert said.cause == "failed" and "FileExistsError" in said.message
