"""The Node object: what it says (pure), its registration and status, its Lease.

Not here: which pods run (pods), the HTTPS API of the node (kubelet), its serving certificate (kube.csr).
"""
