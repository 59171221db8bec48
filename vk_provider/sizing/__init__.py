"""Chooses the offering for a pod: effective requests, requirements, and a selection that explains itself.

Pure: no I/O, no clock. `select_offering` is the entry point; it chooses from cloud.base.Offering.
"""
