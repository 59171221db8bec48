"""kube-proxy's log as the benchmark reads it."""

from __future__ import annotations

from pathlib import Path

from tests.bench.node_proxy import parse_syncs

LOG = """I1129 00:42:30.1 21775 proxier.go:1300] "SyncProxyRules complete" ipFamily="IPv6" elapsed="9s"
I1129 00:42:30.2 21775 proxier.go:1300] "Syncing nftables rules" ipFamily="IPv4" elapsed="8s"
I1129 00:42:31.3 21775 proxier.go:1300] "SyncProxyRules complete" ipFamily="IPv4" elapsed="1m13.25s"
I1129 00:42:32.4 21775 proxier.go:1300] "SyncProxyRules complete" elapsed="12.5ms" ipFamily="IPv4"
"""


def test_the_seconds_of_kube_proxys_syncs_are_read_whatever_the_order_of_the_fields(tmp_path: Path) -> None:
    log = tmp_path / "kube-proxy.log"
    log.write_text(LOG)
    assert parse_syncs(log) == [73.25, 0.0125]
