"""Which instance for this pod: effective requests, requirements, selection that can say why it refused.

Pure: no I/O, no clock. `select_offering` is the door; cloud.base.Offering is what it chooses from.
"""
