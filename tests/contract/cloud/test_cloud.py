"""The promises of cloud.base.Cloud, kept by every backend."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import replace

from tests.contract.cloud.conftest import OWNER
from vk_provider.cloud.base import TAG_NODE, TAG_OWNER, Cloud, Instance, InstanceState, LaunchRequest, Offering
from vk_provider.errors import CloudQuotaError, CloudRequestError


async def cheapest(cloud: Cloud) -> Offering:
    return (await cloud.describe_offerings())[0]


async def request(cloud: Cloud, token: str, owner: str = OWNER) -> LaunchRequest:
    return LaunchRequest(token, await cheapest(cloud), {TAG_OWNER: owner, "vk-provider/pod-uid": token}, "{}")


async def launch(cloud: Cloud, *tokens: str) -> list[Instance]:
    results = await cloud.launch([await request(cloud, token) for token in tokens])
    for result in results:
        assert isinstance(result, Instance), result
    return [result for result in results if isinstance(result, Instance)]


async def state_of(cloud: Cloud, instance_id: str) -> InstanceState:
    (found,) = await cloud.describe([instance_id])
    return found.state


async def eventually(cloud: Cloud, instance_id: str, state: InstanceState) -> None:
    async with asyncio.timeout(10):
        while await state_of(cloud, instance_id) is not state:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)


async def test_a_batch_is_answered_in_order_with_addresses_and_tags(cloud: Cloud) -> None:
    tokens = ["c", "a", "b"]
    instances = await launch(cloud, *tokens)
    assert [i.tags["vk-provider/pod-uid"] for i in instances] == tokens
    offering = await cheapest(cloud)
    for instance in instances:
        assert (instance.instance_type, instance.zone) == (offering.instance_type, offering.zone)
        assert (instance.capacity_type, instance.architecture) == (offering.capacity_type, offering.architecture)
        assert instance.primary_ip and instance.pod_ip and instance.launch_time > 0
    assert len({i.primary_ip for i in instances} | {i.pod_ip for i in instances}) == 6


async def test_the_same_token_never_launches_twice(cloud: Cloud) -> None:
    first, again = await asyncio.gather(launch(cloud, "same"), launch(cloud, "same"))
    third = await launch(cloud, "same")
    assert {i.instance_id for i in (*first, *again, *third)} == {first[0].instance_id}
    assert len(await cloud.list_owned()) == 1


async def test_a_token_stays_used_after_its_instance_was_terminated(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "used")
    await cloud.terminate([instance.instance_id])
    await eventually(cloud, instance.instance_id, InstanceState.TERMINATED)
    (again,) = await launch(cloud, "used")
    assert again.instance_id == instance.instance_id
    assert again.state.is_terminated and again.state.has_stopped


async def test_a_token_is_not_taken_for_another_request(cloud: Cloud) -> None:
    """EC2's IdempotentParameterMismatch: who repeats a launch repeats all of it."""
    first = await request(cloud, "token")
    (instance,) = await launch(cloud, "token")
    others = [
        replace(first, tags={**first.tags, "app": "changed"}),
        replace(first, user_data='{"bootSecret": "rotated"}'),
        replace(first, offering=(await cloud.describe_offerings())[1]),
        replace(first, disk_bytes=first.disk_bytes + 1),
    ]
    for result in await cloud.launch(others):
        assert isinstance(result, CloudRequestError) and "IdempotentParameterMismatch" in str(result)
    assert [i.instance_id for i in await launch(cloud, "token")] == [instance.instance_id]
    assert len(await cloud.list_owned()) == 1


async def test_a_launch_that_nobody_waited_for_is_found_again_by_the_same_request(cloud: Cloud) -> None:
    wanted = await request(cloud, "abandoned")
    call = asyncio.create_task(cloud.launch([wanted]))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    (instance,) = await cloud.launch([wanted])
    assert isinstance(instance, Instance) and instance.primary_ip
    await eventually(cloud, instance.instance_id, InstanceState.RUNNING)
    assert [i.instance_id for i in await cloud.list_owned()] == [instance.instance_id]


async def test_listing_shows_running_instances_of_the_owner_only(cloud: Cloud) -> None:
    (ours,) = await launch(cloud, "ours")
    await cloud.launch([await request(cloud, "theirs", owner="somebody else")])
    await eventually(cloud, ours.instance_id, InstanceState.RUNNING)
    found = await cloud.list_owned()
    assert [i.instance_id for i in found] == [ours.instance_id]
    assert found[0].tags == ours.tags
    assert (found[0].primary_ip, found[0].pod_ip) == (ours.primary_ip, ours.pod_ip)


async def test_terminated_instances_are_remembered_with_a_reason(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "short")
    await cloud.terminate([instance.instance_id])
    assert (await state_of(cloud, instance.instance_id)).is_terminating
    await eventually(cloud, instance.instance_id, InstanceState.TERMINATED)
    (found,) = await cloud.list_owned()
    assert found.state_reason


async def test_terminating_is_idempotent_and_takes_unknown_ids(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "twice")
    both = [instance.instance_id, "i-00000000000000000"]
    assert await asyncio.gather(*(cloud.terminate(both) for _ in range(3))) == [[None, None]] * 3
    assert await cloud.terminate([instance.instance_id]) == [None]
    assert (await state_of(cloud, instance.instance_id)).is_terminating


