"""The reasons of all events, a kubelet's where it has one (pkg/kubelet/events/event.go).

The sentence below each says: type, who says it (the source that `kubectl describe` shows, and about what, unless about
the pod), when, and what can be done about it. REFERENCE.md is made from them. Events take an EventReason, so that mypy
finds one that is not listed here; only what an agent has sent is converted (pods.agent_events).
"""

from __future__ import annotations

from typing import Final, NewType

EventReason = NewType("EventReason", str)


# --- The instance of a pod ---------------------------------------------------------------------------------------

INSTANCE_LAUNCHED: Final = EventReason("InstanceLaunched")
"""Normal, provider (vk-provider): the cloud launches an instance for the pod; the message says which, why and at what
price."""
NO_CAPACITY: Final = EventReason("NoCapacity")
"""Normal, provider (vk-provider): the cloud has no capacity for the chosen offering now; the next one is tried. Do:
allow more instance types, zones or capacity types."""
FAILED_LAUNCH: Final = EventReason("FailedLaunch")
"""Warning, provider (vk-provider): a launch failed and is tried again, ever later. Do: act on the cloud's error in
the message; a quota, a credential or the network."""
BUDGET_EXCEEDED: Final = EventReason("BudgetExceeded")
"""Warning, provider (vk-provider): an instance for the pod would exceed a limit of [budget], which the message names
with its figures; the pod stays Pending until there is room, pods of a higher priority first. Do: delete pods, or raise
the limit."""
IMAGES_NOT_PREPARED: Final = EventReason("ImagesNotPrepared")
"""Warning, agent and provider (vk-provider): the images that the pod has pulled could not be made ready for the pods
that follow, or those that are ready cannot be used by its instance: images are pulled. Do: read the message; free disk
space, or raise images.max_bytes."""
WAITING_FOR_IMAGES: Final = EventReason("WaitingForImages")
"""Normal, provider (vk-provider): other pods are pulling the pod's images for the first time; its instance starts when
they are prepared, which is sooner than to pull them once more. Do: nothing; images.wait_s limits it."""
INSTANCE_REFUSED: Final = EventReason("InstanceRefused")
"""Warning, provider (vk-provider): the cloud refuses the request as such; the pod fails. Do: change what the message
names, let the pod be created again."""
NO_FITTING_INSTANCE: Final = EventReason("NoFittingInstance")
"""Warning, provider (vk-provider): no offering can ever hold the pod; it fails. Do: smaller requests and limits, or
wider node selectors, affinity and `vk-provider/` annotations."""
INVALID_REQUIREMENT: Final = EventReason("InvalidRequirement")
"""Warning, provider (vk-provider): an annotation of the pod or of its RuntimeClass cannot be understood, is not allowed
on pods (pods.launch_options), or is for another cloud; the pod fails. Do: change what the message names."""
INSTANCE_BOOT_FAILED: Final = EventReason("InstanceBootFailed")
"""Warning, provider (vk-provider): the agent of a new instance did not answer within cloud.boot_timeout_s, or the
instance ended before; another one is launched unless the pod may have run. Do: look at the instance's console or
log."""
INSTANCE_TERMINATED: Final = EventReason("InstanceTerminated")
"""Warning, provider (vk-provider): the cloud says that the instance is gone; the pod fails and its controller
replaces it. Do: nothing, unless somebody terminates instances by hand."""
INSTANCE_INTERRUPTED: Final = EventReason("InstanceInterrupted")
"""Warning, provider (vk-provider): the cloud announces that it will take the instance back, as it may with spot
capacity; the pod is stopped within its grace period and fails. Do: nothing, if its controller replaces it; else ask
for on-demand capacity."""
FAILED_TERMINATE: Final = EventReason("FailedTerminate")
"""Warning, provider (vk-provider): the cloud does not terminate the instance of an ended pod; it is tried again. Do:
watch the metric vk_instances_not_terminated: it costs money."""
FAILED_LOG_ARCHIVE: Final = EventReason("FailedLogArchive")
"""Warning, provider (vk-provider): the logs of an ended pod could not be kept before its instance was terminated. Do:
look for room in pods.archive_dir; these logs are gone."""

# --- The agent on the instance -----------------------------------------------------------------------------------

