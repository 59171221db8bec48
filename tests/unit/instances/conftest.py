"""The worlds of the pods' tests: instances are seen from there."""

from tests.unit.pods.conftest import world

__all__ = ["world"]
