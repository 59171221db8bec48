"""The nft tables of this instance (Services, NetworkPolicies): applied as the provider compiles them, and kept so.

`keeper` takes the messages of wire.tables and says what is in force; `ruleset` reads revisions from the kernel and
hears of changes that others make; `staging` cuts a text that is too large for one transaction; `copies` keeps the texts
that mend a table; `flows` forgets UDP flows to endpoints that have gone. What the tables mean is not known here:
serviceproxy and netpolicy compile them in the provider.
"""
