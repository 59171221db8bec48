import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.podmodel.admission import IMAGE_VOLUMES, RECURSIVE_READ_ONLY, USER_NAMESPACES, Refusal, refuse


def unsupported(field):
    return Refusal("PodFeatureUnsupported", f"{field} is not supported by this node")


def volumes(*sources):
    return {"volumes": [{"name": f"v{i}", **source} for i, source in enumerate(sources)]}


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        (
            make_pod(**volumes({"emptyDir": {}}, {"secret": {}}, {"persistentVolumeClaim": {"claimName": "x"}})),
            "spec.volumes[2].persistentVolumeClaim",
        ),
        (make_pod(**volumes({"nfs": {}})), "spec.volumes[0].nfs"),
        (make_pod(**volumes({"csi": {}})), "spec.volumes[0].csi"),
        (make_pod(**volumes({"ephemeral": {}})), "spec.volumes[0].ephemeral"),
        (make_pod(**volumes({"image": {"reference": "x"}})), "spec.volumes[0].image"),
        (make_pod(**volumes({"emptyDir": {"medium": "HugePages"}})), "spec.volumes[0].emptyDir.medium=HugePages"),
        (make_pod({"name": "c", "volumeDevices": [{}]}), "spec.containers[0].volumeDevices"),
        (make_pod({"name": "c", "resources": {"claims": [{"name": "g"}]}}), "spec.containers[0].resources.claims"),
        (
            make_pod({"name": "c", "volumeMounts": [{"recursiveReadOnly": "Enabled"}]}),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly=Enabled",
        ),
        (make_pod(hostUsers=False), "spec.hostUsers=false"),
        (make_pod(resourceClaims=[{"name": "g"}]), "spec.resourceClaims"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(pod, field):
    assert refuse(pod) == unsupported(field)


def test_what_newer_instances_can_do_is_admitted():
    pod = make_pod(
        {"name": "c", "volumeMounts": [{"recursiveReadOnly": "Enabled"}]},
        hostUsers=False,
        **volumes({"image": {"reference": "x"}}),
    )
    assert refuse(pod, frozenset({IMAGE_VOLUMES, USER_NAMESPACES, RECURSIVE_READ_ONLY})) is None


def test_an_ordinary_pod_is_admitted():
    every = (
        {"emptyDir": {"medium": "Memory"}},
        {"configMap": {}},
        {"secret": {}},
        {"downwardAPI": {}},
        {"projected": {}},
        {"hostPath": {"path": "/x"}},
    )
    mount = {"name": "v0", "mountPath": "/x", "recursiveReadOnly": "IfPossible", "readOnly": True}
    assert refuse(make_pod({"name": "c", "volumeMounts": [mount]}, os={"name": "linux"}, **volumes(*every))) is None


def test_another_operating_system_is_refused():
    assert refuse(make_pod(os={"name": "windows"})) == Refusal(
        "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    )


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("net.ipv4.tcp_syncookies", {}, None),
        ("net/ipv4/tcp_syncookies", {}, None),
        ("kernel.msgmax", {}, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        (
            "net.ipv4.tcp_syncookies",
            {"hostNetwork": True},
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled',
        ),
        (
            "kernel.shm_rmid_forced",
            {"hostIPC": True},
            'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled',
        ),
    ],
)
def test_unsafe_sysctls_are_forbidden(name, spec, message):
    refusal = refuse(make_pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec))
    assert refusal == (None if message is None else Refusal("SysctlForbidden", message))


def test_an_operator_may_allow_unsafe_sysctls():
    pod = make_pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
    assert refuse(pod, allowed_unsafe_sysctls=("kernel.msg*",)) is None
    assert refuse(pod, allowed_unsafe_sysctls=("kernel.sem",)) is not None


def test_apparmor_and_strict_groups_need_an_instance_that_has_them():
    apparmor = make_pod({"name": "c", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}})
    strict = make_pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    assert refuse(apparmor) == Refusal("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert refuse(strict) == Refusal(
        "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
    )
    assert refuse(apparmor, frozenset({"appArmor"})) is None
    assert refuse(strict, frozenset({"supplementalGroupsPolicy"})) is None
    relaxed = make_pod({"name": "c", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}})
    assert refuse(relaxed) is None
