"""Features: environment, downward API, network, names, security, resources, priority."""

from __future__ import annotations

from tests.differential.grammar.draft import AGNHOST, BUSYBOX, SLEEP, Draft, shell
from tests.differential.grammar.registry import feature

POD_FIELDS = (
    "metadata.name",
    "metadata.uid",
    "metadata.labels['app']",
    "metadata.annotations['note']",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.podIP",
    "status.podIPs",
    "status.hostIP",
)
QUANTITIES = ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "limits.ephemeral-storage")


@feature
def environment(draft: Draft) -> None:
    entries = (
        {"name": "A", "value": "plain"},
        {"name": "B", "value": "[$(A)] [$(NONE)] [$$(A)]"},
        {"name": "A", "value": "again"},
        {"name": "1-odd.name", "value": ""},
    )
    draft.env(*entries)
    draft.exec(2, "sh", "-c", "env | sort | grep -v -e KUBERNETES -e HOSTNAME")


@feature
def environment_from_fields(draft: Draft) -> None:
    draft.annotate("note", 'with "quotes"\nand a line')
    chosen = draft.random.sample(POD_FIELDS, 4)
    for number, path in enumerate(chosen):
        draft.env({"name": f"F{number}", "valueFrom": {"fieldRef": {"fieldPath": path}}})
    draft.exec(2, "sh", "-c", "env | sort | grep ^F")


@feature
def environment_from_resources(draft: Draft) -> None:
    draft.main["resources"] = {
        "requests": {"cpu": "10m", "memory": "16Mi"},
        "limits": {"cpu": "100m", "memory": "64Mi"},  # without one it would be what the machine has
    }
    for number, name in enumerate(draft.random.sample(QUANTITIES[:4], 2)):
        divisor = "1m" if name.endswith("cpu") else draft.random.choice(("1", "1Mi"))
        source = {"resource": name, "divisor": divisor}
        draft.env({"name": f"R{number}", "valueFrom": {"resourceFieldRef": source}})
    draft.exec(2, "sh", "-c", "env | sort | grep ^R[0-9]")


def _config(draft: Draft) -> None:
    draft.object("ConfigMap", "settings", data={"one": "1", "two": "2\nlines\n", "odd-key.x": "odd"})
    draft.object("Secret", "hidden", stringData={"user": "admin", "word": "pass word"})


