"""The whole product on the real thing: control plane, provider, local cloud, agents, containerd, kubectl. No mocks."""
