"""The endpoints of a bed: each says which address it is and where the connection came from."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Iterable

from tests.integration.serviceproxy.clients import allow_any, open_socket
from tests.integration.serviceproxy.opened import Opened

SO_RCVBUFFORCE = 33
BACKLOG, BUFFER_BYTES = 2048, 4 << 20
SETTLE_S = 30.0


class Servers(Opened):
    """Use as a context manager. places: (namespace, address, port) of each, by TCP and UDP."""

    def __init__(self, places: Iterable[tuple[str, str, int]]) -> None:
        super().__init__()
        self._places = places
        self._asked: deque[threading.Event] = deque()

    def _open(self) -> None:
        self._selector = selectors.DefaultSelector()
        for namespace, address, port in self._places:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                server = open_socket(namespace, family, kind)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
                allow_any(server)
                server.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    server.listen(BACKLOG)
                self._selector.register(server, selectors.EVENT_READ, f"{address}/{port}")
        self._control, self._wake = os.pipe()
        self._selector.register(self._control, selectors.EVENT_READ, None)
        thread = threading.Thread(target=self._serve, name="endpoints")
        thread.start()

        def end() -> None:
            os.close(self._wake)
            thread.join()
            os.close(self._control)

        self._stack.callback(end)

    def settle(self) -> None:
        """Return when all that has reached an endpoint by now is answered."""
        done = threading.Event()
        self._asked.append(done)
        os.write(self._wake, b"?")
        assert done.wait(SETTLE_S), "the endpoints do not come to rest"

    def _serve(self) -> None:
        settling: list[threading.Event] = []
        while True:
            ready = self._selector.select(0 if settling else None)
            if not ready:
                while settling:
                    settling.pop().set()
            for key, _ in ready:
                if key.data is not None:
                    _answer(key)
                elif os.read(self._control, 100):
                    while self._asked:
                        settling.append(self._asked.popleft())
                else:
                    self._close()
                    return

    def _close(self) -> None:
        for registered in list(self._selector.get_map().values()):
            if registered.data is not None:
                registered.fileobj.close()
        self._selector.close()


def _answer(key: selectors.SelectorKey) -> None:
    """The endpoint's name and the peer's address, to all that wait."""
    server: socket.socket = key.fileobj
    while True:
        try:
            if server.type == socket.SOCK_DGRAM:
                _, peer = server.recvfrom(100)
                server.sendto(f"{key.data} {peer[0]}".encode(), peer)
            else:
                connection, peer = server.accept()
                with connection:
                    connection.send(f"{key.data} {peer[0]}".encode())
        except BlockingIOError:
            return
        except OSError:
            continue  # the client has gone