AGENT_UNREACHABLE: Final = EventReason("AgentUnreachable")
"""Warning, provider (vk-provider): the agent has been silent for cloud.agent_monitor_grace_s; the pod is not Ready
any more (the condition has the same reason), nothing is stopped. Do: look at the network and at the instance's
memory."""
AGENT_REACHABLE: Final = EventReason("AgentReachable")
"""Normal, provider (vk-provider): a silent agent answers again."""
AGENT_PROTOCOL_ERROR: Final = EventReason("AgentProtocolError")
"""Warning, provider (vk-provider): the agent sent what the contract does not allow; its session was closed and is
opened again. Do: distrust the instance, or report the fault."""
INSTANCE_STORE_UNAVAILABLE: Final = EventReason("InstanceStoreUnavailable")
"""Warning, agent (vk-provider): the instance's own disks cannot be used for images and the pod's files, which are on
its smaller root volume instead. Do: read the message; with vk-provider/instance-store-policy: none the root volume is
as large as the pod needs."""
TABLE_FAILED: Final = EventReason("NetworkTableFailed")
"""Warning, provider (vk-provider): the instance has not applied its table of Services or of network policies; the one
before stays in force. Do: read nft's words in the message; a privileged pod may have changed the instance's
tables."""
FAILED_STATUS: Final = EventReason("FailedStatusUpdate")
"""Warning, provider (vk-provider): the API server refuses the pod's status, or has not accepted it for long. Do: look
for an admission webhook or policy that refuses it."""

# --- Admission ---------------------------------------------------------------------------------------------------

DAEMONSET_NOT_SUPPORTED: Final = EventReason("DaemonSetNotSupported")
"""Warning, provider (vk-provider): the pod of a DaemonSet is left Pending, since it would cost an instance. Do: keep
the DaemonSet away (node affinity `type NotIn (virtual-kubelet)`), or let it run (pods.daemonsets)."""
MIRROR_POD_NOT_SUPPORTED: Final = EventReason("MirrorPodNotSupported")
"""Warning, provider (vk-provider): a static pod's mirror is left Pending. Do: delete it."""
NODE_PORTS: Final = EventReason("NodePorts")
"""Warning, provider (kubelet): another pod of the Node uses the host port; the pod fails. Do: use another port or
Node."""
NODE_AFFINITY: Final = EventReason("NodeAffinity")
"""Warning, provider (kubelet): the Node does not have the labels of nodeSelector or required node affinity; the pod
fails. Do: change one of them."""
TAINT_TOLERATION: Final = EventReason("TaintToleration")
"""Warning, provider (kubelet): the Node has a taint with the effect NoExecute that the pod does not tolerate; the pod
fails. Do: add a toleration, or take the taint away."""
OUT_OF_PODS: Final = EventReason("OutOfpods")
"""Warning, provider (kubelet): the Node has as many pods as its capacity allows; the pod fails. Do: raise
nodes.capacity."""
POD_OS_SELECTOR: Final = EventReason("PodOSSelectorNodeLabelDoesNotMatch")
"""Warning, provider (kubelet): the pod's label kubernetes.io/os is not linux; the pod fails. Do: choose another
node."""
POD_OS_NOT_SUPPORTED: Final = EventReason("PodOSNotSupported")
"""Warning, provider (kubelet): spec.os is not linux; the pod fails. Do: choose another node."""
SYSCTL_FORBIDDEN: Final = EventReason("SysctlForbidden")
"""Warning, provider (kubelet): an unsafe sysctl is asked for; the pod fails. Do: take it out."""
APP_ARMOR: Final = EventReason("AppArmor")
"""Warning, provider (kubelet): an AppArmor profile is asked for, and instances have none; the pod fails. Do: take it
out."""
SUPPLEMENTAL_GROUPS_POLICY_NOT_SUPPORTED: Final = EventReason("SupplementalGroupsPolicyNotSupported")
"""Warning, provider (kubelet): the policy Strict needs containerd 2; the pod fails. Do: use Merge, or newer
instances."""
POD_FEATURE_UNSUPPORTED: Final = EventReason("PodFeatureUnsupported")
"""Warning, provider (kubelet): the field that the message names cannot be honoured here; the pod fails. Do: take it
out, or run the pod on another node."""


def out_of(resource: str) -> EventReason:
    """Warning, provider (kubelet): the Node lacks that resource (OutOfcpu, OutOfmemory); the pod fails. Do: raise
    nodes.capacity, it is a limit of all pods together."""
    return EventReason(f"OutOf{resource}")


