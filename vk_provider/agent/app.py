"""Composition root of the agent: from the metadata endpoint to a supervised pod worker behind an HTTPS server.

Start order: metadata -> identity -> server answers; the network, the closing of the metadata endpoint and the wait for
containerd run behind it, and the pod worker begins when all are done. A restart finds its containers running and takes
them over from journal and CRI.
"""

from __future__ import annotations

from vk_provider.rfc3339 import format_time

from vk_provider.agent import quick_start  # isort: skip  before everything else

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vk_provider import eventreasons
from vk_provider.agent import network
from vk_provider.agent.blobs.book import BlobBook
from vk_provider.agent.blobs.content import ContentStore
from vk_provider.agent.blobs.mirror import BlobMirror
from vk_provider.agent.blobs.serving import BlobServer
from vk_provider.agent.event_journal import EventJournal
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.identity import AgentIdentity
from vk_provider.agent.images import ImageStore
from vk_provider.agent.inbox import Inbox
from vk_provider.agent.instance_store import InstanceStoreReport
from vk_provider.agent.interruption import InterruptionWatch
from vk_provider.agent.journal import Journal
from vk_provider.agent.logs import add_log_routes
from vk_provider.agent.metadata import InstanceMetadata, KeptMetadata, MetadataClient, wait_for_metadata
from vk_provider.agent.metadata_guard import MetadataGuard, allow_metadata, find_own_cgroup
from vk_provider.agent.metrics import add_metrics_routes
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.podidentity.endpoint import IdentityEndpoint
from vk_provider.agent.podidentity.questions import Questions
from vk_provider.agent.proxy.explain import add_table_routes
from vk_provider.agent.proxy.keeper import TableKeeper
from vk_provider.agent.runtime import ContainerRuntime, RuntimeServiceError
from vk_provider.agent.server import AgentServer
from vk_provider.agent.session import SessionHandler
from vk_provider.agent.stats.sampler import Sampler, add_stats_routes, run_stats
from vk_provider.agent.streams import add_stream_routes
from vk_provider.agent.worker.rehearsal import Rehearsal
from vk_provider.agent.worker.worker import PodWorker
from vk_provider.aiokit import memory, openfiles
from vk_provider.aiokit.inotify import Inotify
from vk_provider.aiokit.libnftables import NftLibrary
from vk_provider.aiokit.supervisor import RootTaskError, Supervisor
from vk_provider.aiokit.textlog import TextFormatter
from vk_provider.errors import EXIT_BAD_START, AgentError, BadStartError

__all__ = ["Agent", "AgentOptions", "InstanceFacts", "main"]

quick_start.end_of_imports()

log = logging.getLogger(__name__)

RUNTIME_COMPLAINT_S = 30.0
"""How long containerd may take before the agent logs that it waits."""
RUNTIME_RETRY_S = 1.0
"""Pause after an answer of containerd that is neither ready nor not ready."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The command line."""

    metadata_url: str
    containerd_address: str
    containerd_root: Path
    state_dir: Path
    kubelet_dir: Path
    run_dir: Path
    network: network.NetworkPaths
    watch_interruptions: bool
    log_level: str


