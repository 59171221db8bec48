"""Shrinking keeps what a difference needs and drops the rest."""

from collections.abc import Callable

from tests.differential.case import Action, Case
from tests.differential.grammar.generate import build
from tests.differential.shrink import Trial, shrink


def trial(needs: Callable[[Case], bool], played: list[Case] | None = None) -> Trial:
    async def still(case: Case) -> bool:
        if played is not None:
            played.append(case)
        return needs(case)

    return still


def big() -> Case:
    main = {"name": "main", "image": "i", "command": ["a"], "tty": True, "volumeMounts": [{"name": "v"}]}
    pod = {
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {
            "containers": [main, {"name": "other", "image": "i"}],
            "volumes": [{"name": "v"}, {"name": "w"}],
            "hostNetwork": True,
        },
    }
    objects = ({"kind": "Secret", "metadata": {"name": "s"}},)
    return Case("n", pod, objects, (Action(1, "snap", {}), Action(2, "delete", {})))


async def test_all_but_the_one_thing_that_matters_goes() -> None:
    case, _ = await shrink(big(), trial(lambda case: case.pod["spec"].get("hostNetwork") is True), 100)
    assert case.pod == {
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "main", "image": "i", "command": ["a"]}], "hostNetwork": True},
    } or case.pod["spec"]["containers"] == [{"name": "other", "image": "i"}]
    assert case.objects == () and case.actions == ()


async def test_things_that_are_needed_together_stay_together() -> None:
    def needs(case: Case) -> bool:
        return any(a.verb == "delete" for a in case.actions) and any(
            volume["name"] == "v" for volume in case.pod["spec"].get("volumes", ())
        )

    case, _ = await shrink(big(), trial(needs), 100)
    assert [action.verb for action in case.actions] == ["delete"]
    assert [volume["name"] for volume in case.pod["spec"]["volumes"]] == ["v"]


async def test_features_go_first_and_the_others_stay_as_they_were() -> None:
    case = build("7-0200", "7-0200", ("host-network", "priority", "probe-grpc"))
    smaller, _ = await shrink(case, trial(lambda case: "readinessProbe" in str(case) or "Probe" in str(case)), 100)
    assert "hostNetwork" not in smaller.pod["spec"] and "priority" not in smaller.pod["spec"]
    assert any("Probe" in key for key in smaller.pod["spec"]["containers"][0])


async def test_no_more_trials_are_played_than_allowed() -> None:
    played: list[Case] = []
    _, left = await shrink(big(), trial(lambda _: True, played), 5)
    assert len(played) <= 6 and left <= 0


async def test_what_cannot_be_smaller_stays() -> None:
    case = big()
    assert (await shrink(case, trial(lambda tried: tried == case), 100))[0] == case
