"""A model of the API server at the level of HTTP: requests and watches in, statuses and bodies out.

`tests/contract/apiserver` runs the same suite on it and on a real kube-apiserver.
"""
