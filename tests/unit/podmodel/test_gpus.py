"""Which container has which GPU."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vk_provider.podmodel.gpus import GPU, allot_gpus, asks_for_gpus, count_gpus
from vk_provider.podmodel.resources import effective_resources


def container(name: str, count: int = 0, **more: Any) -> dict[str, Any]:
    resources = {"requests": {GPU: str(count)}, "limits": {GPU: str(count)}} if count else {}
    return {"name": name, "image": "i", "resources": resources, **more}


def pod(*containers: Any, init: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), "initContainers": list(init)}}


def test_containers_that_run_together_share_none_and_those_that_ask_for_none_have_none() -> None:
    both = pod(container("a", 2), container("log"), container("b", 1))
    assert [list(allot_gpus(both, name)) for name in ("a", "log", "b", "debugger")] == [[0, 1], [], [2], []]
    assert asks_for_gpus(both) and not asks_for_gpus(pod(container("log")))


def test_an_init_container_leaves_its_own_to_those_after_it_but_a_sidecar_keeps_its_own() -> None:
    found = pod(container("a", 1), init=(container("warm", 2), container("side", 1, restartPolicy="Always")))
    assert [list(allot_gpus(found, name)) for name in ("warm", "side", "a")] == [[0, 1], [0], [1]]
    late = pod(container("a", 1), init=(container("side", 1, restartPolicy="Always"), container("warm", 2)))
    assert list(allot_gpus(late, "warm")) == [1, 2]


def test_a_limit_alone_is_a_request_and_zero_is_none() -> None:
    assert count_gpus({"resources": {"limits": {GPU: 2}}}) == 2
    assert count_gpus({"resources": {"limits": {GPU: "0"}}}) == 0 == count_gpus({})
    assert asks_for_gpus(pod(container("a"), init=(container("warm", 1),)))


COUNTS = st.integers(0, 3)


@given(st.lists(COUNTS, min_size=1, max_size=4), st.lists(st.tuples(COUNTS, st.booleans()), max_size=4))
def test_none_is_beyond_what_the_instance_is_chosen_for(apps: list[int], inits: list[tuple[int, bool]]) -> None:
    found = pod(
        *(container(f"c{n}", count) for n, count in enumerate(apps)),
        init=tuple(
            container(f"i{n}", count, **({"restartPolicy": "Always"} if side else {}))
            for n, (count, side) in enumerate(inits)
        ),
    )
    names = [each["name"] for each in (*found["spec"]["initContainers"], *found["spec"]["containers"])]
    most = max((index + 1 for name in names for index in allot_gpus(found, name)), default=0)
    assert most == effective_resources(found, "requests").get(GPU, 0)
    together = [*(f"i{n}" for n, (_, side) in enumerate(inits) if side), *(f"c{n}" for n in range(len(apps)))]
    taken = [index for name in together for index in allot_gpus(found, name)]
    assert len(taken) == len(set(taken))
