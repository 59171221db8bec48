"""Which parts a manifest names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.password_registry import make_image, make_index, make_layer
from vk_provider.podmodel.imagemanifest import MAX_PARTS, parse_manifest, select_children

IMAGE = make_image([make_layer({"a": b"1"}), make_layer({"b": b"2"})])
DIGEST = "sha256:" + "0" * 64


def test_a_manifest_names_configuration_and_layers() -> None:
    manifest = parse_manifest(IMAGE.parts[IMAGE.digest][1])
    assert manifest is not None
    assert manifest.blobs == {digest: len(part[1]) for digest, part in IMAGE.parts.items() if digest != IMAGE.digest}
    assert manifest.children == ()


def test_of_an_index_the_children_of_an_architecture_count() -> None:
    other = make_image([make_layer({"c": b"3"})], architecture="arm64")
    index = make_index({"amd64": IMAGE, "arm64": other})
    manifest = parse_manifest(index.parts[index.digest][1])
    assert manifest is not None
    assert select_children(manifest, ("amd64",)) == [IMAGE.digest]
    assert select_children(manifest, ("s390x",)) == []


def test_attestations_are_no_images() -> None:
    entry = {"digest": DIGEST, "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}}
    manifest = parse_manifest(json.dumps({"manifests": [entry]}).encode())
    assert manifest is not None and manifest.children == ()


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        "text",
        {"config": {"digest": DIGEST, "size": 1}},
        {"config": {"digest": "../../etc", "size": 1}, "layers": []},
        {"config": {"digest": DIGEST, "size": -1}, "layers": []},
        {"config": {"digest": DIGEST, "size": 1 << 60}, "layers": []},
        {"config": {"digest": DIGEST, "size": 1}, "layers": [7]},
        {"config": {"digest": DIGEST, "size": 1}, "layers": [{"digest": DIGEST, "size": 1}] * (MAX_PARTS + 1)},
        {"manifests": [{"digest": DIGEST}]},
        {"manifests": [{"digest": DIGEST, "size": 1}] * (MAX_PARTS + 1)},
    ],
)
def test_anything_else_is_refused(document: Any) -> None:
    assert parse_manifest(json.dumps(document).encode()) is None


def test_what_is_no_json_or_nested_too_deeply_is_refused() -> None:
    assert parse_manifest(b"\x00") is None
    assert parse_manifest(b"[" * 200_000) is None
