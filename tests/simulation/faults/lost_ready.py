"""What a PATCH meant counts as what the API server holds, although another writer's change came between."""

from __future__ import annotations

from vk_provider.jsontypes import Json
from vk_provider.pods import status_publisher
from vk_provider.pods.record import PodRecord


def put_back() -> None:
    right = status_publisher.note_held

    def note_held(record: PodRecord, pod: Json, sent: Json | None = None) -> None:
        right(record, pod, sent)
        if sent is not None:
            record.publication.held = sent

    status_publisher.note_held = note_held
