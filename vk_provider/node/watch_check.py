"""Whether a Node may call itself ready while its pods cannot be followed. Pure; times are time.monotonic()."""

from __future__ import annotations

WATCH_LIMIT_S = 60.0
"""A watch that fails for so long is no hiccup: new pods and deletions would not be seen."""


def describe_watch(failing_since: float, error: Exception | None, answering_since: float, now: float) -> str:
    """ "" or why the Node is not ready.

    failing_since:   since when neither list nor watch of its pods succeeds, 0.0 while one does
    answering_since: since when the API server renews the Node's Lease without a failure, 0.0 when it does not. An
                     outage of the API server is no reason: nobody could be told, and right after it the watch needs a
                     moment, too, in which the Node's pods must not lose their endpoints.
    """
    if not failing_since or not answering_since or now - max(failing_since, answering_since) < WATCH_LIMIT_S:
        return ""
    return f"the pods of the node cannot be followed: {error}"
