"""The table [cloud.aws.image_stores]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

LEAST_INITIALIZATION_RATE = 100
"""Of EC2."""


@dataclass(frozen=True, slots=True)
class ImageStoreSettings:
    """Images that pods have used are kept ready as EBS snapshots: a later instance of the same images gets a volume of
    one, and pulls nothing. A builder instance makes each, by pulling the images without credentials: those that a
    registry shows to nobody else than their pods are pulled by each instance, as before.

    enabled:      whether stores are prepared. A store costs its snapshot (us-east-1: $0.05 a month for a GiB in use),
                  a few minutes of a small instance, and in each instance that uses it a gp3 volume of `volume_gib` or
                  more ($0.08 a month for a GiB). It pays where pods of the same images of hundreds of MiB start again
                  and again, and where registries limit pulls
    volume_gib:   of a store's volume; a set that does not fit is tried with four times as much, up to images.max_bytes
    iops:         of each volume (gp3)
    throughput:   MiB a second of each volume (gp3), a quarter of its IOPS at most. What a pod reads first comes
                  from the snapshot, which is slower
    initialization_rate: MiB a second at which a volume is filled from its snapshot, for which AWS takes a price by the
                  GiB, which no bill has; 0: blocks come when they are read first, else 100 at least
    builder_limit_s: that a builder may take; it turns itself off then
    """

    enabled: bool = False
    volume_gib: Annotated[int, Meta(ge=1, le=1024)] = 4
    iops: Annotated[int, Meta(ge=3000, le=80000)] = 3000
    throughput: Annotated[int, Meta(ge=125, le=2000)] = 125
    initialization_rate: Annotated[int, Meta(ge=0, le=300)] = 0
    builder_limit_s: Annotated[int, Meta(ge=120, le=86400)] = 1800
