"""Authentication, authorization and their caches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from vk_provider.errors import KubeApiError
from vk_provider.kubelet.access import auth as auth_module
from vk_provider.kubelet.access.attributes import find_subresources, find_verb
from vk_provider.kubelet.access.auth import (
    Authenticator,
    AuthFilter,
    Authorizer,
    User,
    has_expired,
    parse_certificate_user,
)

PATHS = {
    "/attach/ns/pod/c": ["proxy"],
    "/attach/ns/pod/uid/c": ["proxy"],
    "/checkpoint/ns/pod/c": ["checkpoint"],
    "/configz": ["configz", "proxy"],
    "/flagz": ["configz"],
    "/statusz": ["statusz"],
    "/containerLogs/ns/pod/c": ["proxy"],
    "/debug/flags/v": ["proxy"],
    "/debug/pprof/heap": ["proxy"],
    "/exec/ns/pod/c": ["proxy"],
    "/exec/ns/pod/uid/c": ["proxy"],
    "/healthz": ["healthz", "proxy"],
    "/healthz/log": ["healthz", "proxy"],
    "/healthz/ping": ["healthz", "proxy"],
    "/healthz/syncloop": ["healthz", "proxy"],
    "/healthzilla": ["proxy"],
    "/logs/": ["log"],
    "/logs/a/b": ["log"],
    "/metrics": ["metrics"],
    "/metrics/slis": ["metrics"],
    "/metrics/cadvisor": ["metrics"],
    "/metrics/probes": ["metrics"],
    "/metrics/resource": ["metrics"],
    "/pods": ["pods", "proxy"],
    "/pods/": ["pods", "proxy"],
    "/podsy": ["proxy"],
    "/portForward/ns/pod": ["proxy"],
    "/portForward/ns/pod/uid": ["proxy"],
    "/run/ns/pod/c": ["proxy"],
    "/run/ns/pod/uid/c": ["proxy"],
    "/runningpods/": ["pods", "proxy"],
    "/stats/": ["stats"],
    "/stats/summary": ["stats"],
    "/": ["proxy"],
}


@pytest.mark.parametrize(("path", "subresources"), PATHS.items())
def test_a_path_asks_for_its_subresources(path: str, subresources: list[str]) -> None:
    assert find_subresources(path) == subresources


def test_methods_are_api_verbs() -> None:
    methods = ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    assert [find_verb(method) for method in methods] == ["create", "get", "update", "patch", "delete", "", ""]


def test_a_certificate_names_user_and_groups() -> None:
    certificate = {
        "subject": ((("organizationName", "a"),), (("organizationName", "b"), ("commonName", "system:admin")))
    }
    user = parse_certificate_user(certificate, b"der")
    assert user is not None
    assert (user.name, user.groups) == ("system:admin", ("a", "b", "system:authenticated"))
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    assert parse_certificate_user({"subject": ((("organizationName", "a"),),)}, b"") is None


def test_a_certificate_counts_until_its_end_however_long_the_connection_lives() -> None:
    certificate = {"notAfter": "Jan  2 03:04:05 2026 GMT"}
    end = 1767323045
    assert not has_expired(certificate, end)
    assert has_expired(certificate, end + 1)


class Reviews:
    """Answers reviews: `tokens` maps a token to its user, `allowed` holds (user, subresource)."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {}
        self.allowed: set[tuple[str, str]] = set()
        self.calls: list[dict[str, Any]] = []
        self.error: KubeApiError | None = None
        self.failures = 0
        self.failed = asyncio.Event()

    async def create(self, path: str, body: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        self.calls.append(body)
        await asyncio.sleep(0)
        if self.error is not None:
            self.failures += 1
            self.failed.set()
            raise self.error
        spec = body["spec"]
        if path.endswith("tokenreviews"):
            user = self.tokens.get(spec["token"])
            return {"status": {"authenticated": user is not None, "user": user}}
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        allowed = (spec["user"], spec["resourceAttributes"]["subresource"]) in self.allowed
        return {"status": {"allowed": allowed}}


@pytest.fixture
def reviews(monkeypatch: pytest.MonkeyPatch) -> Reviews:
    monkeypatch.setattr(auth_module, "REVIEW_RETRY_S", 0.001)
    return Reviews()


@pytest.fixture
def auth(reviews: Reviews) -> AuthFilter:
    return AuthFilter(Authenticator(reviews), Authorizer(reviews), "node-1")


def ask(path: str, token: str = "", method: str = "GET") -> Any:
    return make_mocked_request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})


async def test_nobody_is_anonymous(auth: AuthFilter, reviews: Reviews) -> None:
    refusal = await auth.refuse(ask("/healthz"))
    assert refusal is not None and (refusal.status, refusal.text) == (401, "Unauthorized")
    assert reviews.calls == []


async def test_an_unknown_token_is_reviewed_once_and_refused(auth: AuthFilter, reviews: Reviews) -> None:
    for _ in range(2):
        refusal = await auth.refuse(ask("/healthz", "nonsense"))
        assert refusal is not None and refusal.status == 401
    assert len(reviews.calls) == 1


