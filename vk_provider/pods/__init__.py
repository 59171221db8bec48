"""PodController: API pod <-> instance. Decides in `reconcile` (pure), carries out in `controller`.

Who calls it: app builds it; kubelet reads from it through `source`. What it is not: it computes no PodStatus of a
running pod (the agent does) and knows no cloud (cloud.base does).
"""
