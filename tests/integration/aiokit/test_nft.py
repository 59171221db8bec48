"""Real nft in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.integration.kube.waiting import until
from vk_provider.aiokit import nft
from vk_provider.aiokit.nft import NftError, NftTable

TABLE = "add table inet vk-test\nadd set inet vk-test revision { type ipv6_addr ; }\n"


async def test_the_revision_in_force_is_the_element_of_the_set(namespace: tuple[str, ...]) -> None:
    table = NftTable("vk-test", namespace)
    assert await table.read_revision() == ""
    await table.apply(TABLE)
    assert await table.read_revision() == ""
    await table.apply("add element inet vk-test revision { ::1.2.3.4 }\n")
    assert await table.read_revision() == "::102:304"


async def test_a_refused_text_changes_nothing_and_says_why_in_one_line(namespace: tuple[str, ...]) -> None:
    table = NftTable("vk-test", namespace)
    await table.apply(TABLE)
    with pytest.raises(NftError, match="No such file") as caught:
        await table.apply(
            "add element inet vk-test revision { ::7 }\n"
            f"delete element inet vk-test revision {{ {', '.join(f'1::{n}' for n in range(1, 3000))} }}\n"
        )
    assert await table.read_revision() == ""
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


async def test_a_table_is_removed_whether_it_is_there_or_not(namespace: tuple[str, ...]) -> None:
    table = NftTable("vk-test", namespace)
    await table.remove()
    await table.apply(TABLE)
    await table.remove()
    assert _list_rules(namespace) == ""


async def test_without_nft_there_is_an_error_and_not_another_revision() -> None:
    with pytest.raises(NftError, match="cannot be run"):
        await NftTable("vk-test", ("/nonexistent/nsenter",)).read_revision()


async def test_a_command_without_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nft, "APPLY_LIMIT_S", 0.2)
    with pytest.raises(NftError, match="no end"):
        await NftTable("vk-test", _endless(tmp_path)).apply(TABLE)
    assert _is_gone(tmp_path)


async def test_a_cancelled_command_is_ended(tmp_path: Path) -> None:
    task = asyncio.create_task(NftTable("vk-test", _endless(tmp_path)).apply(TABLE))
    await until((tmp_path / "pid").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: _is_gone(tmp_path))


def _list_rules(namespace: tuple[str, ...]) -> str:
    done = subprocess.run([*namespace, "nft", "list", "ruleset"], check=True, capture_output=True, text=True)
    return done.stdout


def _endless(directory: Path) -> tuple[str, ...]:
    """A command that says its process ID and does not end."""
    script = f"echo $$ > {directory}/pid.new; mv {directory}/pid.new {directory}/pid; exec sleep 1000"
    return ("sh", "-c", script)


def _is_gone(directory: Path) -> bool:
    return not Path(f"/proc/{(directory / 'pid').read_text().strip()}").exists()
