import pytest

from tests.unit.podmodel.builders import make_pod
from vk_provider.podmodel.errors import ContainerConfigError
from vk_provider.podmodel.security import (
    Namespaces,
    Profile,
    common_user,
    normalize_sysctl,
    resolve_container_security,
    resolve_pod_security,
    verify_run_as_non_root,
)


def resolve(own=None, of_pod=None, **spec):
    container = {"name": "c", "securityContext": own or {}}
    pod = make_pod(container, securityContext=of_pod or {}, **spec)
    return resolve_container_security(pod, container)


def test_the_containers_fields_win_over_the_pods():
    security = resolve(
        {"runAsUser": 0, "runAsNonRoot": False, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
        {"runAsUser": 7, "runAsGroup": 8, "runAsNonRoot": True, "fsGroup": 9, "supplementalGroups": [10, 11]},
    )
    assert (security.run_as_user, security.run_as_group, security.run_as_non_root) == (0, 8, False)
    assert (security.capabilities_add, security.capabilities_drop) == (("NET_ADMIN",), ("ALL",))
    assert security.supplemental_groups == (9, 10, 11)


def test_without_any_context_nothing_is_restricted_but_proc():
    security = resolve()
    assert security.seccomp == Profile("Unconfined")
    assert not (security.privileged or security.no_new_privs or security.read_only_root_filesystem)
    assert "/proc/kcore" in security.masked_paths and "/proc/sys" in security.readonly_paths


def test_an_unmasked_proc_has_no_masked_paths():
    security = resolve({"procMount": "Unmasked"})
    assert (security.masked_paths, security.readonly_paths) == ((), ())


@pytest.mark.parametrize(("value", "expected"), [(False, True), (True, False), (None, False)])
def test_no_new_privs_follows_allow_privilege_escalation(value, expected):
    assert resolve({} if value is None else {"allowPrivilegeEscalation": value}).no_new_privs is expected


def test_seccomp_profiles_come_from_container_then_pod():
    runtime, local = {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "p/a.json"}
    assert resolve({"seccompProfile": local}, {"seccompProfile": runtime}).seccomp == Profile(
        "Localhost", "/var/lib/kubelet/seccomp/p/a.json"
    )
    assert resolve({}, {"seccompProfile": runtime}).seccomp == Profile("RuntimeDefault")
    with pytest.raises(ContainerConfigError, match="localhostProfile must be set"):
        resolve({"seccompProfile": {"type": "Localhost"}})


def test_apparmor_comes_from_the_field_or_the_legacy_annotation():
    container = {"name": "c"}
    key = "container.apparmor.security.beta.kubernetes.io/c"
    pod = make_pod(container, metadata={"annotations": {key: "localhost/strict"}})
    assert resolve_container_security(pod, container).apparmor == Profile("Localhost", "strict")
    assert resolve({"appArmorProfile": {"type": "RuntimeDefault"}}).apparmor == Profile("RuntimeDefault")
    assert resolve().apparmor is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Namespaces("POD", "CONTAINER", "POD")),
        ({"shareProcessNamespace": True}, Namespaces("POD", "POD", "POD")),
        ({"hostNetwork": True, "hostPID": True, "hostIPC": True}, Namespaces("NODE", "NODE", "NODE")),
    ],
)
def test_namespaces_follow_the_pods_host_flags(spec, expected):
    assert resolve(**spec).namespaces == expected


@pytest.mark.parametrize(
    ("own", "uid", "username", "message"),
    [
        ({}, 0, "", None),
        (
            {"runAsNonRoot": True},
            0,
            "",
            'container has runAsNonRoot and image will run as root (pod: "web_shop(u-1)", container: c)',
        ),
        (
            {"runAsNonRoot": True},
            None,
            "bob",
            "container has runAsNonRoot and image has non-numeric user (bob), cannot verify user is non-root "
            '(pod: "web_shop(u-1)", container: c)',
        ),
        (
            {"runAsNonRoot": True, "runAsUser": 0},
            5,
            "",
            'container\'s runAsUser breaks non-root policy (pod: "web_shop(u-1)", container: c)',
        ),
        ({"runAsNonRoot": True, "runAsUser": 5}, 0, "", None),
        ({"runAsNonRoot": True}, 1234, "", None),
        ({"runAsNonRoot": True}, None, "", None),
    ],
)
def test_run_as_non_root_is_verified_against_the_image(own, uid, username, message):
    container = {"name": "c", "securityContext": own}
    pod = make_pod(container)
    security = resolve_container_security(pod, container)
    assert verify_run_as_non_root(security, uid, username, pod, container) == message


def test_an_image_user_out_of_range_is_refused():
    container = {"name": "c", "securityContext": {"runAsNonRoot": True}}
    pod = make_pod(container)
    message = verify_run_as_non_root(resolve_container_security(pod, container), 2**31, "", pod, container)
    assert message is not None and "invalid user id (2147483648)" in message


def test_token_files_belong_to_the_one_user_of_all_containers():
    def pod(*users, of_pod=None):
        containers = [
            {"name": f"c{i}", "securityContext": {} if u is None else {"runAsUser": u}} for i, u in enumerate(users)
        ]
        return make_pod(*containers, securityContext={} if of_pod is None else {"runAsUser": of_pod})

    assert common_user(pod(5, 5)) == 5
    assert common_user(pod(5, None, of_pod=5)) == 5
    assert common_user(pod(5, 6)) is None
    assert common_user(pod(5, None)) is None
    assert common_user(pod(0)) == 0


def test_the_sandbox_is_privileged_when_any_container_is_and_carries_the_sysctls():
    sysctls = [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]
    pod = make_pod({"name": "c", "securityContext": {"privileged": True}}, securityContext={"sysctls": sysctls})
    security = resolve_pod_security(pod)
    assert security.privileged and security.seccomp == Profile("RuntimeDefault")
    assert security.sysctls == (("net.ipv4.tcp_syncookies", "1"),)


@pytest.mark.parametrize(
    ("name", "normal"),
    [("a.b.c", "a.b.c"), ("a/b/c", "a.b.c"), ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"), ("a.b/c", "a.b/c")],
)
def test_sysctl_names_are_brought_to_the_dotted_form(name, normal):
    assert normalize_sysctl(name) == normal
