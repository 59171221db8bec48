"""Images of the pod's containers: pull policy, credentials, back-off, the kubelet's events; prefetch in parallel.

Source of the texts: pkg/kubelet/images/image_manager.go (v1.37).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from vk_provider import eventreasons
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.images import ImagePullError, ImageStore
from vk_provider.agent.worker.container.pullnotes import PullNotes
from vk_provider.agent.worker.errors import StartError
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.backoff import BackoffTable
from vk_provider.agent.worker.rules.spec import ContainerRef, spec_of
from vk_provider.jsontypes import Json
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.imagename import parse_image
from vk_provider.podmodel.images import (
    RegistryCredential,
    default_pull_policy,
    match_credentials,
    normalize_image,
    parse_pull_secret,
)
from vk_provider.wire.images import MAX_DIGESTS, ImageUse
from vk_provider.wire.session import References


@dataclass(frozen=True, slots=True)
class PresentImage:
    """An image that can be run. uid/username: its USER, numeric or by name; repo_digests: CRI's "NAME@DIGEST"."""

    ref: str
    uid: int | None
    username: str
    size_bytes: int = 0
    repo_digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PullSource:
    """What a pull needs of the pod: its secrets, and the sandbox it is for."""

    pod: Json
    references: References
    sandbox_config: pb.PodSandboxConfig | None = None


class ImagePuller:
    """Makes sure that images are present. Each image is pulled once at a time; different ones in parallel.

    tell:  called for each image that is there, or was pulled
    notes: say how a pull goes
    """

    def __init__(
        self,
        images: ImageStore,
        recorder: Recorder,
        tell: Callable[[ImageUse], None] = lambda _: None,
        notes: PullNotes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._notes = notes or PullNotes(None, recorder)
        self._images = images
        self._recorder = recorder
        self._tell = tell
        self._clock = clock
        self._back_off = BackoffTable()
        self._last_errors: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._prefetches: dict[str, asyncio.Task[PresentImage]] = {}

    def prefetch(self, container: ContainerRef, source: PullSource) -> None:
        """Start to get the image of a container that will be started later in this pass. What is wrong with one that
        cannot be pulled at all is said when its turn comes, as by a kubelet."""
        if container.name not in self._prefetches and _can_be_pulled(container):
            task = asyncio.create_task(self._get(container, source), name=f"image-{container.name}")
            task.add_done_callback(_retrieve)
            self._prefetches[container.name] = task

    async def ensure(self, container: ContainerRef, source: PullSource) -> PresentImage:
        """Return the present image; raises StartError. Uses the prefetch when there is one."""
        task = self._prefetches.get(container.name)
        if task is None:
            return await self._get(container, source)
        return await asyncio.shield(task)

    async def ensure_image(self, stand_in: ContainerRef, source: PullSource) -> PresentImage:
        """The same for an image that no container runs (an image volume); never prefetched."""
        return await self._get(stand_in, source)

    def forget_prefetch(self, name: str) -> None:
        """The container was started, or is to be tried anew: its next start looks at the image again."""
        task = self._prefetches.pop(name, None)
        if task is not None and not task.done():
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._prefetches.values())
        self._prefetches.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._notes.close()

    async def _get(self, container: ContainerRef, source: PullSource) -> PresentImage:
        requested = container.spec.get("image") or ""
        try:
            image = normalize_image(requested)
        except InvalidImageName as error:
            message = f'Failed to apply default image tag "{requested}": {error}'
            self._recorder.warn(eventreasons.INSPECT_FAILED, message, container.field_path)
            raise StartError("InvalidImageName", message) from error
        async with self._locks.setdefault(image, asyncio.Lock()):
            return await self._get_locked(container, source, requested, image)

    async def _get_locked(
        self, container: ContainerRef, source: PullSource, requested: str, image: str
    ) -> PresentImage:
        policy = default_pull_policy(container.spec)
        if policy != "Always":
            present = await self._inspect(container, image)
            if present is not None:
                self._recorder.note(
                    eventreasons.PULLED,
                    f'Container image "{requested}" already present on machine and can be accessed by the pod',
                    container.field_path,
                )
                use = describe_use(image, present, None)
                self._notes.note_present(use["digests"], requested, container.field_path)
                self._tell(use)
                return present
            if policy == "Never":
                message = f'Container image "{requested}" is not present with pull policy of Never'
                self._recorder.warn(eventreasons.ERR_IMAGE_NEVER_PULL, message, container.field_path)
                raise StartError("ErrImageNeverPull", message)
        return await self._pull(container, source, requested, image)

    async def _inspect(self, container: ContainerRef, image: str) -> PresentImage | None:
        try:
            status = await self._images.status(image)
        except ImagePullError as error:
            message = str(error)
            self._recorder.warn(eventreasons.INSPECT_FAILED, message, container.field_path)
            raise StartError("ImageInspectError", message) from error
        return None if status is None else _present(status)

    async def _pull(self, container: ContainerRef, source: PullSource, requested: str, image: str) -> PresentImage:
        self._check_back_off(container, requested)
        credentials, missing = self._credentials(source, image)
        self._recorder.note(eventreasons.PULLING, f'Pulling image "{requested}"', container.field_path)
        started = time.monotonic()
        try:
            async with self._notes.follow(requested, container.field_path) as before:
                await self._images.pull(image, credentials, source.sandbox_config)
            status = await self._images.status(image)
        except ImagePullError as error:
            now = self._clock()
            self._recorder.warn(
                eventreasons.FAILED, f'Failed to pull image "{requested}": {error}', container.field_path
            )
            if missing and error.reason == "ErrImagePull":  # without them the pull may be refused, or succeed
                self._recorder.warn(
                    eventreasons.FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET,
                    f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
                    "attempting to pull the image may not succeed.",
                )
            self._back_off.next(requested, now, now)
            self._last_errors[requested] = f"{error.reason}: {error}"
            raise StartError(error.reason, str(error), retry_at_s=now + 2.0) from error
        if status is None:
            raise StartError("ErrImagePull", f'image "{requested}" is gone right after it was pulled')
        present = _present(status)
        seconds = time.monotonic() - started
        took = format_duration(seconds)
        self._recorder.note(
            eventreasons.PULLED,
            f'Successfully pulled image "{requested}" in {took} ({took} including waiting). '
            f"Image size: {present.size_bytes} bytes.",
            container.field_path,
        )
        use = describe_use(image, present, seconds)
        self._tell(await self._notes.conclude(use, requested, container.field_path, before, seconds))
        return present

    def _check_back_off(self, container: ContainerRef, requested: str) -> None:
        now = self._clock()
        remaining_s = self._back_off.remaining_since_update_s(requested, now)
        if remaining_s <= 0:
            self._last_errors.pop(requested, None)
            return
        message = f'Back-off pulling image "{requested}"'
        self._recorder.note(eventreasons.BACK_OFF, message, container.field_path)
        if requested in self._last_errors:
            message = f"{message}: {self._last_errors[requested]}"
        raise StartError("ImagePullBackOff", message, retry_at_s=now + remaining_s)

    def _credentials(self, source: PullSource, image: str) -> tuple[list[RegistryCredential], list[str]]:
        """Return what to try (the pod's secrets, then the Node's own login), and the names of the pod's pull secrets
        that are not there."""
        names = [entry["name"] for entry in spec_of(source.pod).get("imagePullSecrets") or [] if entry.get("name")]
        secrets = source.references.get("secrets") or {}
        missing = [name for name in names if secrets.get(name) is None]
        found = (secrets.get(name) for name in names)
        configs = [config for secret in found if secret is not None and (config := parse_pull_secret(secret))]
        logins = source.references.get("registryLogins") or {}
        return [*match_credentials(image, configs), *match_credentials(image, [{"auths": logins}])], missing


