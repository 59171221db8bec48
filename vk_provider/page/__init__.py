"""The provider's page for people: Nodes, pods, instances, costs and launches at a glance, as one document of HTML.

Pure: what is shown is an argument (`facts`). No script runs in it and nothing is loaded from anywhere; every name is
escaped and cut, and every list is bounded, whatever runs. `vk_provider.overview` collects the facts, and the health
server (kubelet.server) serves the page.
"""