# --- Certificates of pods ----------------------------------------------------------------------------------------

POD_CERTIFICATE_DENIED: Final = EventReason("Denied")
"""Warning, provider (kubelet): the signer denied the pod's PodCertificateRequest. Do: read its reason in the
message."""

# --- Images ------------------------------------------------------------------------------------------------------

PULLING: Final = EventReason("Pulling")
"""Normal, agent (kubelet): an image is being pulled."""
PULLED: Final = EventReason("Pulled")
"""Normal, agent (kubelet): an image was pulled, or is there already."""
IMAGE_PULL_PROGRESS: Final = EventReason("ImagePullProgress")
"""Normal, agent (vk-provider): a pull takes longer than ten seconds; the message says how much is there, and from
where."""
IMAGE_FETCHED: Final = EventReason("ImageFetched")
"""Normal, agent (vk-provider): of an image that was there, and after a pull that took long or did not get all from the
registry: how many bytes came from other instances, from the registry, and were there before (in the instance's prepared
store, say). Once for each image of a pod that is there."""
INSPECT_FAILED: Final = EventReason("InspectFailed")
"""Warning, agent (kubelet): the image's name is not valid, or the runtime cannot say whether it has it. Do: correct
the name."""
ERR_IMAGE_NEVER_PULL: Final = EventReason("ErrImageNeverPull")
"""Warning, agent (kubelet): imagePullPolicy is Never and the instance does not have the image. Do: let it pull; a new
instance has prepared images at most."""
FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET: Final = EventReason("FailedToRetrieveImagePullSecret")
"""Warning, agent (kubelet): a pull failed, and pull secrets were missing. Do: create the Secrets that the message
names."""
REGISTRY_LOGIN_FAILED: Final = EventReason("RegistryLoginFailed")
"""Warning, provider (vk-provider): the cloud gives the Node no login at a registry of the pod's images (on AWS: at
Amazon ECR), which are pulled with the pod's own secrets alone; it is tried again. Do: give the provider the permission
that the message names, see manifests/iam."""

# --- Roles -------------------------------------------------------------------------------------------------------

POD_IDENTITY_UNAVAILABLE: Final = EventReason("PodIdentityUnavailable")
"""Warning, agent (vk-provider): the instance cannot listen at the address where the pod's containers ask for the
credentials of their role (EKS Pod Identity); it is tried again. Do: read the message; a hostNetwork pod must not have
port 80 itself."""

# --- Containers --------------------------------------------------------------------------------------------------

CREATED: Final = EventReason("Created")
"""Normal, agent (kubelet): a container was created."""
STARTED: Final = EventReason("Started")
"""Normal, agent (kubelet): a container was started."""
KILLING: Final = EventReason("Killing")
"""Normal, agent (kubelet): a container is stopped; the message says why."""
FAILED: Final = EventReason("Failed")
"""Warning, agent and provider (kubelet): a container was not created or started, an image not pulled, the pod's
directory not made, or a PodCertificateRequest failed. Do: read the message, and the container's waiting reason."""
BACK_OFF: Final = EventReason("BackOff")
"""Normal or Warning, agent (kubelet): a pull (Normal) or a container's restart (Warning) waits, since it failed
before. Do: look at `kubectl logs --previous`, or at the image's name and secrets."""
FAILED_POST_START_HOOK: Final = EventReason("FailedPostStartHook")
"""Warning, agent (kubelet): a postStart hook failed; its container is stopped. Do: correct the hook."""
FAILED_PRE_STOP_HOOK: Final = EventReason("FailedPreStopHook")
"""Warning, agent (kubelet): a preStop hook failed; its container is stopped anyway. Do: correct the hook."""
LIFECYCLE_HTTP_FALLBACK: Final = EventReason("LifecycleHTTPFallback")
"""Warning, agent (kubelet): an HTTPS hook was answered by HTTP and repeated so. Do: set its scheme to HTTP."""
UNHEALTHY: Final = EventReason("Unhealthy")
"""Warning, agent (kubelet): a probe failed, or could not be carried out. Do: read its output in the message."""
PROBE_WARNING: Final = EventReason("ProbeWarning")
"""Warning, agent (kubelet): a probe succeeded in a way that may not be meant, such as a redirect to another host. Do:
correct its path."""

# --- The pod -----------------------------------------------------------------------------------------------------

