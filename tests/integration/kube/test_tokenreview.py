"""The API server says whose a token is, with the provider's own rights."""

from __future__ import annotations

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.test_references import kubectl, make_pod
from vk_provider.kube.tokenreview import TokenReviewer

AUDIENCE = "pods.eks.amazonaws.com"


async def issue(provider: Provider, namespace: str, pod: str, audience: str = AUDIENCE) -> str:
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", pod) if pod else ()
    made = await kubectl(provider, "create", "token", "default", "-n", namespace, "--audience", audience, *bound)
    return made.strip()


async def test_a_bound_token_names_its_pod_and_any_other_none(provider: Provider, namespace: str) -> None:
    reviewer = TokenReviewer(provider.client)
    pod = await make_pod(provider, namespace, "p")
    own = await issue(provider, namespace, "p")
    assert await reviewer.find_pod(own, AUDIENCE) == pod["metadata"]["uid"]
    head, claims, signature = own.split(".")
    assert await reviewer.find_pod(f"{head}.{claims}.{signature[::-1]}", AUDIENCE) == ""
    assert await reviewer.find_pod(await issue(provider, namespace, "p", "sts.amazonaws.com"), AUDIENCE) == ""
    assert await reviewer.find_pod(await issue(provider, namespace, ""), AUDIENCE) == ""
    later = await issue(provider, namespace, "p")  # of the other one, the API server knows the answer for ten seconds
    await kubectl(provider, "delete", "pod", "p", "-n", namespace, "--force", "--grace-period=0")
    assert await reviewer.find_pod(later, AUDIENCE) == "", "a token ends with its pod"
    check_allowed(provider)
