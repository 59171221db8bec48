"""What the differential tester takes for the fields of a pod is what the API server under test describes."""

from __future__ import annotations

import json

from tests.cluster.controlplane import ControlPlane
from tests.differential.podfields import TYPES, describe


def test_the_recorded_fields_of_a_pods_spec_are_those_of_the_api_server(control_plane: ControlPlane) -> None:
    document = json.loads(control_plane.kubectl("get", "--raw", "/openapi/v2").stdout)
    assert describe(document["definitions"]) == TYPES
