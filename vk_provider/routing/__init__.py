"""The tables that instances are sent: the cluster's Services, watched once and compiled once for each Node, and the
network policies of each pod.

`service` follows Services, EndpointSlices and ServiceCIDRs, `compiler` turns changes into tables in short turns,
`tables` makes the texts of a table and of the differences to it (`history`, `messages`) once for all sessions,
`machine` applies a Node's table on the machine that owns its address.

`policies` follows NetworkPolicies, and by `clusterwatch` what they speak of; `policytables` makes the texts of a pod.
"""
