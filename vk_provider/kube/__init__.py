"""All access to the API server: raw JSON client, informers, references by name, event recorder, certificates.

Nothing else in the project imports kubernetes_asyncio; here it is used for credentials alone, since its model classes
block the loop on long lists. Callers: pods, node, kubelet. This room knows the API, not the semantics of pods.
"""
