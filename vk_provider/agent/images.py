"""ImageStore: CRI's ImageService with the kubelet's error texts.

Sources: pkg/kubelet/images/image_manager.go (evalCRIPullErr), pkg/kubelet/kuberuntime/kuberuntime_image.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.agent.blobs.book import BlobBook
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.api_grpc import ImageServiceStub
from vk_provider.agent.cri.connection import RuntimeServiceError
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.errors import AgentError
from vk_provider.podmodel.errors import InvalidImageName
from vk_provider.podmodel.images import RegistryCredential, normalize_image

_SPECIAL_REASONS = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}


class ImagePullError(AgentError):
    """An image could not be pulled. `reason` is the kubelet's waiting reason (ErrImagePull, InvalidImageName,
    RegistryUnavailable, SignatureValidationFailed, ImageInspectError); str() is its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageStore:
    """The images of this instance. blobs: follows what is fetched for them, and from where."""

    def __init__(self, runtime: ContainerRuntime, blobs: BlobBook | None = None) -> None:
        self.blobs = blobs
        self._call = runtime.connection.call
        self._stub = ImageServiceStub(runtime.connection.channel)

    async def status(self, image: str) -> pb.Image | None:
        """The image when it is present, else None. Raises ImagePullError."""
        request = pb.ImageStatusRequest(image=_image_spec(image))
        try:
            reply = await self._call(self._stub.ImageStatus, request)
        except RuntimeServiceError as error:
            raise ImagePullError(
                "ImageInspectError", f'Failed to inspect image "{image}": {error.status_text}'
            ) from error
        return reply.image if reply.HasField("image") and reply.image.id else None

    async def pull(
        self,
        image: str,
        credentials: Sequence[RegistryCredential],
        sandbox_config: pb.PodSandboxConfig | None = None,
    ) -> str:
        """Pull with each credential in turn (without any when there are none); returns CRI's image reference.

        No time limit: containerd aborts a transfer without progress by itself.
        """
        spec = _image_spec(image)
        if self.blobs is not None:
            self.blobs.pull_began()
        try:
            return await self._pull(image, spec, [_auth_config(c) for c in credentials] or [None], sandbox_config)
        finally:
            if self.blobs is not None:
                self.blobs.pull_ended()

    async def _pull(
        self,
        image: str,
        spec: pb.ImageSpec,
        candidates: Sequence[pb.AuthConfig | None],
        sandbox_config: pb.PodSandboxConfig | None,
    ) -> str:
        errors: list[RuntimeServiceError] = []
        for auth in candidates:
            request = pb.PullImageRequest(image=spec, auth=auth, sandbox_config=sandbox_config)
            try:
                return str((await self._call(self._stub.PullImage, request, None)).image_ref)
            except RuntimeServiceError as error:
                errors.append(error)
        raise classify_pull_errors(image, errors)


def classify_pull_errors(image: str, errors: Sequence[RuntimeServiceError]) -> ImagePullError:
    """The kubelet's reason and message for failed pulls, one error per credential tried."""
    texts = list(dict.fromkeys(_pull_error_text(error) for error in errors))
    message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    for reason, words in _SPECIAL_REASONS.items():
        if message.startswith(reason):
            return ImagePullError(reason, f"image pull failed for {image} because {words}{message[len(reason) :]}")
    return ImagePullError("ErrImagePull", message)


def _pull_error_text(error: RuntimeServiceError) -> str:
    """Without the code when it is UNKNOWN, as in a kubelet."""
    return str(error) if error.code == "UNKNOWN" else error.status_text


def _image_spec(image: str) -> pb.ImageSpec:
    try:
        return pb.ImageSpec(image=normalize_image(image), user_specified_image=image)
    except InvalidImageName as error:
        message = f'Failed to apply default image tag "{image}": {error}'
        raise ImagePullError("InvalidImageName", message) from error


def _auth_config(credential: RegistryCredential) -> pb.AuthConfig:
    """Without server_address, as from a kubelet (BasicDockerKeyring.Add): the credential was matched already, and
    containerd takes it for no other host than a URL's, which the keys of a Secret rarely are."""
    return pb.AuthConfig(
        username=credential.username,
        password=credential.password,
        auth=credential.auth,
        identity_token=credential.identity_token,
        registry_token=credential.registry_token,
    )