async def test_equal_questions_in_flight_are_asked_once(auth: AuthFilter, reviews: Reviews) -> None:
    reviews.tokens["t"] = {"username": "sa", "groups": ["g"], "uid": "u", "extra": {"k": ["v"]}}
    reviews.allowed.add(("sa", "metrics"))
    assert await asyncio.gather(*(auth.refuse(ask("/metrics/resource", "t")) for _ in range(20))) == [None] * 20
    token_review, access_review = reviews.calls
    assert token_review["spec"] == {"token": "t"}
    assert access_review["spec"] == {
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "metrics",
            "name": "node-1",
        },
        "user": "sa",
        "groups": ["g", "system:authenticated"],
        "uid": "u",
        "extra": {"k": ["v"]},
    }


async def test_the_general_subresource_is_enough(auth: AuthFilter, reviews: Reviews) -> None:
    reviews.tokens["t"] = {"username": "admin"}
    reviews.allowed.add(("admin", "proxy"))
    assert await auth.refuse(ask("/pods", "t")) is None
    assert [call["spec"]["resourceAttributes"]["subresource"] for call in reviews.calls[1:]] == ["pods", "proxy"]


async def test_a_refusal_says_who_asked_for_what(auth: AuthFilter, reviews: Reviews) -> None:
    reviews.tokens["t"] = {"username": "eve"}
    refusal = await auth.refuse(ask("/pods", "t", "DELETE"))
    assert refusal is not None and refusal.status == 403
    assert refusal.text == "Forbidden (user=eve, verb=delete, resource=nodes, subresource(s)=[pods proxy])\n"


async def test_errors_of_the_api_server_let_nobody_in(auth: AuthFilter, reviews: Reviews) -> None:
    reviews.tokens["t"] = {"username": "sa"}
    reviews.error = KubeApiError(500, "InternalError", "down")
    refusal = await auth.refuse(ask("/pods", "t"))
    assert refusal is not None and refusal.status == 401
    reviews.error = None
    await auth.refuse(ask("/metrics", "t"))
    reviews.error = KubeApiError(500, "InternalError", "down")
    refusal = await auth.refuse(ask("/pods", "t"))
    assert refusal is not None and refusal.status == 500
    assert refusal.text == "Authorization error (user=sa, verb=get, resource=nodes, subresource=pods)"


async def test_a_lost_connection_is_given_time(auth: AuthFilter, reviews: Reviews) -> None:
    reviews.tokens["t"] = {"username": "sa"}
    reviews.allowed.add(("sa", "metrics"))
    reviews.error = KubeApiError(0, "Unreachable", "connection to the API server was lost")
    asked = asyncio.create_task(auth.refuse(ask("/metrics", "t")))
    await reviews.failed.wait()
    reviews.error = None
    assert await asked is None


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (KubeApiError(0, "Unreachable", "lost"), 5),
        (KubeApiError(503, "ServiceUnavailable", "starting"), 5),
        (KubeApiError(0, "Timeout", "no answer within 30 s"), 1),
        (KubeApiError(403, "Forbidden", "may not review"), 1),
    ],
)
async def test_only_what_may_pass_is_asked_again(
    auth: AuthFilter, reviews: Reviews, error: KubeApiError, tries: int
) -> None:
    reviews.error = error
    refusal = await auth.refuse(ask("/metrics", "t"))
    assert refusal is not None and refusal.status == 401
    assert reviews.failures == tries


async def test_questions_that_wait_have_a_bound_and_the_rest_is_refused_at_once(
    reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet answers 401 when a token cannot be reviewed, and 500 when an access cannot."""
    monkeypatch.setattr(auth_module, "REVIEWS_WAITING", 3)
    reviews.tokens["t"] = {"username": "admin"}
    may_answer = asyncio.Event()
    create = reviews.create

    async def slow(path: str, body: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
        if body["spec"].get("token") != "t":
            await may_answer.wait()
        return await create(path, body, timeout_s)

    monkeypatch.setattr(reviews, "create", slow)
    auth = AuthFilter(Authenticator(reviews), Authorizer(reviews), "node-1")
    questions = (
        (500, [ask(path, "t") for path in ("/metrics", "/stats/", "/logs/", "/run/")]),
        (401, [ask("/pods", f"bad{number}") for number in range(4)]),
    )
    tasks = list[asyncio.Task[Any]]()
    for refusal, requests in questions:
        asked = [asyncio.create_task(auth.refuse(request)) for request in requests]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status for task in done] == [refusal] and len(waiting) == 3
        tasks += asked
    may_answer.set()
    await asyncio.gather(*tasks)


async def test_a_caller_that_hangs_up_does_not_cancel_the_others(reviews: Reviews) -> None:
    authorizer = Authorizer(reviews)
    reviews.allowed.add(("u", "log"))
    first = asyncio.create_task(authorizer.is_allowed(User("u"), "get", "n", "log"))
    second = asyncio.create_task(authorizer.is_allowed(User("u"), "get", "n", "log"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is True
    assert len(reviews.calls) == 1
