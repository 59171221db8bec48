"""PodController: API pod <-> instance. `reconcile` (pure) decides, `executor` carries out.

`app` builds it; `kubelet` reads from it through `source`. It computes no PodStatus of a running pod (the agent does)
and depends on no particular cloud (only on cloud.base).
"""
