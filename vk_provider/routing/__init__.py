"""The cluster's Services, watched once and compiled once for each Node: the tables that instances are sent.

`informers` follows Services, EndpointSlices and ServiceCIDRs, `compiler` turns changes into tables in short turns,
`tables` encodes a table and the differences to it once for all sessions, `machine` applies a Node's table on the
machine that owns its address.
"""
