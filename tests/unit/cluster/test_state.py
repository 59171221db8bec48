"""Addresses, ports and the state directory."""

import socket
from pathlib import Path

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.state import Endpoints, StateDir, choose_endpoints


def test_endpoints_are_remembered(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "s")
    endpoints = choose_endpoints("127.0.0.1", 0, None, None)
    state.save(endpoints)
    assert state.load() == endpoints
    assert state.require().url == f"https://127.0.0.1:{endpoints.port}"


def test_the_last_port_is_chosen_again_when_it_is_free() -> None:
    previous = choose_endpoints("127.0.0.1", 0, None, None)
    assert choose_endpoints("127.0.0.1", 0, None, previous).port == previous.port
    with socket.create_server(("127.0.0.1", previous.port)):
        assert choose_endpoints("127.0.0.1", 0, None, previous).port != previous.port


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"127.0.0.1:{port} is taken\nnext:  choose another --port"):
            choose_endpoints("127.0.0.1", port, None, None)


def test_an_address_of_no_interface_is_one_clear_error() -> None:
    with pytest.raises(ClusterError, match=r"cannot listen on 192\.0\.2\.77.*\nnext:  bring the bridge"):
        choose_endpoints("192.0.2.77", 0, None, None)


def test_clients_may_dial_another_address_than_the_server_binds() -> None:
    chosen = choose_endpoints("192.0.2.77", 0, "127.0.0.1", None)
    assert (chosen.address, chosen.bind) == ("192.0.2.77", "127.0.0.1")


def test_without_a_control_plane_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"next:  python -m tests\.cluster up --state"):
        StateDir(tmp_path).require()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="too long"):
        StateDir(tmp_path / ("x" * 100)).save(Endpoints("127.0.0.1", "127.0.0.1", 1, 2, 3))
