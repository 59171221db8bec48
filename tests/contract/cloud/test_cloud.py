"""The promises of cloud.base.Cloud, kept by every backend."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import replace

import pytest

from tests.contract.cloud.conftest import OWNER
from tests.launching import launch_each
from vk_provider.cloud.base import TAG_NODE, TAG_OWNER, Cloud, Instance, InstanceState, LaunchRequest, Offering
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CloudQuotaError, CloudRequestError
from vk_provider.settings import CloudSettings, find_backend


async def cheapest(cloud: Cloud) -> Offering:
    return (await cloud.describe_offerings())[0]


async def request(cloud: Cloud, token: str, owner: str = OWNER) -> LaunchRequest:
    return LaunchRequest(token, (await cheapest(cloud),), {TAG_OWNER: owner, "vk-provider/pod-uid": token}, "{}")


async def group(cloud: Cloud, token: str, count: int) -> LaunchRequest:
    return replace(await request(cloud, token), count=count)


async def launch(cloud: Cloud, *tokens: str) -> list[Instance]:
    results = await launch_each(cloud, [await request(cloud, token) for token in tokens])
    for result in results:
        assert isinstance(result, Instance), result
    return [result for result in results if isinstance(result, Instance)]


async def state_of(cloud: Cloud, instance_id: str) -> InstanceState:
    (found,) = await cloud.describe([instance_id])
    return found.state


async def eventually(cloud: Cloud, instance_id: str, state: InstanceState) -> None:
    async with asyncio.timeout(30):
        while await state_of(cloud, instance_id) is not state:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)


async def test_a_group_is_as_many_equal_instances_as_were_asked_for_with_addresses_and_tags(cloud: Cloud) -> None:
    assert cloud.group_limit >= 3
    wanted = await group(cloud, "three", 3)
    answer = await cloud.launch(wanted)
    instances, offering = answer.instances, await cheapest(cloud)
    assert len({i.instance_id for i in instances}) == 3 and answer.failures == ()
    for instance in instances:
        assert dict(instance.tags) == dict(wanted.tags)
        assert (instance.instance_type, instance.zone) == (offering.instance_type, offering.zone)
        assert (instance.capacity_type, instance.architecture) == (offering.capacity_type, offering.architecture)
        assert instance.primary_ip and instance.pod_ip and instance.launch_time > 0
    assert len({i.primary_ip for i in instances} | {i.pod_ip for i in instances}) == 6


async def test_a_group_whose_call_is_repeated_is_the_same_group(cloud: Cloud) -> None:
    wanted = await group(cloud, "group", 3)
    first, again = await asyncio.gather(cloud.launch(wanted), cloud.launch(wanted))
    third = await cloud.launch(wanted)
    names = [sorted(i.instance_id for i in answer.instances) for answer in (first, again, third)]
    assert names[0] == names[1] == names[2] and len(names[0]) == 3
    assert len(await list_owned(cloud)) == 3
    with pytest.raises(CloudRequestError, match="IdempotentParameterMismatch"):
        await cloud.launch(replace(wanted, count=2))


async def test_a_group_beyond_the_limit_of_the_account_comes_in_part_and_says_why(cloud: Cloud) -> None:
    await launch(cloud, *(f"t{number}" for number in range(8)))
    wanted = await group(cloud, "part", 4)
    answer = await cloud.launch(wanted)
    assert len(answer.instances) == 2
    assert {type(failure.error) for failure in answer.failures} == {CloudQuotaError}
    again = await cloud.launch(wanted)
    assert [i.instance_id for i in again.instances] == [i.instance_id for i in answer.instances]
    assert len(await list_owned(cloud)) == 10


async def test_the_next_offering_is_taken_where_the_first_is_not_to_be_had(cloud: Cloud) -> None:
    plain = await group(cloud, "ranked", 2)
    unknown = replace(plain.offerings[0], instance_type="x9.huge")
    answer = await cloud.launch(replace(plain, offerings=(unknown, *plain.offerings)))
    assert [i.instance_type for i in answer.instances] == [plain.offerings[0].instance_type] * 2
    assert [failure.offering for failure in answer.failures] == [unknown]
    nothing = await cloud.launch(replace(plain, client_token="nothing", offerings=(unknown,)))
    assert nothing.instances == () and [f.offering for f in nothing.failures] == [unknown]


async def test_tags_are_added_and_replaced_later_and_never_beyond_the_rules(cloud: Cloud) -> None:
    first, second = await launch(cloud, "one", "two")
    await cloud.create_tags([first.instance_id, second.instance_id], {"team": "a", "vk-provider/pod-uid": "u"})
    await cloud.create_tags([second.instance_id], {"team": "b"})
    tags = {i.instance_id: i.tags for i in await list_owned(cloud)}
    assert (tags[first.instance_id]["team"], tags[second.instance_id]["team"]) == ("a", "b")
    assert tags[first.instance_id][TAG_OWNER] == OWNER and tags[second.instance_id]["vk-provider/pod-uid"] == "u"
    for wrong in ({"aws:x": "y"}, {f"k{number}": "" for number in range(50)}):
        with pytest.raises(CloudRequestError):
            await cloud.create_tags([first.instance_id], wrong)
    (again,) = await launch(cloud, "one")
    assert again.instance_id == first.instance_id, "tags that came later are no parameters of the launch"


async def test_a_listing_is_read_page_by_page_until_there_is_none(cloud: Cloud) -> None:
    instances = await launch(cloud, *(f"t{number}" for number in range(5)))
    names: list[str] = []
    page = ""
    while True:
        answer = await cloud.list_page(page)
        names += [instance.instance_id for instance in answer.instances]
        page = answer.next_page
        if not page:
            break
    assert sorted(names) == sorted(i.instance_id for i in instances)


async def test_notices_come_or_end_at_once_and_never_hinder(cloud: Cloud) -> None:
    async def first() -> None:
        async for _ in cloud.notices():
            return

    listening = asyncio.create_task(first())
    await asyncio.sleep(0)
    (instance,) = await launch(cloud, "noticed")
    await cloud.terminate([instance.instance_id])
    await eventually(cloud, instance.instance_id, InstanceState.TERMINATED)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_the_same_token_never_launches_twice(cloud: Cloud) -> None:
    first, again = await asyncio.gather(launch(cloud, "same"), launch(cloud, "same"))
    third = await launch(cloud, "same")
    assert {i.instance_id for i in (*first, *again, *third)} == {first[0].instance_id}
    assert len(await list_owned(cloud)) == 1


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
        replace(first, offerings=((await cloud.describe_offerings())[1],)),
        replace(first, disk_bytes=first.disk_bytes + 1),
    ]
    for result in await launch_each(cloud, others):
        assert isinstance(result, CloudRequestError) and "IdempotentParameterMismatch" in str(result)
    assert [i.instance_id for i in await launch(cloud, "token")] == [instance.instance_id]
    assert len(await list_owned(cloud)) == 1


async def test_a_launch_that_nobody_waited_for_is_found_again_by_the_same_request(cloud: Cloud) -> None:
    wanted = await request(cloud, "abandoned")
    call = asyncio.create_task(cloud.launch(wanted))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    (instance,) = (await cloud.launch(wanted)).instances
    assert instance.primary_ip
    await eventually(cloud, instance.instance_id, InstanceState.RUNNING)
    assert [i.instance_id for i in await list_owned(cloud)] == [instance.instance_id]


async def test_listing_shows_running_instances_of_the_owner_only(cloud: Cloud) -> None:
    (ours,) = await launch(cloud, "ours")
    await cloud.launch(await request(cloud, "theirs", owner="somebody else"))
    await eventually(cloud, ours.instance_id, InstanceState.RUNNING)
    found = await list_owned(cloud)
    assert [i.instance_id for i in found] == [ours.instance_id]
    assert found[0].tags == ours.tags
    assert (found[0].primary_ip, found[0].pod_ip) == (ours.primary_ip, ours.pod_ip)


async def test_terminated_instances_are_remembered_with_a_reason(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "short")
    await cloud.terminate([instance.instance_id])
    assert (await state_of(cloud, instance.instance_id)).is_terminating
    await eventually(cloud, instance.instance_id, InstanceState.TERMINATED)
    (found,) = await list_owned(cloud)
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


def can_stop(cloud: Cloud) -> bool:
    return find_backend(CloudSettings(backend=cloud.name))[0].ability.stops


async def launch_on_demand(cloud: Cloud, *tokens: str) -> list[Instance]:
    """Running ones, of the cheapest offering that can be stopped."""
    offering = next(each for each in await cloud.describe_offerings() if each.capacity_type == "on-demand")
    wanted = [replace(await request(cloud, token), offerings=(offering,)) for token in tokens]
    instances = [instance for each in wanted for instance in (await cloud.launch(each)).instances]
    for instance in instances:
        await eventually(cloud, instance.instance_id, InstanceState.RUNNING)
    return instances


async def test_a_stopped_instance_is_listed_as_such_and_starts_again_with_its_addresses_and_tags(cloud: Cloud) -> None:
    (before,) = await launch_on_demand(cloud, "rests")
    if not can_stop(cloud):
        for refused in (await cloud.stop_instances([before.instance_id]), await cloud.start_instances([""])):
            assert [type(each) for each in refused] == [CloudRequestError]
        assert await state_of(cloud, before.instance_id) is InstanceState.RUNNING
        return
    assert await cloud.stop_instances([before.instance_id]) == [None]
    await eventually(cloud, before.instance_id, InstanceState.STOPPED)
    (stopped,) = await list_owned(cloud)
    assert (stopped.primary_ip, stopped.pod_ip, stopped.tags) == (before.primary_ip, before.pod_ip, before.tags)
    assert stopped.state_reason and stopped.launch_time == before.launch_time
    assert await cloud.stop_instances([before.instance_id]) == [None], "stopping is idempotent"
    assert await cloud.start_instances([before.instance_id]) == [None]
    await eventually(cloud, before.instance_id, InstanceState.RUNNING)
    (started,) = await list_owned(cloud)
    assert (started.primary_ip, started.pod_ip, started.tags) == (before.primary_ip, before.pod_ip, before.tags)
    assert started.launch_time > stopped.launch_time and started.ended_at == 0.0
    assert await cloud.start_instances([before.instance_id]) == [None], "starting is idempotent"
    assert [i.instance_id for i in await launch_on_demand(cloud, "rests")] == [before.instance_id]


async def test_every_id_of_a_stop_and_of_a_start_has_a_result_of_its_own_in_order(cloud: Cloud) -> None:
    if not can_stop(cloud):
        return
    first, second, ended = (each.instance_id for each in await launch_on_demand(cloud, "one", "two", "ended"))
    await cloud.terminate([ended])
    unknown = "i-00000000000000000"
    stops = await cloud.stop_instances([second, ended, first, unknown, second])
    assert [type(each) for each in stops] == [
        type(None),
        CloudRequestError,
        type(None),
        CloudRequestError,
        type(None),
    ]
    for each in (first, second):
        await eventually(cloud, each, InstanceState.STOPPED)
    starts = await cloud.start_instances([ended, first, unknown])
    assert [type(each) for each in starts] == [CloudRequestError, type(None), CloudRequestError]
    await eventually(cloud, first, InstanceState.RUNNING)
    assert await state_of(cloud, second) is InstanceState.STOPPED
    assert await cloud.terminate([second]) == [None]
    await eventually(cloud, second, InstanceState.TERMINATED)
    assert await cloud.stop_instances([]) == await cloud.start_instances([]) == []


async def test_a_spot_instance_is_not_stopped(cloud: Cloud) -> None:
    if not can_stop(cloud):
        return
    spot = next(each for each in await cloud.describe_offerings() if each.capacity_type == "spot")
    wanted = replace(await request(cloud, "spot"), offerings=(spot,))
    (instance,) = (await cloud.launch(wanted)).instances
    await eventually(cloud, instance.instance_id, InstanceState.RUNNING)
    (refused,) = await cloud.stop_instances([instance.instance_id])
    assert isinstance(refused, CloudRequestError) and str(refused).startswith("UnsupportedOperation")
    assert await state_of(cloud, instance.instance_id) is InstanceState.RUNNING


async def test_stopped_instances_do_not_count_for_the_limit_until_they_are_started(cloud: Cloud) -> None:
    if not can_stop(cloud):
        return
    resting = (await launch_on_demand(cloud, *(f"t{number}" for number in range(10))))[0].instance_id
    assert await cloud.stop_instances([resting]) == [None]
    await eventually(cloud, resting, InstanceState.STOPPED)
    (other,) = await launch_on_demand(cloud, "in its place")
    (refused,) = await cloud.start_instances([resting])
    assert isinstance(refused, CloudQuotaError)
    assert await state_of(cloud, resting) is InstanceState.STOPPED
    await cloud.terminate([other.instance_id])
    await eventually(cloud, other.instance_id, InstanceState.TERMINATED)
    assert await cloud.start_instances([resting]) == [None]


async def test_describe_leaves_unknown_ids_out(cloud: Cloud) -> None:
    (instance,) = await launch(cloud, "known")
    found = await cloud.describe(["i-00000000000000000", instance.instance_id])
    assert [i.instance_id for i in found] == [instance.instance_id]


async def test_what_a_cloud_can_never_do_is_refused(cloud: Cloud) -> None:
    good = await request(cloud, "good")
    unknown = replace(good, client_token="type", offerings=(replace(good.offerings[0], instance_type="x9.huge"),))
    tagged = replace(good, client_token="tag", tags={"aws:reserved": "x"})
    large = replace(good, client_token="data", user_data="x" * 20_000)
    results = await launch_each(cloud, [unknown, good, tagged, large])
    assert [type(result) for result in results] == [CloudRequestError, Instance, CloudRequestError, CloudRequestError]
    assert len(await list_owned(cloud)) == 1


async def test_the_limit_of_the_account_is_a_quota_error_and_ends_with_a_terminate(cloud: Cloud) -> None:
    instances = await launch(cloud, *(f"t{number}" for number in range(10)))
    (refused,) = await launch_each(cloud, [await request(cloud, "one-more")])
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
    (result,) = await launch_each(cloud, [shared])
    if not cloud.shares_host_paths:
        assert isinstance(result, CloudRequestError) and "share" in str(result)
        return
    assert isinstance(result, Instance), result
    await eventually(cloud, result.instance_id, InstanceState.RUNNING)
    for bad in ({"shared_host_paths": ("/etc",)}, {"tags": first.tags}):
        (refused,) = await launch_each(cloud, [replace(shared, client_token="other", **bad)])
        assert isinstance(refused, CloudRequestError), refused
    (other,) = await launch_each(cloud, [replace(shared, shared_host_paths=())])
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


async def test_an_option_that_the_cloud_does_not_know_is_refused_and_nothing_is_launched(cloud: Cloud) -> None:
    wrong = replace(await request(cloud, "first"), options={"colour": "blue"})
    (refused,) = await launch_each(cloud, [wrong])
    assert isinstance(refused, CloudRequestError) and "colour" in str(refused)
    assert await list_owned(cloud) == []