FAILED_CREATE_POD_SANDBOX: Final = EventReason("FailedCreatePodSandBox")
"""Warning, agent (kubelet): the pod's sandbox was not created; it is tried again. Do: read the runtime's words in the
message."""
SANDBOX_CHANGED: Final = EventReason("SandboxChanged")
"""Normal, agent (kubelet): the pod's sandbox has ended; it is made again, and its containers."""
NETWORK_NOT_READY: Final = EventReason("NetworkNotReady")
"""Warning, agent (kubelet): containers wait, since the instance has no table of Services or network policies in force
yet. Do: nothing at first; then look for NetworkTableFailed."""
FAILED_MOUNT: Final = EventReason("FailedMount")
"""Warning, agent (kubelet): a volume cannot be set up; it is tried again. Do: create the object that the message
names."""
MISSING_CLUSTER_DNS: Final = EventReason("MissingClusterDNS")
"""Warning, agent (kubelet): dnsPolicy is ClusterFirst, and the provider knows no DNS server; names of the cluster are
not resolved. Do: set cluster.dns."""
DNS_CONFIG_FORMING: Final = EventReason("DNSConfigForming")
"""Warning, agent (kubelet): the pod has more name servers or search domains than resolv.conf can hold; some are left
out. Do: use fewer."""
DEADLINE_EXCEEDED: Final = EventReason("DeadlineExceeded")
"""Normal, agent and provider (kubelet): the pod was active for longer than activeDeadlineSeconds; it fails, also while
it waits for its instance. Do: allow more; the launch of the instance counts, too."""
EVICTED: Final = EventReason("Evicted")
"""Warning, agent (kubelet): the pod used more local storage than its limits or an emptyDir's sizeLimit allow; it
fails. Do: raise them."""
FAILED_KILL_POD: Final = EventReason("FailedKillPod")
"""Warning, agent (kubelet): the pod's containers or sandbox could not be stopped; it is tried again. Do: read the
runtime's words in the message."""
RESIZE_STARTED: Final = EventReason("ResizeStarted")
"""Normal, agent (kubelet): a resize of the pod is being carried out."""
RESIZE_COMPLETED: Final = EventReason("ResizeCompleted")
"""Normal, agent (kubelet): a resize of the pod is in force."""
RESIZE_INFEASIBLE: Final = EventReason("ResizeInfeasible")
"""Warning, agent (kubelet): the pod's instance cannot hold the new size; the pod goes on as it is. Do: replace the
pod for a larger instance."""
RESIZE_ERROR: Final = EventReason("ResizeError")
"""Warning, agent (kubelet): a resize cannot be carried out now; it is tried again. Do: read the message; a memory
limit is not set below what is used."""

# --- Nodes and Services ------------------------------------------------------------------------------------------

STARTING: Final = EventReason("Starting")
"""Normal, provider (kubelet, about the Node): the provider has started, or the Node was registered again."""
NODE_READY: Final = EventReason("NodeReady")
"""Normal, provider (kubelet, about the Node): it is Ready."""
NODE_NOT_READY: Final = EventReason("NodeNotReady")
"""Normal, provider (kubelet, about the Node): it is not Ready. Do: read the message of its condition Ready."""
NODE_SCHEDULABLE: Final = EventReason("NodeSchedulable")
"""Normal, provider (kubelet, about the Node): it was uncordoned."""
NODE_NOT_SCHEDULABLE: Final = EventReason("NodeNotSchedulable")
"""Normal, provider (kubelet, about the Node): it was cordoned."""
NODE_HAS_SUFFICIENT_MEMORY: Final = EventReason("NodeHasSufficientMemory")
"""Normal, provider (kubelet, about the Node): the Node was registered, or another writer's condition was put
right."""
NODE_HAS_NO_DISK_PRESSURE: Final = EventReason("NodeHasNoDiskPressure")
"""Normal, provider (kubelet, about the Node): as NodeHasSufficientMemory."""
NODE_HAS_SUFFICIENT_PID: Final = EventReason("NodeHasSufficientPID")
"""Normal, provider (kubelet, about the Node): as NodeHasSufficientMemory."""
FAILED_TO_START_SERVICE_HEALTHCHECK: Final = EventReason("FailedToStartServiceHealthcheck")
"""Warning, provider (kube-proxy, about the Service): its healthCheckNodePort is taken on this machine; it is tried
again. Do: free the port, or let the Service be created again for another."""
