from tests.contract.apiserver.test_apiserver import *
async def test_probe(cluster):
    first = await create(cluster, "a")
    second = await create(cluster, "b")
    f = Follower(cluster, field_selector(spec__nodeName=cluster.node), first["metadata"]["resourceVersion"])
    await patch_status(cluster, second, phase="Running")
    await delete(cluster, second, gracePeriodSeconds=0)
    await asyncio.sleep(3)
    for e in f.events:
        print(e["type"], {k: v for k, v in e["object"]["metadata"].items() if k != "managedFields"}, e["object"]["status"])
    await f.stop()
    third = await create(cluster, "c")
    await delete(cluster, third)
    f = Follower(cluster, field_selector(spec__nodeName=cluster.node), third["metadata"]["resourceVersion"])
    await delete(cluster, third, gracePeriodSeconds=0)
    await asyncio.sleep(2)
    for e in f.events:
        print(e["type"], {k: v for k, v in e["object"]["metadata"].items() if k != "managedFields"})
    await f.stop()
    assert 0
