"""Bounds what peers that have not authenticated may cost a TLS server: connections, time, and bytes of request heads.

When a limit of connections is reached, the one that has waited longest is closed: a peer with valid credentials
authenticates in milliseconds, so the oldest connections are those of a flood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a server allows.

    head_bytes:        of one request line with its headers, as Go's http.Server: MaxHeaderBytes and 4096 more
    small_head_bytes:  a head up to this size is never refused for others' sake
    all_heads_bytes:   heads of all connections that have not authenticated, together
    connections:       that have not authenticated; `peer_connections` of them from one address. Handshakes that go on
                       count, too: an API server that opens a hundred streams at once must find room
    handshake_s:       for the TLS handshake
    head_s:            for a whole head, from its first byte; for the first one from the end of the handshake
    """

    head_bytes: int = (1 << 20) + 4096
    small_head_bytes: int = 16 << 10
    all_heads_bytes: int = 16 << 20
    connections: int = 512
    peer_connections: int = 256
    handshake_s: float = 10.0
    head_s: float = 30.0


@dataclass(eq=False, slots=True)
class PendingConnection:
    """A connection that has not authenticated. `abort` closes it in any state."""

    owner: PendingConnections
    peer: str
    abort: Callable[[], object]
    head_bytes: int = field(default=0)

    def hold(self, count: int) -> bool:
        """Set the current length of the head that is being read; False when all heads together are too long."""
        self.owner.head_bytes += count - self.head_bytes
        self.head_bytes = count
        limits = self.owner.limits
        return count <= limits.small_head_bytes or self.owner.head_bytes <= limits.all_heads_bytes

    def leave(self) -> None:
        """It has authenticated, or it is closed."""
        self.hold(0)
        self.owner.forget(self)


class PendingConnections:
    """The connections of one server that have not authenticated, oldest first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.head_bytes = 0
        self._by_peer: dict[str, dict[PendingConnection, None]] = {}
        self._all: dict[PendingConnection, None] = {}

    def enter(self, peer: str, abort: Callable[[], object]) -> PendingConnection:
        """A new connection from the address `peer`."""
        of_peer = self._by_peer.get(peer, {})
        if len(of_peer) >= self.limits.peer_connections:
            self._evict(next(iter(of_peer)))
        elif len(self._all) >= self.limits.connections:
            self._evict(next(iter(self._all)))
        connection = PendingConnection(self, peer, abort)
        self._by_peer.setdefault(peer, {})[connection] = self._all[connection] = None
        return connection

    def _evict(self, connection: PendingConnection) -> None:
        connection.leave()
        connection.abort()

    def forget(self, connection: PendingConnection) -> None:
        """See PendingConnection.leave; may be called again."""
        self._all.pop(connection, None)
        of_peer = self._by_peer.get(connection.peer)
        if of_peer is not None:
            of_peer.pop(connection, None)
            if not of_peer:
                del self._by_peer[connection.peer]

    def __len__(self) -> int:
        return len(self._all)
