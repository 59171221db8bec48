"""What the demo's transcript shows can be typed."""

from __future__ import annotations

import shlex

import pytest

from tests.demo.terminal import as_typed


@pytest.mark.parametrize(
    "word",
    [
        "plain",
        "",
        "two words",
        "it's",
        "a\\nb",
        "curl -w '\\n' 'http://web/?[1-5]'",
        "'$HOME'",
        "'`id`'",
        "'\"'",
        "'\\",
    ],
)
def test_a_shell_reads_the_words_that_were_run(word: str) -> None:
    assert shlex.split(as_typed(["kubectl", word])) == ["kubectl", word]


def test_single_quotes_within_a_word_stay_readable() -> None:
    assert as_typed(["sh", "-c", "curl -w '\\n' web"]) == "sh -c \"curl -w '\\n' web\""
