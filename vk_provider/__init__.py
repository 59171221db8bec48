"""A Kubernetes node without a machine behind it: every pod on its own cloud instance.

The provider is the kubelet's connection to the API server; the agent on each instance is the kubelet's pod worker.
ARCHITECTURE.md describes the packages and the directions in which they may import each other.
"""

__version__ = "0.1.0"
