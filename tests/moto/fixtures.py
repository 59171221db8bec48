"""Fixtures for whoever needs EC2: import them into a conftest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.moto.server import KEYS, Account, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """One process for all tests of the session."""
    with MotoServer() as server:
        with pytest.MonkeyPatch.context() as patch:
            _set_keys(patch)
            with ThreadPoolExecutor(1) as thread:  # an asynchronous fixture may have asked for this one
                thread.submit(lambda: asyncio.run(_fill_catalog(server))).result()
        yield server


async def _fill_catalog(server: MotoServer) -> None:
    """Once, and kept on disk: moto answers nothing else in the seconds that a list of its instance types takes."""
    cloud = AwsCloud(server.settings(server.make_account()), "catalog")
    await cloud.start()
    try:
        await cloud.describe_offerings()
    finally:
        await cloud.close()


def _set_keys(patch: pytest.MonkeyPatch) -> None:
    """The SDK's chain finds them."""
    for name, value in {**KEYS, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        patch.setenv(name, value)


@pytest.fixture
def moto(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> MotoServer:
    """Empty, without faults; the SDK's chain finds its keys."""
    _set_keys(monkeypatch)
    moto_server.reset()
    return moto_server


@pytest.fixture
def account(moto: MotoServer) -> Account:
    return moto.make_account()