class Agent:
    """One agent process; `run` returns after `request_stop`."""

    def __init__(self, options: AgentOptions) -> None:
        self._options = options
        self._started_at = format_time()
        self._supervisor = Supervisor()
        self._fetching: asyncio.Task[InstanceMetadata] | None = None

    def request_stop(self) -> None:
        """Make `run` return; safe from a signal handler."""
        self._supervisor.request_stop()
        if self._fetching is not None:
            self._fetching.cancel()

    async def run(self) -> None:
        """Start, serve, stop; containers keep running. Raises RootTaskError when a part of the agent broke."""
        self._fetching = asyncio.create_task(_read_metadata(self._options), name="metadata")
        await asyncio.wait({self._fetching})
        if not self._fetching.cancelled():
            await self._serve(self._fetching.result())

    async def _serve(self, metadata: InstanceMetadata) -> None:
        options, facts, boot_data = self._options, metadata.facts, metadata.boot_data
        identity = AgentIdentity(options.state_dir, facts.instance_id, boot_data.ca_pem, boot_data.boot_secret)
        identity.load_or_create()

        runtime = ContainerRuntime(options.containerd_address)
        outbox = Outbox(store=EventJournal(options.state_dir / "events.log"))
        journal = Journal(options.state_dir / "journal.json")
        nft = NftLibrary()
        tables = TableKeeper(facts, options.run_dir / "tables", outbox.send_tables, nft)
        book = BlobBook(ContentStore(options.containerd_root), outbox.send_blobs, lambda: inbox.pod_uid())
        worker = PodWorker(runtime, ImageStore(runtime, book), outbox, journal, facts, options.kubelet_dir, tables)
        sampler = Sampler(worker, runtime, worker.probe_counts)
        guard = MetadataGuard(options.state_dir / "metadata-allowed", _own_cgroup(options), nft)
        questions = Questions(lambda tokens: outbox.send_identity(inbox.pod_uid(), tokens))
        roles = IdentityEndpoint(
            questions,
            (facts.primary_ip, facts.pod_ip, facts.primary_ipv6, facts.pod_ipv6),
            lambda text: outbox.send_event(inbox.pod_uid(), "Warning", eventreasons.POD_IDENTITY_UNAVAILABLE, text),
        )
        inbox = Inbox(worker, guard, tables, outbox, book, roles)
        inbox.on_new_pod = InstanceStoreReport(
            options.run_dir / "instance-store", options.run_dir / "image-store", outbox
        ).tell
        session = SessionHandler(
            outbox,
            inbox.receive,
            inbox.pod_uid,
            facts.instance_id,
            self._started_at,
            tables.states,
            sampler.instance_memory_bytes(),
            lambda: worker.grant,
        )

        server = AgentServer(identity)
        session.add_routes(server.app)
        add_log_routes(server.app, worker, runtime)
        add_stream_routes(server.app, worker, runtime)
        add_stats_routes(server.app, sampler)
        add_metrics_routes(server.app, outbox, session, tables)
        add_table_routes(server.app, tables)
        BlobServer(book).add_routes(server.app)
        mirror = BlobMirror(book, identity.client_context, options.state_dir / "blobs")
        mirror_url = await mirror.start() if boot_data.image_peers else ""
        await server.start(facts.primary_ip, boot_data.agent_port)
        log.info("instance %s answers on %s:%d", facts.instance_id, facts.primary_ip, boot_data.agent_port)

        self._supervisor.start("metadata-guard", guard.run())
        self._supervisor.start("tables", tables.run())
        self._supervisor.start("blobs", book.run(Inotify()))
        self._supervisor.start("pod-identity", roles.run())
        rehearsal = Rehearsal(runtime, options.state_dir, lambda: session.is_open)
        work = partial(worker.run, rehearsal)
        self._supervisor.start("pod-worker", _run_worker(work, runtime, guard, metadata, options.network, mirror_url))
        self._supervisor.start("stats", run_stats(sampler, outbox))
        if metadata.is_spot:
            watching = _watch_interruptions(options.metadata_url, guard, outbox)
            self._supervisor.start("interruption-watch", watching)
        gc.freeze()  # objects of the start are permanent: exclude them from garbage collections
        try:
            await self._supervisor.wait()
        finally:
            await server.stop()
            await mirror.stop()
            await self._supervisor.cancel()
            await runtime.close()


async def _read_metadata(options: AgentOptions) -> InstanceMetadata:
    """From the endpoint at the first start, later from the file: the endpoint is closed by then."""
    kept = KeptMetadata(options.run_dir / "metadata.json")
    metadata = kept.load()
    if metadata is None:
        metadata = await wait_for_metadata(options.metadata_url, socket.gethostname(), allow_metadata)
        kept.save(metadata)
    return metadata


