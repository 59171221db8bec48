"""A cloud without machines, for benchmarks and for looking at scheduling: in-process agents that answer at once.

Everything a pod does is made up here; nothing of it may be taken for a test of a pod's behaviour.
"""
