"""What the answers of the API server mean."""

from __future__ import annotations

import pytest

from vk_provider.errors import KubeApiError

UID = "36c3d650-5f2c-4827-af9e-56d4dcaaaa6e"


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (422, f'Pod "p" is invalid: metadata.uid: Invalid value: "{UID}": field is immutable', True),
        (409, f'Operation cannot be fulfilled on Pod "p": the UID in the precondition ({UID}) does not match', True),
        (409, f"Precondition failed: UID in precondition: {UID}, UID in object meta: 1", True),
        (409, "the object has been modified; please apply your changes to the latest version", False),
        (409, "the ResourceVersion in the precondition (1) does not match", False),
        (422, 'Pod "p" is invalid: status.podIPs: Invalid value', False),
        (404, 'pods "p" not found', False),
    ],
)
def test_another_object_has_the_name(status: int, message: str, expected: bool) -> None:
    assert KubeApiError(status, "", message).is_other_uid is expected
