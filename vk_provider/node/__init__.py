"""The Node object (pure), its registration and status, its Lease.

Elsewhere: its pods (pods), its HTTPS API (kubelet), its serving certificate (kube.csr).
"""
