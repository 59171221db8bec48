from tests.unit.podmodel.builders import make_pod
from vk_provider.podmodel.references import find_references, trust_bundle_key


def test_every_kind_of_reference_is_found():
    bundle = {"signerName": "x/y", "labelSelector": {"matchLabels": {"b": "1", "a": "2"}}, "path": "ca"}
    pod = make_pod(
        {
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "cm1"}}, {"secretRef": {"name": "s1"}}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm2", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
                {"name": "C", "value": "x"},
            ],
        },
        initContainers=[{"name": "i", "envFrom": [{"configMapRef": {"name": "cm3"}}]}],
        ephemeralContainers=[{"name": "e", "envFrom": [{"secretRef": {"name": "s3"}}]}],
        volumes=[
            {"name": "v1", "configMap": {"name": "cm4"}},
            {"name": "v2", "secret": {"secretName": "s4"}},
            {
                "name": "v3",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "cm5"}},
                        {"secret": {"name": "s5"}},
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {"serviceAccountToken": {"path": "t2", "audience": "vault"}},
                        {"clusterTrustBundle": {"name": "roots", "path": "r"}},
                        {"clusterTrustBundle": bundle},
                        {"podCertificate": {"signerName": "x/y", "keyType": "ECDSAP256"}},
                    ]
                },
            },
            {"name": "v4", "emptyDir": {}},
        ],
        imagePullSecrets=[{"name": "pull"}, {"name": "pull"}, {}],
        serviceAccountName="robot",
        runtimeClassName="gvisor",
    )
    found = find_references(pod)
    assert found.config_maps == {"cm1", "cm2", "cm3", "cm4", "cm5"}
    assert found.secrets == {"s1", "s2", "s3", "s4", "s5", "pull"}
    assert found.tokens == {("", 3607), ("vault", 3600)}
    assert found.image_pull_secrets == ("pull",)
    assert (found.service_account, found.runtime_class) == ("robot", "gvisor")
    keys = {reference.key: reference for reference in found.trust_bundles}
    assert set(keys) == {"name/roots", 'signer/x/y/{"matchLabels":{"a":"2","b":"1"}}'}
    assert keys[trust_bundle_key(bundle)].label_selector == bundle["labelSelector"]
    assert [each.key for each in found.pod_certificates] == ["v3/6"]


def test_a_bare_pod_refers_to_nothing_but_its_service_account():
    found = find_references(make_pod())
    assert found.service_account == "default"
    assert not (found.config_maps or found.secrets or found.tokens or found.trust_bundles or found.pod_certificates)