async def test_every_id_of_a_termination_has_a_result_in_order_twice_where_it_is_named_twice(cloud: Cloud) -> None:
    first, second = (instance.instance_id for instance in await launch(cloud, "one", "two"))
    assert await cloud.terminate([second, first, second]) == [None, None, None]
    assert [(await state_of(cloud, each)).is_terminating for each in (first, second)] == [True, True]
    assert await cloud.terminate([]) == []


async def test_describe_leaves_unknown_ids_out(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "known")
    found = await cloud.describe(["i-00000000000000000", instance.instance_id])
    assert [i.instance_id for i in found] == [instance.instance_id]


async def test_one_bad_request_does_not_spoil_the_batch(cloud: Cloud) -> None:
    good = await request(cloud, "good")
    unknown = replace(good, client_token="type", offering=replace(good.offering, instance_type="x9.huge"))
    tagged = replace(good, client_token="tag", tags={"aws:reserved": "x"})
    large = replace(good, client_token="data", user_data="x" * 20_000)
    results = await cloud.launch([unknown, good, tagged, large])
    assert [type(result) for result in results] == [CloudRequestError, Instance, CloudRequestError, CloudRequestError]
    assert len(await cloud.list_owned()) == 1


async def test_the_limit_of_the_account_is_a_quota_error_and_ends_with_a_terminate(cloud: Cloud) -> None:
    instances = await launch(cloud, *(f"t{number}" for number in range(10)))
    (refused,) = await cloud.launch([await request(cloud, "one-more")])
    assert isinstance(refused, CloudQuotaError)
    await cloud.terminate([instances[0].instance_id])
    await eventually(cloud, instances[0].instance_id, InstanceState.TERMINATED)
    assert await launch(cloud, "one-more")


async def test_the_runtime_of_the_instances_is_known_before_the_first_launch(cloud: Cloud) -> None:
    runtime = await cloud.describe_runtime()
    assert runtime.name and re.fullmatch(r"\d+\.\d+\.\d+", runtime.version)
    assert not runtime.recursive_read_only_mounts or "" in runtime.handlers
    assert await cloud.describe_runtime() == runtime


async def test_offerings_are_cheapest_first_and_have_all_figures(cloud: Cloud) -> None:
    offerings = await cloud.describe_offerings()
    prices = [o.price_per_hour for o in offerings]
    assert prices == sorted(prices) and prices[0] > 0
    assert all(o.cpu_milli > 0 and o.memory_bytes > 0 and o.zone and o.architecture for o in offerings)
    assert {o.capacity_type for o in offerings} == {"on-demand", "spot"}
    assert len({o.zone for o in offerings}) == 2


async def test_directories_are_shared_or_a_request_that_has_some_is_refused(cloud: Cloud) -> None:
    first = await request(cloud, "first")
    shared = replace(first, tags={**first.tags, TAG_NODE: "n1"}, shared_host_paths=("/srv/shared",))
    (result,) = await cloud.launch([shared])
    if not cloud.shares_host_paths:
        assert isinstance(result, CloudRequestError) and "share" in str(result)
        return
    assert isinstance(result, Instance), result
    await eventually(cloud, result.instance_id, InstanceState.RUNNING)
    for bad in ({"shared_host_paths": ("/etc",)}, {"tags": first.tags}):
        (refused,) = await cloud.launch([replace(shared, client_token="other", **bad)])
        assert isinstance(refused, CloudRequestError), refused
    (other,) = await cloud.launch([replace(shared, shared_host_paths=())])
    assert isinstance(other, CloudRequestError) and "IdempotentParameterMismatch" in str(other)


async def test_instances_have_addresses_of_both_families_where_the_cloud_has_ipv6(dual_stack_cloud: Cloud) -> None:
    cloud = dual_stack_cloud
    first, second = await launch(cloud, "one", "two")
    for instance in (first, second):
        await eventually(cloud, instance.instance_id, InstanceState.RUNNING)
        (found,) = await cloud.describe([instance.instance_id])
        assert (found.host_ips, found.pod_ips) == (instance.host_ips, instance.pod_ips)
        for addresses in (found.host_ips, found.pod_ips):
            assert [ipaddress.ip_address(each).version for each in addresses] == [4, 6]
            assert all(str(ipaddress.ip_address(each)) == each for each in addresses), "as the API server writes them"
    assert len({*first.host_ips, *first.pod_ips, *second.host_ips, *second.pod_ips}) == 8
    await cloud.terminate([first.instance_id])
    await eventually(cloud, first.instance_id, InstanceState.TERMINATED)
    (gone,) = await cloud.describe([first.instance_id])
    assert gone.host_ips == gone.pod_ips == ()


async def test_an_instance_has_no_ipv6_address_unless_the_cloud_is_told_to(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "one")
    assert (instance.host_ips, instance.pod_ips) == ((instance.primary_ip,), (instance.pod_ip,))
    assert instance.primary_ipv6 == instance.pod_ipv6 == ""
