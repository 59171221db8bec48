"""A private containerd, a client of it, and a kubelet server in front of one pod."""

from __future__ import annotations

from tests.integration.agent.conftest import containerd, runtime

__all__ = ["containerd", "runtime"]
