"""PodWorker: the interface of the session and of the request handlers to `podrun`, which does the work."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.images import ImageStore
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.agent.worker.gate import TablesInForce
from vk_provider.agent.worker.memory import PodMemory, services_of
from vk_provider.agent.worker.podrun import PodRun, make_volumes
from vk_provider.agent.worker.rehearsal import Rehearse
from vk_provider.agent.worker.rules.spec import find_ref, uid_of
from vk_provider.jsontypes import Json
from vk_provider.wire.session import PodMessage, ReferencesMessage, ServicesMessage, StopMessage

log = logging.getLogger(__name__)


class PodWorker:
    """The one pod of this instance. `update` is level-triggered and never blocks; `run` returns only on cancel."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        images: ImageStore,
        outbox: Outbox,
        journal: Journal,
        facts: InstanceFacts,
        root: Path,
        tables: TablesInForce,
    ) -> None:
        """root: the kubelet's directory for volumes, /var/lib/kubelet. The journal is read here."""
        self._runtime = runtime
        self._images = images
        self._outbox = outbox
        self._journal = journal
        self._facts = facts
        self._root = root
        self._tables = tables
        self._memory = PodMemory.from_document(journal.load())
        self._run: PodRun | None = None
        self._has_pod = asyncio.Event()
        if self._memory is not None:
            self._has_pod.set()
            # The last status is sent again at once, as the runtime may not answer for a long time.
            outbox.send_status(self._memory.uid, self._memory.status, self._memory.finished)

    def update(self, message: PodMessage | ReferencesMessage | ServicesMessage | StopMessage) -> None:
        """Take over the newest desired state; a message for another pod is refused."""
        if message["type"] == "pod":
            self._update_pod(message)
        elif self._memory is None:
            log.warning("%s before any pod: ignored", message["type"])
            return
        elif message["type"] == "references":
            self._memory.references = message["references"]
        elif message["type"] == "services":
            if not self._memory.take_services(message["services"]):
                if self._run is not None:
                    self._run.keep()
                return
        else:
            self._memory.apply_stop(message)
        if self._run is not None:
            self._run.wake()

    def _update_pod(self, message: PodMessage) -> None:
        memory = self._memory
        if memory is None:
            self._memory = PodMemory.from_message(message)
            self._has_pod.set()
            return
        uid = uid_of(message["pod"])
        if uid != memory.uid:
            log.error("pod %s refused: this instance belongs to pod %s", uid, memory.uid)
            return
        memory.replace_pod(message["pod"])
        memory.node = message["node"]
        memory.services = services_of(message)
        if message["references"] != memory.references:
            memory.references = message["references"]

    async def run(self, meanwhile: Rehearse | None = None) -> None:
        """Wait for a pod (or take the journal's), then work for it. The runtime must be ready."""
        volumes = await make_volumes(self._runtime, self._root)
        if meanwhile is not None:
            await meanwhile.run(self._has_pod)
        await self._has_pod.wait()
        memory = self._memory
        assert memory is not None
        self._run = PodRun(
            memory, self._runtime, self._images, self._outbox, self._journal, self._facts, volumes, self._tables
        )
        await self._run.run()

    # -- PodView -----------------------------------------------------------------------------------------------------

    @property
    def pod(self) -> Json | None:
        """Newest API pod; None while the instance has none."""
        return self._memory.api_pod if self._memory is not None else None

    @property
    def grant(self) -> str:
        """What proves that the pod was given to this instance, "" where nothing does."""
        return self._memory.node.get("grant", "") if self._memory is not None else ""

    @property
    def status(self) -> Json:
        """Newest computed PodStatus."""
        return self._memory.status if self._memory is not None else {}

    @property
    def sandbox_id(self) -> str:
        """Newest sandbox, "" while there is none."""
        sandboxes = self._run.observed.sandboxes if self._run is not None else ()
        return sandboxes[0].id if sandboxes else ""

    def container_spec(self, name: str) -> Json | None:
        ref = find_ref(self._memory.pod, name) if self._memory is not None else None
        return ref.spec if ref is not None else None

    def container_id(self, name: str) -> str:
        """Newest container of that name, "" when there was none."""
        history = self._run.observed.history(name) if self._run is not None else ()
        return history[0].id if history else ""

    def log_path(self, container_id: str) -> str | None:
        """Absolute path of a container's log on the instance; None when the runtime does not know the container."""
        containers = self._run.observed.containers if self._run is not None else ()
        return next((c.log_path for c in containers if c.id == container_id and c.log_path), None)

    def volume_paths(self) -> dict[str, str]:
        """Volume name -> path on the instance, of the volumes that are set up."""
        return self._run.volumes.host_paths() if self._run is not None else {}

    def probe_counts(self) -> list[Json]:
        """Results of the pod's probes so far, as a stats sample carries them."""
        return self._run.probe_counts() if self._run is not None else []
