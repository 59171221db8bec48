"""What our instances have cost, and for whom: instance-seconds and prices by pod, namespace, label, type and zone.

`meter` counts in memory, told by `instances` of launch answers, listings, notices and ends, at what `prices` finds for
an instance; neither makes calls.
`store` keeps what it counts in SQLite, over restarts. `ledger` is the shell around both: it flushes, and it answers
questions (`question`), which `report` writes as a table, JSON or CSV. `spot` asks the cloud for spot prices of what
runs, and `curve` splits spans by them. Nothing here stops a pod: a store that cannot be
written is named in the log and in a metric, and counting goes on.

The count is that of the time in which an instance is `pending` or `running`, and of the least time that a cloud bills
of each run, with its network disks, which are counted while it is stopped, too; of a burstable type with the CPU above
its baseline that its pod is expected to use; and of what prepared images cost: the instances that make them, and the
snapshots that are kept. What a cloud's invoice adds (CPU that a pod uses beyond its request, volumes that are filled at
a rate, public addresses, requests, traffic, taxes, discounts) is not in it.
"""
