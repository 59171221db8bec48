// CoreDNS in the release that belongs to this Kubernetes (cmd/kubeadm/app/constants). The Kubernetes modules are those
// of the control plane, so that what both use is compiled once.
module vk-provider/tests/coredns

go 1.26.0

require (
	github.com/coredns/coredns v1.14.6
	k8s.io/client-go v0.37.2
)
