"""Ready check of a Node's pod watch: a Node whose pods cannot be watched is not ready. Pure."""

from __future__ import annotations

WATCH_LIMIT_S = 60.0
"""How long the watch may fail, during which new pods and deletions are not seen."""


def describe_watch(failing_since: float, error: Exception | None, answering_since: float, now: float) -> str:
    """ "" or why the Node is not ready. Times are time.monotonic().

    failing_since:   since when neither list nor watch of its pods succeeds, 0.0 while one does
    answering_since: since when renewals of the Node's Lease succeed, 0.0 when the last one failed. An outage of the API
                     server is no reason: NotReady could not be published, and right after it the watch needs time to
                     recover, in which the Node's pods must not lose their endpoints.
    """
    if not failing_since or not answering_since or now - max(failing_since, answering_since) < WATCH_LIMIT_S:
        return ""
    return f"the pods of the node cannot be followed: {error}"
