"""Features: volumes of all kinds and the ways they are mounted."""

from __future__ import annotations

from tests.differential.grammar.draft import SLEEP, Draft
from tests.differential.grammar.registry import feature

LIST = "ls -lR {path} | sed -E 's/[A-Z][a-z]{{2}} +[0-9]+ +[0-9:]+ //; s/\\.\\.[0-9_.]+/..STAMP/g'"


def _show(draft: Draft, path: str, at: float = 2) -> None:
    """Names, modes, owners and contents of what is mounted."""
    draft.exec(at, "sh", "-c", LIST.format(path=path))
    draft.exec(at + 0.5, "sh", "-c", f"cd {path} && for f in *; do echo $f:; cat $f; done")


def _config(draft: Draft) -> None:
    draft.object("ConfigMap", "files", data={"a": "first\n", "b.txt": "second"}, binaryData={"c": "AAEC/w=="})
    draft.object("Secret", "keys", stringData={"key": "s3cret", "other": "x"})


@feature
def empty_dir(draft: Draft) -> None:
    source = draft.random.choice(({}, {"medium": "Memory"}, {"medium": "Memory", "sizeLimit": "1Mi"}))
    draft.volume("scratch", emptyDir=source)
    draft.mount("scratch", "/scratch")
    draft.exec(2, "sh", "-c", "ls -ld /scratch | cut -c1-10; df -T /scratch | tail -1 | awk '{print $2}' | grep tmpfs")


@feature
def shared_empty_dir(draft: Draft) -> None:
    draft.volume("shared", emptyDir={})
    draft.mount("shared", "/shared")
    peer = draft.add_container("peer", ["sh", "-c", "echo peer > /shared/f; exec sleep 3600"])
    draft.mount("shared", "/shared", peer)
    draft.exec(3, "cat", "/shared/f")


@feature
def empty_dir_limit(draft: Draft) -> None:
    draft.volume("small", emptyDir={"sizeLimit": "100Ki"})
    draft.mount("small", "/small")
    draft.main["command"] = ["sh", "-c", "head -c 5000000 /dev/zero > /small/f; exec sleep 3600"]
    draft.last(110)  # a kubelet looks at the sizes of volumes once a minute


@feature
def config_map_volume(draft: Draft) -> None:
    _config(draft)
    source: dict[str, object] = {"name": "files"}
    if draft.random.random() < 0.4:
        source["items"] = [{"key": "a", "path": "deep/er", "mode": 0o400}]
    if draft.random.random() < 0.3:
        source["defaultMode"] = 0o440
    draft.volume("files", configMap=source)
    draft.mount("files", "/files")
    _show(draft, "/files")


@feature
def config_map_without_the_key(draft: Draft) -> None:
    _config(draft)
    items = [{"key": "none", "path": "x"}]
    draft.volume("files", configMap={"name": "files", "items": items, "optional": draft.random.random() < 0.4})
    draft.mount("files", "/files")
    draft.last(12)


@feature
def secret_volume(draft: Draft) -> None:
    _config(draft)
    draft.volume("keys", secret={"secretName": "keys", "defaultMode": draft.random.choice((0o644, 0o400))})
    draft.mount("keys", "/keys", readOnly=draft.random.random() < 0.5)
    _show(draft, "/keys")


@feature
def absent_volume_object(draft: Draft) -> None:
    optional = draft.random.random() < 0.4
    if draft.random.random() < 0.5:
        draft.volume("absent", configMap={"name": "absent", "optional": optional})
    else:
        draft.volume("absent", secret={"secretName": "absent", "optional": optional})
    draft.mount("absent", "/absent")
    draft.last(14)


@feature
def object_that_comes_later(draft: Draft) -> None:
    draft.volume("later", configMap={"name": "later"})
    draft.mount("later", "/later")
    draft.act(3, "create", object={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {}})
    draft.last(20)


