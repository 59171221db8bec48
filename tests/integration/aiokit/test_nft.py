"""Real nft in a network namespace of the test's own, as a process and as a library."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.kube.waiting import until
from vk_provider.aiokit import nft
from vk_provider.aiokit.libnftables import SONAME, NftLibrary
from vk_provider.aiokit.nft import NftError, NftTable

TABLE = "add table inet vk-test\nadd set inet vk-test revision { type ipv6_addr ; }\n"
CHANGES = 2_000


@pytest.fixture(params=["process", "library", "no library"])
async def table(request: pytest.FixtureRequest, namespace: tuple[str, ...], enter: ThreadPoolExecutor) -> NftTable:
    if request.param == "process":
        return NftTable("vk-test", namespace)
    asyncio.get_running_loop().set_default_executor(enter)
    return NftTable("vk-test", library=NftLibrary(SONAME if request.param == "library" else "libnothing.so.1"))


async def test_the_revision_in_force_is_the_element_of_the_set(table: NftTable) -> None:
    assert await table.read_revision() == ""
    await table.apply(TABLE)
    assert await table.read_revision() == ""
    await table.apply("add element inet vk-test revision { ::1.2.3.4 }\n")
    assert await table.read_revision() == "::102:304"


@pytest.mark.parametrize("length", [3, 3000])
async def test_a_refused_text_changes_nothing_and_says_why_in_one_line(table: NftTable, length: int) -> None:
    await table.apply(TABLE)
    with pytest.raises(NftError, match="No such file") as caught:
        await table.apply(
            "add element inet vk-test revision { ::7 }\n"
            f"delete element inet vk-test revision {{ {', '.join(f'1::{n}' for n in range(1, length))} }}\n"
        )
    assert await table.read_revision() == ""
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


async def test_what_is_no_nft_is_refused_in_one_line(table: NftTable) -> None:
    with pytest.raises(NftError, match=r"^nft: .*[Ee]rror") as caught:
        await table.apply("add tabel inet vk-test\n")
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


async def test_what_no_encoding_has_is_refused_as_what_is_no_nft(table: NftTable) -> None:
    with pytest.raises(NftError):
        await table.apply(TABLE + "add chain inet vk-test \ud800\n")
    assert await table.read_revision() == ""


async def test_a_text_with_a_zero_byte_is_refused_and_not_cut(table: NftTable) -> None:
    with pytest.raises(NftError):
        await table.apply(TABLE + "\0\nadd chain inet vk-test a\n")
    assert await table.read_revision() == ""


async def test_a_table_that_another_program_has_made_anew_is_known_as_it_is(
    table: NftTable, namespace: tuple[str, ...]
) -> None:
    await table.apply(TABLE)
    await table.apply("add map inet vk-test m { type ipv4_addr : ipv4_addr ; }\n")
    text = "delete map inet vk-test m; add map inet vk-test m { type ipv6_addr : ipv6_addr ; }"
    _nft(namespace, text)
    await table.apply("add element inet vk-test m { ::1 : ::2 }\n")
    assert "::1 : ::2" in _list_rules(namespace)


async def test_a_table_is_removed_whether_it_is_there_or_not(table: NftTable, namespace: tuple[str, ...]) -> None:
    await table.remove()
    await table.apply(TABLE)
    await table.remove()
    assert _list_rules(namespace) == ""


def test_changes_without_a_process_keep_no_memory(enter: ThreadPoolExecutor) -> None:
    library = NftLibrary()

    def change(number: int) -> str:
        return f"flush set inet vk-test revision\nadd element inet vk-test revision {{ 1::{number:x} }}\n"

    assert enter.submit(library.run, TABLE).result() == (0, "")
    for number in range(CHANGES):
        assert enter.submit(library.run, change(number)).result() == (0, "")
        if number == CHANGES // 10:
            gc.collect()
            before = _data_kib()
    assert _data_kib() - before < CHANGES // 10, "KiB for each change"


def test_a_library_of_another_kind_is_as_good_as_none() -> None:
    assert NftLibrary("libc.so.6").run(TABLE) is None


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


def _data_kib() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)


def _nft(namespace: tuple[str, ...], *arguments: str) -> str:
    return subprocess.run([*namespace, "nft", *arguments], check=True, capture_output=True, text=True).stdout


def _list_rules(namespace: tuple[str, ...]) -> str:
    return _nft(namespace, "list", "ruleset")


def _endless(directory: Path) -> tuple[str, ...]:
    """A command that says its process ID and does not end."""
    script = f"echo $$ > {directory}/pid.new; mv {directory}/pid.new {directory}/pid; exec sleep 1000"
    return ("sh", "-c", script)


def _is_gone(directory: Path) -> bool:
    return not Path(f"/proc/{(directory / 'pid').read_text().strip()}").exists()
