"""Messages about what the cloud will do to an instance, as the instance's own metadata announces it.

The provider asks for them (NodeFacts.tellNotices), as with images. The newest notice is told again when a session
begins.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from vk_provider.wire.values import Timestamp, Uid

NOTICES_FEATURE = "notices"
"""In the greeting of an agent that can tell notices."""


class NoticeMessage(TypedDict):
    """Up: the cloud will take the instance back at `time`. action: what it will do then (EC2's spot/instance-action)"""

    type: Literal["notice"]
    podUID: Uid
    action: Literal["terminate", "stop", "hibernate"]
    time: Timestamp
