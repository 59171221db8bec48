"""The embedded cloud: an instance is a set of Linux namespaces on this machine with its own containerd and agent.

What is real: addresses, bridge, metadata service, memory and CPU limits, boot, terminate, the state of the cloud (a
directory that outlives the provider). What is not: kernel and disk are shared, `disk_bytes` is not enforced.
"""
