"""A real Kubernetes control plane on this machine, for the demo and the tests.

`build` makes the binaries, `controlplane` starts and stops them in a state directory, `fixtures` gives them to pytest,
`metrics` adds metrics-server and `approver` approves the serving certificates of our own nodes.
The command line is `python -m tests.cluster`. Nothing here imports the product: it only runs beside it.
"""
