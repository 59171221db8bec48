"""The instance side: one process that runs one pod on one instance, by the kubelet's rules.

Entry: `app.main`. It answers the provider over mutual TLS (`server`, `identity`, `session`) and drives containerd
over CRI (`runtime`, `images`). It knows nothing of the API server and nothing of the cloud but the metadata endpoint.
"""
