"""Services, names and policies in a cluster of a nodeless Node and a real kubelet with kube-proxy."""