def _can_be_pulled(container: ContainerRef) -> bool:
    try:
        normalize_image(container.spec.get("image") or "")
    except InvalidImageName:
        return False
    return default_pull_policy(container.spec) != "Never"


def _present(image: pb.Image) -> PresentImage:
    uid: int | None = None
    if image.HasField("uid"):
        uid = image.uid.value
    elif not image.username:
        uid = 0
    username = image.username if uid is None else ""
    return PresentImage(image.id, uid, username, image.size, tuple(image.repo_digests))


def describe_use(image: str, present: PresentImage, pull_s: float | None) -> ImageUse:
    """What the provider is told. image: the normalized reference; pull_s: None when it was there.

    An image may have digests in several repositories: those in the reference's own count.
    """
    prefix = f"{parse_image(image).repository}@"
    found = [each.removeprefix(prefix) for each in present.repo_digests if each.startswith(prefix)]
    return ImageUse(
        image=image,
        digests=[digest for digest in found if digest.startswith("sha256:")][:MAX_DIGESTS],
        sizeBytes=present.size_bytes,
        pulled=pull_s is not None,
        seconds=round(pull_s or 0.0, 3),
    )


def _retrieve(task: asyncio.Task[PresentImage]) -> None:
    """A prefetch whose container never comes to its turn must not count as an unhandled error."""
    if not task.cancelled():
        task.exception()


def format_duration(seconds: float) -> str:
    """Go's Duration text, truncated to milliseconds: 85ms, 1.204s, 1m2.5s."""
    millis = int(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text
