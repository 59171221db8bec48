"""The preparer between a real registry, and a cloud and a cluster in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import CollectorRegistry

from tests.password_registry import Image, PasswordRegistry, make_image, make_layer
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.cloud.imagestores import PreparedStore, StoreCosts
from vk_provider.imagesets.imageset import ImageSet
from vk_provider.imagesets.sets import Limits
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.firsttime import FirstTimeRules
from vk_provider.preparing.metrics import ImageMetrics
from vk_provider.preparing.preparer import ImagePreparer
from vk_provider.registry.client import RegistryClient
from vk_provider.wire.images import ImagesMessage, ImageUse

ONE: Image = make_image([make_layer({"a": b"1"})])
TWO: Image = make_image([make_layer({"a": b"2"})])


def make_instance(instance_id: str, architecture: str = "amd64") -> Instance:
    return Instance(instance_id, InstanceState.RUNNING, "t", "z", "on-demand", architecture, "", "", 0.0)


class Stores:
    """Stores in memory. error: that the next call of prepare raises. is_divided: whether each is for one architecture
    alone, the one that it is asked for, as on EC2."""

    shares_machine = True

    def __init__(self) -> None:
        self.prepared: list[PreparedStore] = []
        self.asked: list[tuple[ImageSet, tuple[str, ...]]] = []
        self.awaited: list[bool] = []
        self.error: Exception | None = None
        self.changed = asyncio.Event()
        self.architecture = ""
        self.is_divided = False
        self.swept = 0

    def follow_costs(self, costs: StoreCosts) -> None:
        """They cost nothing."""

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        self.asked.append((images, tuple(sources)))
        self.awaited.append(is_awaited)
        self.changed.set()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        made_for = architecture if self.is_divided else self.architecture
        store = PreparedStore(f"s{len(self.asked)}", images, 10, 0.0, made_for)
        self.prepared.append(store)
        return store

    async def list_prepared(self) -> list[PreparedStore]:
        return list(self.prepared)

    async def forget(self, handle: str) -> None:
        self.prepared = [store for store in self.prepared if store.handle != handle]

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        self.swept += nobody_prepares


class Secrets:
    """Secrets of the one namespace by name."""

    def __init__(self) -> None:
        self.items: dict[str, Json] = {}

    def put(self, name: str, host: str, user: str, password: str) -> None:
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        text = json.dumps({"auths": {host: {"auth": auth}}})
        self.items[name] = {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}

    async def read_pull_secrets(self, pod: Json) -> Mapping[str, Json | None]:
        return {each["name"]: self.items.get(each["name"]) for each in pod["spec"].get("imagePullSecrets") or ()}


@dataclass
class World:
    """The preparer with a real registry client; the cloud and the cluster are in memory."""

    registry: PasswordRegistry
    client: RegistryClient
    stores: Stores = field(default_factory=Stores)
    secrets: Secrets = field(default_factory=Secrets)
    records: list[PodRecord] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    now: float = 1000.0
    architecture: str = "amd64"

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another process: it knows nothing, and the stores are there."""
        self.metrics = CollectorRegistry()
        self.preparer = ImagePreparer(
            self.stores,
            Limits(max_bytes=1000, max_age_s=1000.0),
            PullAuthority(self.client),
            self.secrets,
            ImageMetrics(self.metrics),
            lambda record, kind, reason, text: self.events.append(f"{kind} {reason} {record.name}: {text}"),
            lambda: self.records,
            self.first_time(),
            clock=lambda: self.now,
        )

    def first_time(self) -> FirstTimeRules | None:
        """None: no pod waits for another one."""
        return None

    @property
    def reference(self) -> str:
        return f"{self.registry.host}/team/app:1"

    def pod(self, name: str, *, secret: str = "", policy: str = "IfNotPresent", image: str = "") -> Json:
        container = {"name": "c", "image": image or self.reference, "imagePullPolicy": policy}
        secrets = {"imagePullSecrets": [{"name": secret}]} if secret else {}
        return {
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [container], **secrets},
        }

    async def run_pod(self, name: str, digest: str = ONE.digest, *, pulled: bool = True, **spec: str) -> PodRecord:
        """A pod whose agent tells that it has pulled the image."""
        pod = self.pod(name, **spec)
        record = PodRecord(name, "n", pod)
        record.assignment.take(OwnedInstance(make_instance(f"i-{name}", self.architecture)))
        self.records.append(record)
        self.tell(record, digest, pulled=pulled)
        await asyncio.gather(*self.preparer._tasks)
        return record

    def tell(self, record: PodRecord, digest: str, *, pulled: bool = True) -> None:
        image = record.pod["spec"]["containers"][0]["image"]
        use = ImageUse(image=image, digests=[digest], sizeBytes=100, pulled=pulled, seconds=1.0)
        self.preparer.receive(record, ImagesMessage(type="images", podUID=record.uid, images=[use]))

    async def prepare(self) -> None:
        """Let the root task do what it finds to do."""
        task = asyncio.create_task(self.preparer.run())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def store_of(self, name: str = "next", **spec: str) -> str:
        """What a new pod's instance starts from."""
        pod = self.pod(name, **spec)
        chosen = self.preparer.choose(pod)
        return chosen if chosen is not None else await self.preparer.prove(pod)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, labels) or 0.0


Kind = TypeVar("Kind", bound=World)


@contextlib.asynccontextmanager
async def serve(kind: type[Kind]) -> AsyncIterator[Kind]:
    """A world with one image at its registry."""
    registry = PasswordRegistry()
    await registry.start()
    registry.push("team/app", "1", ONE)
    client = RegistryClient({registry.host: {"plain_http": True}})
    made = kind(registry, client)
    yield made
    await made.preparer.close()
    await client.close()
    await registry.stop()
