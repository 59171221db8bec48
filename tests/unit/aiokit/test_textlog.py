"""What comes from outside cannot forge a log line."""

from __future__ import annotations

import io
import json
import logging

import pytest

from vk_provider import logs
from vk_provider.aiokit.textlog import TextFormatter, escape
from vk_provider.settings import LogSettings

FORGED = "gone\n2026-11-28 12:00:00,000 ERROR   vk_provider: all is lost\r\x1b[2J\u2028x\u202e\x9b\x00\ud800"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO) -> logging.Logger:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter("%(levelname)s %(name)s: %(message)s"))
    made = logging.Logger("test")
    made.addHandler(handler)
    return made


def test_a_message_is_one_line_and_nothing_of_it_is_lost(logger: logging.Logger, stream: io.StringIO) -> None:
    logger.warning("the agent says: %s", FORGED)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("WARNING test: the agent says: gone\\n2026-11-28")
    assert line.endswith(r"lost\r\x1b[2J\u2028x\u202e\x9b\x00\ud800")
    assert line.isprintable()


def test_a_traceback_stays_readable_and_its_lines_cannot_pass_for_messages(
    logger: logging.Logger, stream: io.StringIO
) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("failed: %s", "a\nb", stack_info=True)
    first, *rest = stream.getvalue().split("\n")[:-1]
    assert first == "ERROR test: failed: a\\nb"
    assert "  Traceback (most recent call last):" in rest
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_ordinary_text_of_any_language_is_not_touched() -> None:
    text = "Größe 大 🎉 'x' \\n"
    assert escape(text) == text


@pytest.mark.parametrize("form", ["text", "json"])
def test_both_formats_of_the_provider_write_one_line(
    form: str, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    monkeypatch.setattr(logs.sys, "stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up_logging(LogSettings(form))
        logging.getLogger("vk_provider.test").info("%s", FORGED)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = stream.getvalue().split("\n")[:-1]
    assert "all is lost" in line and line.isprintable()
    if form == "json":
        assert json.loads(line)["message"] == FORGED
