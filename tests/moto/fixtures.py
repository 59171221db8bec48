"""Fixtures for whoever needs EC2: import them into a conftest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.moto.server import KEYS, Account, MotoServer


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """One process for all tests of the session."""
    with MotoServer() as server:
        yield server


@pytest.fixture
def moto(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> MotoServer:
    """Empty, without faults; the SDK's chain finds its keys."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    moto_server.reset()
    return moto_server


@pytest.fixture
def account(moto: MotoServer) -> Account:
    return moto.make_account()
