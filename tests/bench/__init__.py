"""Benchmarks: every figure is a ratio taken within one run, or a median of at least five.

`python -m tests.bench` runs all, `--only NAME...` some; what ran is renewed in RESULTS.md beside this file, and
each figure is one JSON line on stdout.
What is compared with (KWOK, a bare script, containerd's own streaming server) runs in the same minute on the same
machine, turn by turn, so that the machine's other work meets both alike.
"""
