"""What a token must say of itself before anybody is asked about it."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from tests.jwt import AUDIENCE, make_token
from vk_provider.podidentity.claims import find_fault


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE, "sts.amazonaws.com"]])
def test_the_pods_own_token_is_taken(audience: Any) -> None:
    assert find_fault(make_token("u-1", audience=audience), "u-1", AUDIENCE, time.time()) == (0, "")


@pytest.mark.parametrize(
    ("token", "status", "word"),
    [
        (make_token("u-2"), 403, "another pod"),
        (make_token(""), 403, "another pod"),
        (make_token("u-1", audience="sts.amazonaws.com"), 400, "audience"),
        (make_token("u-1", audience=[]), 400, "audience"),
        (make_token("u-1", expires_in_s=-1), 400, "expired"),
        ("a.b", 400, "parsed"),
        ("a.!!.c", 400, "parsed"),
        (f"a.{encoded('[]')}.c", 400, "parsed"),
        (f"a.{encoded('{}')}.c", 400, "parsed"),
        (f"a.{encoded('[' * 5000)}.c", 400, "parsed"),
        ("a." + encoded('{"exp": 9e9, "aud": 7}') + ".c", 400, "parsed"),
        ("a." + encoded('{"exp": 9e9, "aud": "pods.eks.amazonaws.com", "kubernetes.io": []}') + ".c", 400, "parsed"),
    ],
)
def test_any_other_token_is_refused_with_the_words_of_ekss_agent(token: str, status: int, word: str) -> None:
    found, text = find_fault(token, "u-1", AUDIENCE, time.time())
    assert found == status and word in text and "\n" not in text


def test_a_pod_without_a_uid_has_no_tokens() -> None:
    assert find_fault(make_token(""), "", AUDIENCE, time.time())[0] == 403
