import pytest

from tests.unit.podmodel.builders import CONTEXT, b64, make_pod
from vk_provider.podmodel.environment import build_environment, env_file_keys, expand_command
from vk_provider.podmodel.errors import ContainerConfigError

KUBERNETES = {
    "name": "kubernetes",
    "namespace": "default",
    "clusterIP": "10.0.0.1",
    "ports": [{"name": "https", "port": 443, "protocol": "TCP"}],
}
REDIS = {
    "name": "redis-master",
    "namespace": "shop",
    "clusterIP": "10.0.0.11",
    "ports": [{"name": "", "port": 6379, "protocol": "TCP"}, {"name": "my-dns", "port": 53, "protocol": "UDP"}],
}
REFERENCES = {
    "configMaps": {"settings": {"data": {"COLOR": "red", "odd-key": "1"}}, "gone": None},
    "secrets": {"login": {"data": {"USER": b64("bob"), "RAW": b64(b"\xff\x00")}}, "gone": None},
    "services": [],
    "errors": {"secret/denied": 'secrets "denied" is forbidden'},
}


def env_of(container, pod=None, references=None, context=CONTEXT, files=None):
    pod = pod or make_pod(container, serviceAccountName="robot", nodeName="node-1")
    references = references or REFERENCES
    return dict(build_environment(pod, container, references, references.get("services", []), context, files))


def test_env_from_comes_first_and_later_sources_and_env_override_it():
    container = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "secretRef": {"name": "login"}}],
        "env": [{"name": "COLOR", "value": "blue-$(P_USER)"}],
    }
    env = build_environment(make_pod(container), container, REFERENCES, [], CONTEXT)
    assert env == [("COLOR", "blue-bob"), ("odd-key", "1"), ("P_RAW", "\udcff\x00"), ("P_USER", "bob")]


def test_references_expand_only_against_what_stands_before_and_service_variables():
    container = {
        "name": "c",
        "env": [
            {"name": "LATE", "value": "$(B)"},
            {"name": "B", "value": "b"},
            {"name": "OK", "value": "$(B)-$(KUBERNETES_SERVICE_HOST)-$$(B)"},
        ],
    }
    env = env_of(container, references={"services": [KUBERNETES]})
    assert (env["LATE"], env["OK"]) == ("$(B)", "b-10.0.0.1-$(B)")


def test_service_variables_have_the_docker_link_names():
    env = env_of({"name": "c"}, references={"services": [REDIS]})
    assert env == {
        "REDIS_MASTER_SERVICE_HOST": "10.0.0.11",
        "REDIS_MASTER_SERVICE_PORT": "6379",
        "REDIS_MASTER_SERVICE_PORT_MY_DNS": "53",
        "REDIS_MASTER_PORT": "tcp://10.0.0.11:6379",
        "REDIS_MASTER_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        "REDIS_MASTER_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_MASTER_PORT_6379_TCP_PORT": "6379",
        "REDIS_MASTER_PORT_6379_TCP_ADDR": "10.0.0.11",
        "REDIS_MASTER_PORT_53_UDP": "udp://10.0.0.11:53",
        "REDIS_MASTER_PORT_53_UDP_PROTO": "udp",
        "REDIS_MASTER_PORT_53_UDP_PORT": "53",
        "REDIS_MASTER_PORT_53_UDP_ADDR": "10.0.0.11",
    }


def test_without_service_links_only_the_api_server_is_announced():
    container = {"name": "c"}
    headless = {**REDIS, "name": "headless", "clusterIP": "None"}
    elsewhere = {**REDIS, "name": "elsewhere", "namespace": "other"}
    references = {"services": [KUBERNETES, REDIS, headless, elsewhere]}
    off = env_of(container, make_pod(container, enableServiceLinks=False), references)
    on = env_of(container, make_pod(container, enableServiceLinks=True), references)
    assert {name.split("_")[0] for name in off} == {"KUBERNETES"}
    assert {name.split("_")[0] for name in on} == {"KUBERNETES", "REDIS"}


def test_no_environment_is_made_before_the_services_are_known():
    container = {"name": "c"}
    with pytest.raises(ContainerConfigError, match="services have not yet been read at least once") as caught:
        build_environment(make_pod(container), container, REFERENCES, None, CONTEXT)
    assert caught.value.reason == "CreateContainerConfigError"


