"""One container from its image to its end: `pulling`, `config` (ContainerConfig, pure), `starter`, `hooks`, and
`killer` with the order of `termination`; its log files meanwhile (`logrotation`).

Source: pkg/kubelet/kuberuntime, pkg/kubelet/images, pkg/kubelet/lifecycle (v1.37).
"""
