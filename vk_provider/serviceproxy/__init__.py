"""kube-proxy's thinking, once for a Node: Services + EndpointSlices -> table -> delta -> nft text. Pure.

`ServiceIndex` takes the objects as the API server sends them and gives a `Table`; `diff_tables` says what changed
between two of them; `render_table` and `render_delta` make one nft transaction each, and `render_vantage` what differs
from one network namespace to the next. Nothing here runs nft, reads a socket or knows the time. The judge of every rule
is k8s.io/kubernetes/pkg/proxy (v1.37): serviceport.go, endpointslicecache.go, topology.go, nftables/proxier.go,
conntrack/cleanup.go.

Not here: who watches the objects and sends the text (routing), who applies it (agent/proxy), NetworkPolicy, DNS.
"""
