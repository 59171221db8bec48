"""Reading cases, and images that stand in."""

from pathlib import Path

import pytest

from tests import differential
from tests.differential.actions import CHANGES
from tests.differential.case import Action, localise, parse_case, read_cases, stand_in

MANIFEST = """
# expected: a comment
apiVersion: v1
kind: Pod
metadata:
  name: x
  annotations:
    diff/actions: '{"window": 20, "actions": [[18, "exec", {"cmd": ["true"]}], [4, "snap", {}]]}'
spec:
  containers:
  - {name: main, image: "10.77.0.1:5000/busybox:1.36"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {image: untouched}
"""


def test_a_manifest_is_a_pod_its_objects_and_what_is_done_when() -> None:
    case = parse_case("n", MANIFEST)
    assert case.window == 20
    assert case.actions == (Action(4, "snap", {}), Action(18, "exec", {"cmd": ["true"]}))
    assert [item["kind"] for item in case.objects] == ["ConfigMap"]
    assert "annotations" not in case.pod["metadata"]


@pytest.mark.parametrize(
    "text",
    [
        "kind: ConfigMap",
        MANIFEST.replace('{"window"', "window"),
        MANIFEST.replace('[4, "snap", {}]', '"snap"'),
        "a: [",
    ],
)
def test_what_is_no_case_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(ValueError, match="n"):
        parse_case("n", text)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("10.77.0.1:5000/busybox:1.36", "R:1/e2e-test-images/busybox:1.37.0-2"),
        ("10.77.0.1:5000/e2e-test-images/agnhost:2.66.1", "R:1/e2e-test-images/agnhost:2.66.1"),
        ("alpine:3.19", "R:1/busybox:latest"),
        ("REGISTRY/no/such:1", "R:1/no/such:1"),
        ("10.77.0.1:5000/none:2", "R:1/none:2"),
        ("Upper/Case", "Upper/Case"),
    ],
)
def test_an_image_is_taken_from_the_clusters_own_registry(image: str, expected: str) -> None:
    assert stand_in(image, "R:1") == expected


def test_images_in_actions_stand_in_too_and_data_of_objects_does_not() -> None:
    case = parse_case("n", MANIFEST.replace('{"cmd": ["true"]}', '{"body": {"image": "alpine"}}'))
    local = localise(case, "R:1")
    assert local.actions[1].arguments == {"body": {"image": "R:1/busybox:latest"}}
    assert local.pod["spec"]["containers"][0]["image"] == "R:1/e2e-test-images/busybox:1.37.0-2"
    assert local.objects[0]["data"] == {"image": "untouched"}


def test_every_sibling_is_a_case_whose_actions_come_within_its_window() -> None:
    cases = read_cases(Path(differential.__file__).parent / "siblings")
    assert len({case.to_yaml() for case in cases}) == len(cases) > 200
    asks = {"snap", "exec", "logs", "attach", "portforward", "cp"}
    for case in cases:
        assert {action.verb for action in case.actions} <= CHANGES | asks, case.name
        assert all(action.at <= case.window for action in case.actions), case.name
