import pytest

from tests.unit.podmodel.builders import CONTEXT, b64, make_pod
from vk_provider.podmodel.errors import MissingReferenceError
from vk_provider.podmodel.projection import ProjectedFile, build_volume_files

REFERENCES = {
    "configMaps": {"cm": {"data": {"a": "1", "b": "2"}, "binaryData": {"bin": b64(b"\x00\xff")}}, "gone": None},
    "secrets": {"s": {"data": {"k": b64("v"), "l": b64("w")}}, "gone": None},
    "tokens": {"|3607": {"token": "jwt", "expirationTimestamp": ""}},
    "trustBundles": {"name/roots": "PEM\n"},
    "podCertificates": {"v/0": {"key": "KEY\n", "certificateChain": "CHAIN\n"}},
    "errors": {"token/vault|3600": "denied"},
}


def files_of(source, pod=None, references=None):
    return build_volume_files({"name": "v", **source}, pod or make_pod(), references or REFERENCES, CONTEXT)


def data_of(files):
    return {path: file.data for path, file in files.items()}


def projected(*sources, **more):
    return {"projected": {"sources": list(sources), **more}}


def test_a_config_map_gives_a_file_for_each_key():
    files = files_of({"configMap": {"name": "cm", "defaultMode": 0o400}})
    assert data_of(files) == {"a": b"1", "b": b"2", "bin": b"\x00\xff"}
    assert {file.mode for file in files.values()} == {0o400}


def test_items_choose_paths_and_modes():
    items = [{"key": "a", "path": "x/y", "mode": 0o600}, {"key": "bin", "path": "z"}]
    assert files_of({"configMap": {"name": "cm", "items": items}}) == {
        "x/y": ProjectedFile(b"1", 0o600),
        "z": ProjectedFile(b"\x00\xff", 0o644),
    }


def test_a_secret_is_decoded():
    assert data_of(files_of({"secret": {"secretName": "s"}})) == {"k": b"v", "l": b"w"}
    assert "b'v'" not in repr(files_of({"secret": {"secretName": "s"}}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "q", "path": "q"}]}},
            "configmap references non-existent config key: q",
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "q", "path": "q"}]}},
            "references non-existent secret key: q",
        ),
        (projected({"serviceAccountToken": {"path": "t", "audience": "vault"}}), "failed to fetch token: denied"),
        (
            projected({"clusterTrustBundle": {"signerName": "x/y", "path": "p"}}),
            "combination of signerName and labelSelector matched zero ClusterTrustBundles",
        ),
        (
            projected({"clusterTrustBundle": {"name": "nope", "path": "p"}}),
            'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "nope" not found',
        ),
        (
            projected({"secret": {"name": "gone"}}, {"configMap": {"name": "gone"}}),
            '[secret "gone" not found, configmap "gone" not found]',
        ),
        (
            {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "spec.x"}}]}},
            "unsupported fieldPath: spec.x",
        ),
    ],
)
def test_what_is_missing_is_told_in_the_kubelets_words(source, message):
    with pytest.raises(MissingReferenceError) as caught:
        files_of(source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "source",
    [
        {"configMap": {"name": "gone", "optional": True}},
        {"secret": {"secretName": "gone", "optional": True}},
        {"secret": {"secretName": "s", "optional": True, "items": [{"key": "q", "path": "q"}]}},
        projected({"configMap": {"name": "gone", "optional": True}}),
    ],
)
def test_optional_sources_that_are_missing_give_no_files(source):
    assert files_of(source) == {}


def test_optional_does_not_forgive_an_object_that_was_not_read_yet():
    with pytest.raises(MissingReferenceError, match="failed to sync secret cache"):
        files_of({"secret": {"secretName": "unread", "optional": True}})


def test_the_downward_api_writes_labels_annotations_and_resources():
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "./one", "fieldRef": {"fieldPath": "metadata.annotations['note']"}, "mode": 0o400},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
        {"path": "mem", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}},
    ]
    metadata = {"labels": {"b": 'say "hi"\n', "a": "ü"}, "annotations": {"note": "n"}}
    pod = make_pod({"name": "c", "resources": {"limits": {"cpu": "1250m"}}}, metadata=metadata)
    files = files_of({"downwardAPI": {"items": items}}, pod)
    assert files["labels"].data.decode() == 'a="ü"\nb="say \\"hi\\"\\n"'
    assert files["one"] == ProjectedFile(b"n", 0o400)
    assert files["cpu"].data == b"1250" and files["mem"].data == str(4 << 30).encode()


def test_a_projected_volume_merges_its_sources_and_later_ones_win():
    files = files_of(
        projected(
            {"configMap": {"name": "cm", "items": [{"key": "a", "path": "same"}]}},
            {"secret": {"name": "s", "items": [{"key": "k", "path": "same"}, {"key": "l", "path": "d/l"}]}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"clusterTrustBundle": {"name": "roots", "path": "ca.pem"}},
            defaultMode=0o640,
        )
    )
    assert data_of(files) == {"same": b"v", "d/l": b"w", "ns": b"shop", "token": b"jwt", "ca.pem": b"PEM\n"}
    assert {file.mode for file in files.values()} == {0o640}


TOKEN = projected({"serviceAccountToken": {"path": "t", "expirationSeconds": 3607}}, defaultMode=0o644)


@pytest.mark.parametrize(
    ("spec", "mode", "owner"),
    [
        ({}, 0o644, None),
        ({"securityContext": {"runAsUser": 7}}, 0o600, 7),
        ({"securityContext": {"fsGroup": 9}}, 0o600, None),
        ({"securityContext": {"fsGroup": 9, "runAsUser": 7}}, 0o600, 7),
    ],
)
def test_a_token_is_private_when_its_reader_is_known(spec, mode, owner):
    file = files_of(TOKEN, make_pod(**spec))["t"]
    assert (file.mode, file.owner_uid) == (mode, owner)


def test_an_optional_trust_bundle_without_content_is_an_empty_file():
    source = projected({"clusterTrustBundle": {"name": "nope", "path": "ca", "optional": True}})
    assert data_of(files_of(source)) == {"ca": b""}


def test_a_pod_certificate_is_written_as_bundle_or_in_parts():
    source = {"credentialBundlePath": "both", "keyPath": "key", "certificateChainPath": "chain"}
    files = files_of(projected({"podCertificate": source}))
    assert data_of(files) == {"both": b"KEY\nCHAIN\n", "key": b"KEY\n", "chain": b"CHAIN\n"}
