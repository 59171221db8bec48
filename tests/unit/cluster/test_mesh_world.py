"""How the tests of the mesh read what curl says."""

from __future__ import annotations

import pytest

from tests.mesh.world import Answer, parse_answer


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_answer_has_headers_and_a_body_whatever_the_line_ends(end: str) -> None:
    text = f"HTTP/1.1 403 Forbidden{end}server: envoy{end}{end}RBAC: access denied\n403\n0\n"
    assert parse_answer(text) == Answer(0, 403, "HTTP/1.1 403 Forbidden\nserver: envoy", "RBAC: access denied")


def test_a_refused_connection_has_the_exit_code_alone() -> None:
    assert parse_answer("\n000\n56\n") == Answer(56, 0, "", "")
