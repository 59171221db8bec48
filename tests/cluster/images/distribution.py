"""Pushing to a registry over plain http (distribution-spec v1.1): only blobs it does not have travel."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from tests.cluster.errors import ClusterError
from tests.cluster.images.oci import MANIFEST_TYPE, Descriptor
from tests.cluster.images.store import BuiltImage, ImageStore

_TIMEOUT_S = 60.0
# The registry is on this machine: a proxy from the environment must not see these requests.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class RegistryClient:
    """A registry at `address` (host:port). Every method raises ClusterError when it cannot be reached or refuses."""

    address: str

    def _request(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        url = path if path.startswith("http://") else f"http://{self.address}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data=body, method=method, headers=named)
        try:
            return _OPENER.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    raise _NotFoundError(url) from None
                detail = error.read(300).decode(errors="replace").strip()
            raise ClusterError(f"registry {self.address}: {method} {path}: {error.code} {detail}") from None
        except OSError as error:
            advice = f"python -m tests.cluster.registry up --state DIR --listen {self.address}"
            raise ClusterError(f"registry {self.address} cannot be reached: {error}", advice) from None

    def ping(self) -> None:
        """Check that something answers as a registry."""
        self._request("GET", "/v2/").close()

    def tag_digest(self, repository: str, tag: str) -> str | None:
        """The digest a tag points at, None when there is no such tag."""
        try:
            with self._request("HEAD", f"/v2/{repository}/manifests/{tag}", Accept=MANIFEST_TYPE) as response:
                return response.headers.get("Docker-Content-Digest")
        except _NotFoundError:
            return None

    def _has_blob(self, repository: str, digest: str) -> bool:
        try:
            self._request("HEAD", f"/v2/{repository}/blobs/{digest}").close()
        except _NotFoundError:
            return False
        return True

    def _start_upload(self, repository: str, digest: str, mount_from: str | None) -> str | None:
        """The address to PUT the blob to, None when the registry took it over from `mount_from`."""
        query = f"?mount={digest}&from={mount_from}" if mount_from else ""
        with self._request("POST", f"/v2/{repository}/blobs/uploads/{query}", b"") as response:
            return None if response.status == 201 else response.headers["Location"]

    def push_blob(self, repository: str, part: Descriptor, store: ImageStore, mount_from: str | None) -> bool:
        """Make `repository` have a blob; `mount_from` is a repository known to have it. True when bytes were sent."""
        if self._has_blob(repository, part.digest):
            return False
        location = self._start_upload(repository, part.digest, mount_from)
        if location is None:
            return False
        joint = "&" if "?" in location else "?"
        target = f"{location}{joint}{urllib.parse.urlencode({'digest': part.digest})}"
        with store.blob_path(part.digest).open("rb") as content:
            self._request(
                "PUT", target, content, Content_Type="application/octet-stream", Content_Length=str(part.size_bytes)
            ).close()
        return True

    def push_manifest(self, repository: str, tag: str, content: bytes) -> None:
        """Point a tag at a manifest whose blobs are there."""
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", content, Content_Type=MANIFEST_TYPE).close()


class _NotFoundError(ClusterError):
    """The registry answered 404."""


def push_image(
    client: RegistryClient, reference: str, image: BuiltImage, store: ImageStore, known: dict[str, str]
) -> bool:
    """Push as `reference` (repository:tag). False when the registry had it already.

    `known` maps digests to a repository that has them; it is read for mounts and added to.
    """
    repository, tag = reference.rsplit(":", 1)
    had_it = client.tag_digest(repository, tag) == image.manifest.digest
    if not had_it:
        for part in image.parts:
            client.push_blob(repository, part, store, known.get(part.digest))
        client.push_manifest(repository, tag, store.blob_path(image.manifest.digest).read_bytes())
    known.update((part.digest, repository) for part in image.parts)
    return not had_it
