"""The real provider on a virtual clock, against a model of the API server, a simulated cloud and simulated agents.

A seed draws the workload and the faults; it replays exactly. `python -m tests.simulation --help` says how.
"""
