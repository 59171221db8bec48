"""What the Node declares in status.declaredFeatures (KEP-5328). Pure.

The API server lets a bound pod be changed, and the scheduler binds a pod, only where the Node has declared what it
needs. Names and effects: k8s.io/component-helpers/nodedeclaredfeatures/features (v1.37).
"""

from __future__ import annotations

DECLARED_FEATURES = (
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
)
"""What every agent does, with containerd 1.6 as well as 2 and on both versions of cgroups: resizes of pod-level
resources and of init containers, and restarts of all containers by a rule. tests/e2e/test_features.py has the proof of
each one.

A kubelet declares ExtendWebSocketsToKubelet, too: the kubelet API here speaks no WebSocket v5, the API server
translates it. The others that Kubernetes knows are off in a kubelet 1.37, and the agent does none of them:
InPlacePodVerticalScalingMemoryBackedVolumes, UserNamespacesHostNetworkSupport, VolumeBindMountOptions,
DRANodeAllocatableResources, DRAOptionalNodeOperations.
"""