@feature
def downward_volume(draft: Draft) -> None:
    draft.annotate("note", 'x="1"')
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400},
    ]
    draft.main.setdefault("resources", {"limits": {"memory": "64Mi"}})
    source = {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}
    items.append({"path": "memory", "resourceFieldRef": source})
    draft.volume("downward", downwardAPI={"items": items})
    draft.mount("downward", "/downward")
    _show(draft, "/downward")


@feature
def projected_volume(draft: Draft) -> None:
    _config(draft)
    sources = [
        {"configMap": {"name": "files", "items": [{"key": "a", "path": "a"}]}},
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    draft.volume("all", projected={"sources": sources, "defaultMode": draft.random.choice((0o644, 0o400))})
    draft.mount("all", "/all")
    _show(draft, "/all")


@feature
def projected_token(draft: Draft) -> None:
    token = {"path": "token", "audience": "vault", "expirationSeconds": 600}
    draft.volume("token", projected={"sources": [{"serviceAccountToken": token}]})
    draft.mount("token", "/token")
    draft.exec(2, "sh", "-c", "ls -lL /token | cut -c1-10; tr -d '\\n' < /token/token | tr -cd . | wc -c")


@feature
def host_path(draft: Draft) -> None:
    path, kind = draft.random.choice(
        (
            ("/made/by/pod", "DirectoryOrCreate"),
            ("/made/file", "FileOrCreate"),
            ("/no/such", "Directory"),
            ("/no/such", "File"),
            ("/etc", "File"),
            ("/etc/passwd", "Directory"),
            ("/dev/null", "CharDevice"),
            ("/dev/null", "BlockDevice"),
            ("/no/such/socket", "Socket"),
            ("/no/such/unset", ""),
        )
    )
    draft.volume("host", hostPath={"path": path, "type": kind})
    draft.mount("host", "/host")
    draft.last(10)


@feature
def sub_path(draft: Draft) -> None:
    _config(draft)
    draft.volume("files", configMap={"name": "files"})
    draft.volume("scratch", emptyDir={})
    draft.mount("files", "/etc/one", subPath=draft.random.choice(("a", "none")))
    draft.mount("scratch", "/deep", subPath="made/here")
    draft.exec(2, "sh", "-c", "ls -ld /etc/one /deep | cut -c1-10; cat /etc/one")
    draft.last(10)


@feature
def sub_path_expression(draft: Draft) -> None:
    draft.env({"name": "PART", "value": draft.random.choice(("part", "../up", "/abs", "$(NONE)"))})
    draft.volume("scratch", emptyDir={})
    draft.mount("scratch", "/part", subPathExpr="$(PART)")
    draft.last(10)


@feature
def mount_propagation(draft: Draft) -> None:
    draft.volume("scratch", emptyDir={})
    draft.mount("scratch", "/scratch", mountPropagation=draft.random.choice(("None", "HostToContainer")))


@feature
def read_only_mount(draft: Draft) -> None:
    draft.volume("scratch", emptyDir={})
    fields = {"readOnly": True}
    if draft.random.random() < 0.5:
        fields["recursiveReadOnly"] = draft.random.choice(("Disabled", "IfPossible", "Enabled"))
    draft.mount("scratch", "/scratch", **fields)
    draft.exec(2, "sh", "-c", "touch /scratch/f; echo $?")
    draft.last(10)


@feature
def volume_over_volume(draft: Draft) -> None:
    _config(draft)
    draft.volume("outer", emptyDir={})
    draft.volume("inner", secret={"secretName": "keys"})
    draft.mount("inner", "/outer/inner")
    draft.mount("outer", "/outer")
    draft.exec(2, "sh", "-c", "ls /outer /outer/inner")


@feature
def unused_volume(draft: Draft) -> None:
    draft.volume("unused", emptyDir={})
    draft.add_container("bare", SLEEP)


@feature
def unused_absent_volume(draft: Draft) -> None:
    draft.volume("unused", secret={"secretName": "absent"})
    draft.last(12)
