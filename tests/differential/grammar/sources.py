"""Features: what volumes and variables are made of, beside those of `volumes`: much of it not on every node."""

from __future__ import annotations

from tests.differential.grammar.draft import BUSYBOX, MISSING, SLEEP, Draft, shell
from tests.differential.grammar.registry import feature


@feature
def image_volume(draft: Draft) -> None:
    draft.volume("tree", image={"reference": draft.random.choice((BUSYBOX, MISSING)), "pullPolicy": "IfNotPresent"})
    draft.mount("tree", "/tree")
    draft.last(14)


@feature
def claimed_volume(draft: Draft) -> None:
    """Of a claim that is absent, seen by the scheduler or by the node alone."""
    if draft.random.random() < 0.5:
        draft.spec["nodeName"] = ""
    draft.volume("claimed", persistentVolumeClaim={"claimName": "absent"})
    draft.mount("claimed", "/claimed")
    draft.last(12)


@feature
def ephemeral_volume(draft: Draft) -> None:
    if draft.random.random() < 0.5:
        draft.spec["nodeName"] = ""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    draft.volume("passing", ephemeral={"volumeClaimTemplate": {"spec": claim}})
    draft.mount("passing", "/passing")
    draft.last(12)


@feature
def csi_volume(draft: Draft) -> None:
    draft.volume("driven", csi={"driver": "absent.example.com"})
    draft.mount("driven", "/driven")
    draft.last(12)


@feature
def trust_bundle(draft: Draft) -> None:
    bundle: dict[str, object] = {"name": "absent", "path": "ca.pem", "optional": draft.random.random() < 0.6}
    if draft.random.random() < 0.4:
        bundle = {**bundle, "signerName": "example.com/none", "labelSelector": {}}
        del bundle["name"]
    draft.volume("trust", projected={"sources": [{"clusterTrustBundle": bundle}]})
    draft.mount("trust", "/trust")
    draft.exec(2, "ls", "/trust")
    draft.last(12)


@feature
def pod_certificate(draft: Draft) -> None:
    """Of a signer that nobody is."""
    source: dict[str, object] = {"signerName": "example.com/none", "keyType": "ED25519"}
    if draft.random.random() < 0.5:
        source["credentialBundlePath"] = "bundle.pem"
    else:
        source |= {"keyPath": "key.pem", "certificateChainPath": "chain.pem", "maxExpirationSeconds": 3600}
    draft.volume("proof", projected={"sources": [{"podCertificate": source}]})
    draft.mount("proof", "/proof")
    draft.last(12)


@feature
def variable_of_a_file(draft: Draft) -> None:
    draft.volume("told", emptyDir={})
    writer = draft.add_init("init", shell("printf \"WORD='told by init'\\nOTHER='x'\\n\" > /told/env"))
    draft.mount("told", "/told", writer)
    key = {"volumeName": "told", "path": draft.random.choice(("env", "env", "none")), "key": "WORD"}
    if draft.random.random() < 0.4:
        key |= {"key": "NONE", "optional": draft.random.random() < 0.5}
    draft.env({"name": "TOLD", "valueFrom": {"fileKeyRef": key}})
    draft.exec(3, "sh", "-c", "echo $TOLD")
    draft.last(12)


@feature
def optional_environment(draft: Draft) -> None:
    draft.main["envFrom"] = [
        {"prefix": "P_", "configMapRef": {"name": "absent", "optional": True}},
        {"secretRef": {"name": "absent", "optional": True}},
    ]
    draft.add_container("peer", SLEEP)


@feature
def chosen_keys(draft: Draft) -> None:
    """Some of a Secret, and of what may be absent."""
    draft.object("Secret", "chosen", stringData={"a": "first", "b": "second"})
    items = [{"key": "b", "path": "deep/b", "mode": 0o400}]
    draft.volume("chosen", secret={"secretName": "chosen", "items": items})
    draft.mount("chosen", "/chosen")
    absent = {"name": "absent", "optional": draft.random.random() < 0.7}
    sources = [{"secret": {"name": "chosen", "items": items}}, {"configMap": absent}, {"secret": absent}]
    draft.volume("mixed", projected={"sources": sources})
    draft.mount("mixed", "/mixed")
    draft.exec(2, "sh", "-c", "cat /chosen/deep/b /mixed/deep/b; ls /chosen /mixed")
    draft.last(12)


@feature
def downward_modes(draft: Draft) -> None:
    items = [{"path": "uid", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]
    mode = draft.random.choice((0o400, 0o644))
    draft.volume("modes", downwardAPI={"defaultMode": mode, "items": items})
    draft.mount("modes", "/modes")
    draft.exec(2, "sh", "-c", "ls -lL /modes | cut -c1-10; cat /modes/uid")


@feature
def optional_variable(draft: Draft) -> None:
    key = {"name": "absent", "key": "k", "optional": draft.random.random() < 0.7}
    draft.env({"name": "MAYBE", "valueFrom": {"configMapKeyRef": key}})
    draft.exec(2, "sh", "-c", "echo [$MAYBE]")
    draft.last(12)
