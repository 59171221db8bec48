"""The one error of this room: what went wrong, and the next step."""

from __future__ import annotations


class ClusterError(Exception):
    """Something the person at the keyboard can act on. Printed as `error: <what>` and `next:  <step>`."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what}\nnext:  {next_step}" if next_step else what)
