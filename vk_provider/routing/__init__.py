"""The cluster's Services, watched once and compiled once for each Node: the tables that instances are sent.

`service` follows Services, EndpointSlices and ServiceCIDRs, `compiler` turns changes into tables in short turns,
`tables` makes the texts of a table and of the differences to it (`history`, `messages`) once for all sessions,
`machine` applies a Node's table on the machine that owns its address.
"""
