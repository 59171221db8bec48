"""A cloud without machines, for benchmarks and for trying out scheduling: in-process agents that answer at once.

The behaviour of pods is simulated: it is no test of real pods.
"""
