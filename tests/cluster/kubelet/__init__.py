"""A real kubelet with containerd, bridge CNI and kube-proxy as one more node of a cluster, in namespaces of its own."""
