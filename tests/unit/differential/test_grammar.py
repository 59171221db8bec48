"""Random cases: the same for the same seed, each feature alone first, and every one a manifest that reads back."""

import pytest

from tests.differential.case import parse_case
from tests.differential.grammar.generate import build, generate
from tests.differential.grammar.probes import clear_of_deadline
from tests.differential.grammar.registry import ACTIONS, FEATURES


def test_a_seed_gives_the_same_cases_and_another_seed_others() -> None:
    assert [generate(7, index) for index in range(200)] == [generate(7, index) for index in range(200)]
    assert generate(7, 150) != generate(8, 150)


def test_each_feature_and_action_comes_alone_first() -> None:
    count = len(FEATURES) + len(ACTIONS)
    alone = {generate(3, index).features for index in range(count)}
    assert alone == {(part,) for part in (*FEATURES, *ACTIONS)}
    assert any(len(generate(3, index).features) > 3 for index in range(count, count + 50))


def test_every_case_reads_back_as_it_was_written() -> None:
    for index in range(400):
        case = generate(11, index)
        assert parse_case(case.name, case.to_yaml()) == case


def test_a_part_draws_the_same_whatever_stands_beside_it() -> None:
    alone, beside = build("n", "n", ("probe-http",)), build("n", "n", ("priority", "probe-http"))
    kinds = ("livenessProbe", "readinessProbe", "startupProbe")
    mains = [case.pod["spec"]["containers"][0] for case in (alone, beside)]
    assert [{kind: main.get(kind) for kind in kinds} for main in mains][0] == {
        kind: mains[1].get(kind) for kind in kinds
    }


def test_every_volume_that_is_mounted_is_there_and_names_are_unique() -> None:
    for index in range(400):
        spec = generate(5, index).pod["spec"]
        volumes = [volume["name"] for volume in spec.get("volumes", ())]
        containers = [*spec["containers"], *spec.get("initContainers", ())]
        assert len(set(volumes)) == len(volumes)
        assert len({container["name"] for container in containers}) == len(containers)
        assert {mount["name"] for item in containers for mount in item.get("volumeMounts", ())} <= set(volumes)


@pytest.mark.parametrize("wanted_s", [1, 2, 3])
@pytest.mark.parametrize("delay_s", [0, 1, 2])
@pytest.mark.parametrize("failures", [1, 2, 3])
@pytest.mark.parametrize("period_s", [1, 2])
def test_what_a_probe_waits_for_does_not_come_with_its_deadline(
    period_s: int, failures: int, delay_s: int, wanted_s: int
) -> None:
    probe = {"periodSeconds": period_s, "failureThreshold": failures, "initialDelaySeconds": delay_s}
    moment = clear_of_deadline(probe, wanted_s)
    earliest = delay_s + period_s * (failures - 1)
    assert moment >= 1 and not earliest - 1 < moment < earliest + period_s + 1
