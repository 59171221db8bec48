"""The pod's sandbox: `config` (PodSandboxConfig, pure), the pod's own cgroup, the instance's resolv.conf.

Source: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, pkg/kubelet/cm (v1.37).
"""
