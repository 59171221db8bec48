"""Startup, liveness and readiness probes: how to run one (`probe`), when to run it (`worker`), which exist (`manager`).

Source: pkg/kubelet/prober (v1.37).
"""
