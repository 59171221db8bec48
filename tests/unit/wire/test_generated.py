"""Generated messages of every kind that the door takes: what the schema allows passes, whatever else is one line."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile.messages import messages_like
from vk_provider.wire.inbound import _DECODERS, WireError, decode_up
from vk_provider.wire.session import UpMessage

TRIED = 60


@pytest.mark.parametrize("kind", get_args(UpMessage), ids=lambda kind: kind.__name__)
def test_every_kind_of_message_up_passes_the_door_as_the_schema_says_or_is_refused_in_one_line(kind: type) -> None:
    outcomes: set[str] = set()
    template: dict[str, Any] = {}

    @settings(
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        max_examples=TRIED,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def say(data: st.DataObject) -> None:
        message = data.draw(messages_like(kind, template))
        try:
            taken = decode_up(message)
        except WireError as error:
            assert str(error).isprintable() and len(str(error)) < 300
            outcomes.add("refused")
            return
        assert json.loads(json.dumps(taken))["type"] == taken["type"]
        outcomes.add(taken["type"])
        if not template:
            template.update(json.loads(message))  # what is changed from now on

    say()
    [name] = outcomes - {"refused"}
    assert name in _DECODERS and "refused" in outcomes


def test_no_kind_is_left_out() -> None:
    assert len(get_args(UpMessage)) == len(_DECODERS)
