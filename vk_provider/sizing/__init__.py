"""Chooses the offering for a pod: effective requests, requirements, and a selection that explains itself.

Pure: no I/O, no clock. `selection` is the entry point: `need` says how large, `requirement` what else is asked for,
`filters` applies both to the `index` of cloud.base.Offering, and `memory` learns what instances really have.
"""
