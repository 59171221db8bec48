"""Pull records: whose credentials the registry has accepted for an image.

Source: KEP-2535 and pkg/kubelet/images/pullmanager (ImagePulledRecord): a record is of an image and a repository, and
says either that no credentials were needed, so that every pod may have it, or by which ones it was pulled. They are
kept as fingerprints.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from vk_provider.imagesets.imageset import PinnedImage
from vk_provider.podmodel.images import RegistryCredential

ANONYMOUS = ""
"""In place of a fingerprint: the registry asks for no credentials."""
MAX_IMAGES = 10_000
MAX_CREDENTIALS = 1_000
"""Of one image."""


def fingerprint(credential: RegistryCredential, salt: bytes) -> str:
    """Of what proves an identity, and the server that it is for. salt: of this process, so that nothing can be looked
    up by it elsewhere."""
    parts = (
        credential.server,
        credential.username,
        credential.password,
        credential.auth,
        credential.identity_token,
        credential.registry_token,
    )
    digest = hashlib.blake2b(key=salt, digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


class PullRecords:
    """In memory: after a restart the registry is asked once more."""

    def __init__(self, max_images: int = MAX_IMAGES, max_credentials: int = MAX_CREDENTIALS) -> None:
        self._max_images, self._max_credentials = max_images, max_credentials
        self._records: OrderedDict[tuple[str, str], OrderedDict[str, None]] = OrderedDict()

    def add(self, image: PinnedImage, credential: str) -> None:
        """The registry has shown this digest to `credential` (a fingerprint, or ANONYMOUS)."""
        record = self._records.setdefault((image.repository, image.digest), OrderedDict())
        record[credential] = None
        record.move_to_end(credential)
        self._records.move_to_end((image.repository, image.digest))
        if len(record) > self._max_credentials:
            record.popitem(last=False)
        if len(self._records) > self._max_images:
            self._records.popitem(last=False)

    def allows(self, image: PinnedImage, credentials: Iterable[str]) -> bool:
        """Whether a pod with these credentials may have the image without asking the registry."""
        record = self._records.get((image.repository, image.digest))
        return record is not None and (ANONYMOUS in record or any(each in record for each in credentials))

    def __len__(self) -> int:
        return len(self._records)