def test_a_declared_variable_wins_over_a_service_variable():
    container = {"name": "c", "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "mine"}]}
    assert env_of(container, references={"services": [KUBERNETES]})["KUBERNETES_SERVICE_HOST"] == "mine"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app.kubernetes.io/name']", "x"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.1.0.4"),
        ("status.hostIPs", "10.1.0.4"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5"),
    ],
)
def test_field_references_are_resolved(path, value):
    container = {"name": "c", "env": [{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}
    pod = make_pod(
        container, metadata={"labels": {"app.kubernetes.io/name": "x"}}, nodeName="node-1", serviceAccountName="robot"
    )
    assert env_of(container, pod)["V"] == value


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ({"resource": "limits.cpu"}, "1"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "600"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "requests.memory"}, "67108864"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.memory", "divisor": "0"}, str(4 << 30)),
        ({"resource": "limits.ephemeral-storage", "divisor": "1Gi"}, "10"),
        ({"resource": "requests.ephemeral-storage"}, "0"),
        ({"resource": "limits.cpu", "containerName": "other"}, "2"),
        ({"resource": "limits.hugepages-2Mi", "divisor": "1Mi"}, "4"),
    ],
)
def test_resource_references_are_divided_and_rounded_up(selector, value):
    container = {
        "name": "c",
        "resources": {"limits": {"cpu": "600m", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "250m", "memory": "64Mi"}},
        "env": [{"name": "V", "valueFrom": {"resourceFieldRef": selector}}],
    }
    pod = make_pod(container, {"name": "other"})
    assert env_of(container, pod)["V"] == value


def test_a_missing_limit_defaults_to_the_pod_level_limit():
    container = {"name": "c", "env": [{"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]}
    pod = make_pod(container, resources={"limits": {"memory": "1Gi"}})
    assert env_of(container, pod)["V"] == str(1 << 30)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "gone", "key": "k"}}, 'configmap "gone" not found'),
        ({"secretKeyRef": {"name": "gone", "key": "k"}}, 'secret "gone" not found'),
        ({"configMapKeyRef": {"name": "settings", "key": "k"}}, "couldn't find key k in ConfigMap shop/settings"),
        ({"secretKeyRef": {"name": "login", "key": "k"}}, "couldn't find key k in Secret shop/login"),
        ({"secretKeyRef": {"name": "denied", "key": "k"}}, 'secrets "denied" is forbidden'),
        (
            {"secretKeyRef": {"name": "unread", "key": "k", "optional": True}},
            "failed to sync secret cache: timed out waiting for the condition",
        ),
        ({"fieldRef": {"fieldPath": "spec.other"}}, "unsupported fieldPath: spec.other"),
        ({"resourceFieldRef": {"resource": "limits.gpu"}}, "unsupported container resource : limits.gpu"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "nope"}}, "container nope not found"),
        ({"fileKeyRef": {"volumeName": "v", "path": "env", "key": "k"}}, "couldn't parse env file"),
    ],
)
def test_what_is_missing_stops_the_container_with_the_kubelets_words(source, message):
    container = {"name": "c", "env": [{"name": "V", "valueFrom": source}]}
    with pytest.raises(ContainerConfigError) as caught:
        env_of(container)
    assert (str(caught.value), caught.value.reason) == (message, "CreateContainerConfigError")


def test_missing_env_from_object_stops_the_container_unless_optional():
    container = {"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}
    with pytest.raises(ContainerConfigError, match='configmap "gone" not found'):
        env_of(container)
    optional = {"name": "c", "envFrom": [{"secretRef": {"name": "gone", "optional": True}}]}
    assert env_of(optional) == {}


def test_optional_keys_that_are_missing_leave_the_variable_out():
    sources = [
        {"configMapKeyRef": {"name": "gone", "key": "k", "optional": True}},
        {"secretKeyRef": {"name": "login", "key": "nope", "optional": True}},
    ]
    container = {"name": "c", "env": [{"name": f"V{i}", "valueFrom": s} for i, s in enumerate(sources)]}
    assert env_of(container) == {}


def test_a_variable_can_come_from_an_environment_file():
    reference = {"volumeName": "v", "path": "a/env", "key": "K"}
    container = {"name": "c", "env": [{"name": "V", "valueFrom": {"fileKeyRef": reference}}]}
    assert env_file_keys(container) == [("v", "a/env")]
    assert env_of(container, files={("v", "a/env"): "K='x y'\n"})["V"] == "x y"
    with pytest.raises(ContainerConfigError, match='environment variable key "K" not found in file "a/env"'):
        env_of(container, files={("v", "a/env"): "OTHER='1'\n"})


def test_command_and_arguments_are_expanded_from_the_whole_environment():
    container = {"name": "c", "command": ["/bin/$(A)", "$$(A)"], "args": ["$(NONE)", "$(B)$(A)"]}
    assert expand_command(container, [("A", "sh"), ("B", "x")]) == (["/bin/sh", "$(A)"], ["$(NONE)", "xsh"])