def _own_cgroup(options: AgentOptions) -> str:
    """See metadata_guard.build_rules; "" unless the image wants the agent to reach the endpoint."""
    if not options.watch_interruptions:
        return ""
    found = find_own_cgroup(Path("/proc/self/cgroup").read_text())
    if not found:
        log.warning("interruptions are not watched for: the agent has no cgroup (v2) of a service of its own")
    return found


async def _watch_interruptions(url: str, guard: MetadataGuard, outbox: Outbox) -> None:
    async with MetadataClient(url) as source:
        await InterruptionWatch(source, lambda: guard.admits_agent, outbox).run()


async def _run_worker(
    work: Callable[[], Awaitable[None]],
    runtime: ContainerRuntime,
    guard: MetadataGuard,
    metadata: InstanceMetadata,
    paths: network.NetworkPaths,
    mirror_url: str,
) -> None:
    """The pod worker, once a pod can be run at all."""
    registries = metadata.boot_data.registries
    network.configure(
        metadata.facts, metadata.mac, metadata.subnet_cidr, registries, paths, metadata.subnet_ipv6_cidr, mirror_url
    )
    await guard.wait_applied()
    while True:
        try:
            await runtime.wait_ready(RUNTIME_COMPLAINT_S)
            break
        except RuntimeServiceError as error:
            log.error("%s", error)
            await asyncio.sleep(RUNTIME_RETRY_S)
    await work()


def main(argv: Sequence[str]) -> int:
    """Entry point of `vk-provider agent`; returns the exit code."""
    options = parse_options(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=options.log_level, handlers=[handler])
    openfiles.raise_limit()
    memory.return_large_blocks()
    try:
        asyncio.run(_run_until_signalled(Agent(options)))
    except RootTaskError:
        log.exception("the agent cannot go on")
        return 1
    except BadStartError as error:
        log.error("%s", error)
        return EXIT_BAD_START
    except AgentError as error:
        log.error("the agent cannot start: %s", error)
        return 1
    return 0


async def _run_until_signalled(agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.request_stop)
    await agent.run()


def parse_options(argv: Sequence[str]) -> AgentOptions:
    parser = argparse.ArgumentParser(prog="vk-provider agent", description="The agent on an instance.")
    parser.add_argument("--metadata-url", default=f"http://{network.METADATA_ADDRESS}", metavar="URL")
    parser.add_argument("--containerd-address", default="/run/containerd/containerd.sock", metavar="SOCKET")
    root = Path("/var/lib/containerd")
    parser.add_argument("--containerd-root", type=Path, default=root, help="root in containerd's config")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/vk-agent"), help="key, certificate, journal")
    parser.add_argument("--kubelet-dir", type=Path, default=Path("/var/lib/kubelet"), help="the pod's volumes")
    parser.add_argument("--run-dir", type=Path, default=Path("/run/vk-agent"), help="gone after a reboot")
    paths = network.NetworkPaths()
    parser.add_argument("--cni-conf-dir", type=Path, default=paths.cni_conf_dir, help="as in containerd's config")
    parser.add_argument("--certs-dir", type=Path, default=paths.certs_dir, help="as in containerd's config")
    parser.add_argument("--ipam-dir", type=Path, default=paths.ipam_dir, help="gone after a reboot")
    parser.add_argument(
        "--watch-interruptions",
        action="store_true",
        help="let the agent's own cgroup (v2) reach the metadata endpoint, and tell the provider of spot interruptions",
    )
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    given = parser.parse_args(list(argv))
    return AgentOptions(
        metadata_url=given.metadata_url,
        containerd_address=given.containerd_address,
        containerd_root=given.containerd_root,
        state_dir=given.state_dir,
        kubelet_dir=given.kubelet_dir,
        run_dir=given.run_dir,
        network=network.NetworkPaths(given.cni_conf_dir, given.certs_dir, given.ipam_dir),
        watch_interruptions=given.watch_interruptions,
        log_level=given.log_level,
    )
