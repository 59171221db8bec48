"""A real Kubernetes control plane on this machine, for the demo and the tests.

`build` makes the binaries, `controlplane` starts and stops them in a state directory, `fixtures` gives them to pytest,
`metrics` adds metrics-server and `approver` approves the serving certificates of our own nodes.
Nothing here imports the product: it only runs beside it.

    python -m tests.cluster.build controlplane e2e agnhost ginkgo metrics-server
    python -m tests.cluster up --state DIR --address 10.201.0.1      prints the administrator's kubeconfig
    python -m tests.cluster status|down --state DIR
    python -m tests.cluster stop|start|freeze|thaw COMPONENT --state DIR
    python -m tests.cluster kubeconfig --state DIR [--user U --group G | --service-account NAMESPACE/NAME]
    python -m tests.cluster approver up|down|run --state DIR --node PATTERN [--network CIDR] [--requestor USER]
    python -m tests.cluster metrics-server up|down --state DIR
"""
