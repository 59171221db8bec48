"""Ports of a WebSocket port-forward, in the words of cri-streaming's portforward.NewV4Options."""

from __future__ import annotations

import pytest

from vk_provider.wire.stream import StreamOptionsError, parse_forward_ports


def test_ports_are_repeated_or_separated_by_commas() -> None:
    query = [("port", "80,8080"), ("other", "1"), ("port", "65535")]
    assert parse_forward_ports(query) == [80, 8080, 65535]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], 'query parameter "port" is required'),
        ([""], 'query parameter "port" cannot be empty'),
        (["80,x"], 'unable to parse "80,x" as a port: strconv.ParseUint: parsing "x": invalid syntax'),
        (["80,"], 'unable to parse "80," as a port: strconv.ParseUint: parsing "": invalid syntax'),
        (["65536"], 'unable to parse "65536" as a port: strconv.ParseUint: parsing "65536": value out of range'),
        (["-1"], 'unable to parse "-1" as a port: strconv.ParseUint: parsing "-1": invalid syntax'),
        (["0"], 'port "0" must be > 0'),
    ],
)
def test_bad_ports_are_refused(values: list[str], says: str) -> None:
    with pytest.raises(StreamOptionsError) as refused:
        parse_forward_ports([("port", value) for value in values])
    assert str(refused.value) == says
