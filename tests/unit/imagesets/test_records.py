"""Who may have an image without asking the registry, and what a pod needs."""

from __future__ import annotations

from tests.unit.agent.worker.builders import container, pod
from vk_provider.imagesets.imageset import PinnedImage
from vk_provider.imagesets.need import find_need
from vk_provider.imagesets.records import ANONYMOUS, PullRecords, fingerprint
from vk_provider.podmodel.images import RegistryCredential

IMAGE = PinnedImage("registry.example:5000/a/b:1", "sha256:" + "1" * 64)
SALT = b"salt"


def test_a_record_counts_for_the_credentials_that_the_registry_accepted_alone() -> None:
    records = PullRecords()
    mine = fingerprint(RegistryCredential(username="me", password="right"), SALT)
    wrong = fingerprint(RegistryCredential(username="me", password="wrong"), SALT)
    records.add(IMAGE, mine)
    assert records.allows(IMAGE, [wrong, mine])
    assert not records.allows(IMAGE, [wrong]) and not records.allows(IMAGE, [])


def test_an_image_without_a_password_is_everybodys() -> None:
    records = PullRecords()
    records.add(IMAGE, ANONYMOUS)
    assert records.allows(IMAGE, []) and records.allows(IMAGE, ["whatever"])


def test_a_record_is_of_one_digest_in_one_repository_under_any_tag() -> None:
    records = PullRecords()
    records.add(IMAGE, ANONYMOUS)
    assert records.allows(PinnedImage("registry.example:5000/a/b:2", IMAGE.digest), [])
    assert records.allows(PinnedImage(f"registry.example:5000/a/b@{IMAGE.digest}", IMAGE.digest), [])
    assert not records.allows(PinnedImage("registry.example:5000/a/c:1", IMAGE.digest), [])
    assert not records.allows(PinnedImage(IMAGE.reference, "sha256:" + "2" * 64), [])


def test_fingerprints_tell_the_parts_of_a_credential_apart() -> None:
    credentials = [
        RegistryCredential(username="ab", password="c"),
        RegistryCredential(username="a", password="bc"),
        RegistryCredential(identity_token="ab"),
        RegistryCredential(registry_token="ab"),
        RegistryCredential(username="ab", password="c", server="registry.example"),
    ]
    assert len({fingerprint(each, SALT) for each in credentials}) == len(credentials)
    assert fingerprint(credentials[0], SALT) != fingerprint(credentials[0], b"other")


def test_records_are_bounded() -> None:
    records = PullRecords(max_images=2, max_credentials=2)
    for digit in "123":
        records.add(PinnedImage(IMAGE.reference, "sha256:" + digit * 64), ANONYMOUS)
    assert len(records) == 2 and not records.allows(IMAGE, [])
    for credential in "abc":
        records.add(IMAGE, credential)
    assert not records.allows(IMAGE, ["a"]) and records.allows(IMAGE, ["b"]) and records.allows(IMAGE, ["c"])


def test_a_pod_needs_the_images_of_containers_init_containers_and_volumes() -> None:
    spec = pod(
        container("main", image="nginx", imagePullPolicy="IfNotPresent"),
        container("never", image="registry.example/x:1", imagePullPolicy="Never"),
        initContainers=[container("init", image="registry.example/x:1", imagePullPolicy="Always")],
        volumes=[{"name": "v", "image": {"reference": "registry.example/v:2", "pullPolicy": "Never"}}],
    )
    need = find_need(spec)
    assert need.references == {
        "docker.io/library/nginx:latest",
        "registry.example/x:1",
        "registry.example/v:2",
    }
    assert need.never_pulled == {"registry.example/v:2"}


def test_an_image_name_that_cannot_be_read_is_left_to_the_agent() -> None:
    assert find_need(pod(container("main", image="NOT VALID"))).references == frozenset()
