"""NetworkPolicies (networking.k8s.io/v1) -> what one pod may receive and send -> nft table and deltas. Pure.

`PolicyIndex` takes policies, the cluster's pods and namespaces, and gives the `Table` of each pod that it follows;
`diff_tables` says what changed between two of them; `render_table` and `render_delta` make one nft transaction each.
Nothing here watches, runs nft or knows the time. The judge of every rule is the API's documentation (k8s.io/api
networking/v1 types.go, and "Network Policies" among the concepts); where it is silent, what Calico and Cilium do.

The table stands in the network namespace between the pod and the world and sees what is forwarded:
    before or after Services   after: the address and port that count are those of the pod that answers
    established connections    go on, whatever changes; policies are about new ones
    the node's own traffic     (probes, port-forward, what the pod sends to its own instance) is not forwarded, and the
                               API always allows it; the pod's traffic to itself, through a Service, too, is accepted
    hostNetwork                such pods have the address of their node: no selector finds them, ipBlock does; no policy
                               applies to them
    terminated pods            (Succeeded, Failed) have no address any more
    ICMP and other protocols   a rule without ports allows them with everything else, one with ports does not; what
                               belongs to an established connection (ICMP errors) goes on
    what was masqueraded       (node ports, load balancers) comes from a node's address, as ipBlock can say
"""