@feature
def environment_from_objects(draft: Draft) -> None:
    _config(draft)
    draft.main.setdefault("envFrom", []).extend(
        [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "hidden"}}]
    )
    draft.env({"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "one"}}})
    draft.exec(2, "sh", "-c", "env | sort | grep -v -e KUBERNETES -e HOSTNAME")


@feature
def environment_from_nothing(draft: Draft) -> None:
    _config(draft)
    source = draft.random.choice(
        (
            {"configMapKeyRef": {"name": "settings", "key": "none"}},
            {"configMapKeyRef": {"name": "absent", "key": "x"}},
            {"secretKeyRef": {"name": "absent", "key": "x"}},
            {"secretKeyRef": {"name": "hidden", "key": "none", "optional": True}},
            {"secretKeyRef": {"name": "absent", "key": "x", "optional": True}},
        )
    )
    draft.env({"name": "E", "valueFrom": source})
    draft.last(12)


@feature
def environment_from_absent_object(draft: Draft) -> None:
    kind = draft.random.choice(("configMapRef", "secretRef"))
    draft.main.setdefault("envFrom", []).append({kind: {"name": "absent"}})
    draft.last(12)


@feature
def command_with_variables(draft: Draft) -> None:
    draft.env({"name": "WORD", "value": "spoken"})
    draft.main["command"] = ["sh", "-c", "echo $0 $1; exec sleep 3600"]
    draft.main["args"] = ["$(WORD)", "$(NONE)"]
    draft.act(3, "logs", container="main")


@feature
def no_service_links(draft: Draft) -> None:
    draft.spec["enableServiceLinks"] = False
    draft.exec(2, "sh", "-c", "env | sort | cut -d= -f1")


@feature
def names(draft: Draft) -> None:
    draft.spec["hostname"] = "called"
    if draft.random.random() < 0.6:
        draft.spec["subdomain"] = "sub"
        draft.spec["setHostnameAsFQDN"] = draft.random.random() < 0.5
    draft.exec(2, "sh", "-c", "hostname; cat /etc/hosts /etc/hostname")


@feature
def hostname_override(draft: Draft) -> None:
    draft.spec["hostnameOverride"] = "overridden.example.com"
    draft.exec(2, "sh", "-c", "hostname; cat /etc/hosts")


@feature
def host_aliases(draft: Draft) -> None:
    draft.spec["hostAliases"] = [{"ip": "192.0.2.7", "hostnames": ["seven", "sieben"]}]
    draft.exec(2, "cat", "/etc/hosts")


@feature
def dns(draft: Draft) -> None:
    draft.spec["dnsPolicy"] = draft.random.choice(("Default", "ClusterFirst", "None", "ClusterFirstWithHostNet"))
    if draft.spec["dnsPolicy"] == "None" or draft.random.random() < 0.5:
        options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
        draft.spec["dnsConfig"] = {"nameservers": ["192.0.2.53"], "searches": ["example.com"], "options": options}
    draft.exec(2, "cat", "/etc/resolv.conf")


@feature
def host_network(draft: Draft) -> None:
    draft.spec["hostNetwork"] = True


@feature
def host_namespaces(draft: Draft) -> None:
    draft.spec[draft.random.choice(("hostPID", "hostIPC"))] = True


@feature
def shared_process_namespace(draft: Draft) -> None:
    draft.spec["shareProcessNamespace"] = True
    draft.add_container("peer", SLEEP)
    draft.exec(3, "sh", "-c", "ps -o comm,args | grep -v -e sort -e uniq -e grep | sort | uniq")


@feature
def ports(draft: Draft) -> None:
    draft.main["ports"] = [{"name": "web", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]


@feature
def pod_user(draft: Draft) -> None:
    draft.security(runAsUser=1000, runAsGroup=2000)
    if draft.random.random() < 0.5:
        draft.security(supplementalGroups=[3000, 4000])
    draft.exec(2, "id")


@feature
def run_as_non_root(draft: Draft) -> None:
    draft.main_security(runAsNonRoot=True)
    if draft.random.random() < 0.3:
        draft.main_security(runAsUser=draft.random.choice((0, 1000)))
    draft.last(12)


@feature
def fs_group(draft: Draft) -> None:
    draft.security(fsGroup=5000)
    if draft.random.random() < 0.5:
        draft.security(fsGroupChangePolicy=draft.random.choice(("Always", "OnRootMismatch")))
    draft.volume("owned", emptyDir={})
    draft.mount("owned", "/owned")
    draft.exec(2, "sh", "-c", "id; touch /owned/f; stat -c '%A %u %g %n' /owned /owned/f")


@feature
def capabilities(draft: Draft) -> None:
    choice = draft.random.choice(({"drop": ["ALL"]}, {"add": ["NET_ADMIN"]}, {"drop": ["CHOWN"], "add": ["SYS_TIME"]}))
    draft.main_security(capabilities=choice)
    draft.exec(2, "grep", "Cap", "/proc/self/status")


@feature
def privileges(draft: Draft) -> None:
    draft.main_security(allowPrivilegeEscalation=False)
    draft.exec(2, "grep", "-e", "NoNewPrivs", "-e", "Seccomp:", "/proc/self/status")


@feature
def read_only_root(draft: Draft) -> None:
    draft.main_security(readOnlyRootFilesystem=True)
    draft.exec(2, "sh", "-c", "touch /file; echo $?")


@feature
def seccomp(draft: Draft) -> None:
    profile = draft.random.choice(
        ({"type": "RuntimeDefault"}, {"type": "Unconfined"}, {"type": "Localhost", "localhostProfile": "absent.json"})
    )
    target = draft.random.choice((draft.security, draft.main_security))
    target(seccompProfile=profile)
    draft.exec(2, "grep", "Seccomp:", "/proc/self/status")
    draft.last(10)


@feature
def privileged(draft: Draft) -> None:
    draft.main_security(privileged=True)


@feature
def proc_mount(draft: Draft) -> None:
    draft.main_security(procMount="Default")
    draft.exec(2, "sh", "-c", "grep ' /proc' /proc/mounts | cut -d' ' -f2,3 | sort")


@feature
def sysctls(draft: Draft) -> None:
    name, value = draft.random.choice(
        (
            ("net.ipv4.ip_local_port_range", "1024 65535"),
            ("net.ipv4.tcp_syncookies", "0"),
            ("kernel.shm_rmid_forced", "1"),
            ("net.core.somaxconn", "100"),
        )
    )
    draft.security(sysctls=[{"name": name, "value": value}])
    draft.exec(2, "cat", f"/proc/sys/{name.replace('.', '/')}")
    draft.last(10)


@feature
def resources(draft: Draft) -> None:
    draft.main["resources"] = draft.random.choice(
        (
            {"requests": {"cpu": "10m"}},
            {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}},
            {"limits": {"cpu": "20m", "memory": "32Mi"}},
            {"limits": {"memory": "32Mi"}},
            {"requests": {"ephemeral-storage": "1Mi"}, "limits": {"ephemeral-storage": "64Mi"}},
        )
    )


@feature
def pod_level_resources(draft: Draft) -> None:
    draft.spec["resources"] = draft.random.choice(
        (
            {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
            {"requests": {"memory": "32Mi"}},
            {"limits": {"cpu": "100m"}},
        )
    )


@feature
def init_resources(draft: Draft) -> None:
    sizes = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "48Mi"}}
    draft.add_init("sized", shell("true"), resources=sizes)


@feature
def priority(draft: Draft) -> None:
    draft.spec["preemptionPolicy"] = "PreemptLowerPriority"
    draft.spec["priority"] = 0


@feature
def no_account_token(draft: Draft) -> None:
    draft.spec["automountServiceAccountToken"] = False
    draft.exec(2, "ls", "/var/run/secrets/kubernetes.io")


@feature
def account_token(draft: Draft) -> None:
    directory = "/var/run/secrets/kubernetes.io/serviceaccount"
    draft.exec(2, "sh", "-c", f"ls -l {directory} | cut -d' ' -f1-4; cat {directory}/namespace")


@feature
def absent_pull_secret(draft: Draft) -> None:
    draft.spec["imagePullSecrets"] = [{"name": "absent"}]
    draft.main["imagePullPolicy"] = draft.random.choice(("Always", "IfNotPresent"))


@feature
def app_armor_annotation(draft: Draft) -> None:
    draft.main.update(image=draft.random.choice((BUSYBOX, AGNHOST)), command=SLEEP)
    draft.annotate("container.apparmor.security.beta.kubernetes.io/main", "unconfined")


@feature
def topology_and_affinity(draft: Draft) -> None:
    term = {"labelSelector": {"matchLabels": {"app": "other"}}, "topologyKey": "kubernetes.io/hostname"}
    draft.spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    draft.spec["tolerations"] = [{"key": "x", "operator": "Exists"}]
