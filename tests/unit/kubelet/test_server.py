"""Status codes and bodies of every endpoint, over TLS."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from tests.unit.kubelet.rig import (
    ADMIN,
    AllowingReviews,
    CertificateAuthority,
    FakeArchive,
    FakeHandle,
    Rig,
    make_instance,
    make_pod,
    running_status,
)
from vk_provider.aiokit import filechanges
from vk_provider.errors import BadStartError
from vk_provider.kubelet.access.auth import Authenticator, AuthFilter, Authorizer
from vk_provider.kubelet.access.client_ca import ClientCaFile
from vk_provider.kubelet.api import KubeletApi
from vk_provider.kubelet.server import HealthServer, KubeletServer

UPGRADE = {**ADMIN, "Connection": "Upgrade", "Upgrade": "SPDY/3.1"}


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/healthz", 200, "ok"),
        ("POST", "/healthz/syncloop", 200, "ok"),
        ("GET", "/healthz?verbose", 200, "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"),
        ("POST", "/pods", 405, "Method Not Allowed"),
        ("POST", "/runningpods/", 405, "Method Not Allowed"),
        ("PUT", "/exec/ns/web/c", 405, "405: Method Not Allowed"),
        ("GET", "/stats", 404, "404: Page Not Found"),
        ("GET", "/nothing", 404, "404 page not found\n"),
        ("POST", "/checkpoint/ns/web/c", 404, "404 page not found\n"),
        ("GET", "/logs/", 405, "logs endpoint is disabled.\n"),
        ("GET", "/logs/a/b", 405, "logs endpoint is disabled.\n"),
        ("GET", "/debug/pprof/heap", 405, "profiling endpoint is disabled.\n"),
        ("PUT", "/debug/flags/v", 405, "flags endpoint is disabled.\n"),
        ("POST", "/containerLogs/ns/web/c", 405, "Method Not Allowed"),
        ("GET", "/containerLogs/ns/web/c?tailLines=x", 400, '{"message": "Unable to decode query."}'),
        ("GET", "/containerLogs/ns/web/c?tailLines=-1", 422, '{"message": "Invalid request."}'),
        ("GET", "/containerLogs/ns/other/c", 404, 'pod "other" does not exist'),
        ("GET", "/containerLogs/ns/web/x", 404, 'container "x" not found in pod "web"'),
        ("GET", "/containerLogs/ns/web/init", 400, 'container "init" in pod "web" is not available'),
        ("GET", "/containerLogs/ns/web/c", 200, "unable to retrieve container logs for containerd://abc"),
        (
            "GET",
            "/containerLogs/ns/web/c?stream=Stderr",
            400,
            'unable to return the given log stream: "Stderr". Please enable PodLogsQuerySplitStreams feature gate in '
            "kubelet",
        ),
        ("POST", "/exec/ns/web/c?command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("POST", "/exec/ns/web/c?command=x&error=1&tty=1", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("POST", "/exec/ns/other/c?output=1", 404, "pod does not exist"),
        ("POST", "/exec/ns/web/c?output=1", 500, 'container not found ("c")'),
        ("POST", "/exec/ns/web/uid-1/c?output=1", 500, 'container not found ("c")'),
        ("GET", "/attach/ns/web/c?output=1", 500, "container c not found in pod web_ns"),
        ("POST", "/portForward/ns/other", 404, "pod does not exist"),
        ("POST", "/portForward/ns/web/uid-2", 404, "pod not found"),
        ("POST", "/portForward/ns/web/uid-1", 500, 'pod not found ("web_ns")'),
        ("POST", "/run/ns/other/c?cmd=ls", 404, "pod does not exist"),
        ("POST", "/run/ns/web/c?cmd=ls", 500, 'container not found ("c")'),
    ],
)
async def test_without_an_instance_answers_are_a_kubelets(
    rig: Rig, method: str, path: str, status: int, body: str
) -> None:
    rig.source.handles.append(FakeHandle(make_pod(), running_status()))
    found = await rig.ask(method, path)
    assert found[:2] == (status, body)
    if status == 405 and "Not Allowed" in body:
        assert found[2]["Allow"]
    if path != "/run/ns/web/c?cmd=ls":
        assert found[2]["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("target", "authorization", "status", "body"),
    [
        ("OPTIONS *", "", 200, ""),
        ("OPTIONS /pods", "", 401, "Unauthorized"),
        ("CONNECT somewhere:1", "", 401, "Unauthorized"),
        ("CONNECT somewhere:1", "Bearer good", 404, "404 page not found\n"),
        ("CONNECT /", "Bearer good", 404, "404 page not found\n"),
        ("TRACE /nothing", "Bearer good", 404, "404 page not found\n"),
    ],
)
async def test_targets_that_are_no_path_are_answered_as_by_gos_server(
    rig: Rig, target: str, authorization: str, status: int, body: str
) -> None:
    reader, writer = await rig.open()
    writer.write(f"{target} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0])) == body.encode()
    writer.close()
    await writer.wait_closed()


async def test_pods_are_listed_with_their_newest_status(rig: Rig) -> None:
    rig.source.handles = [FakeHandle(make_pod(f"p{number}", f"u{number}"), running_status()) for number in range(450)]
    status, body, headers = await rig.ask("GET", "/pods")
    document = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (document["kind"], document["apiVersion"], len(document["items"])) == ("PodList", "v1", 450)
    assert document["items"][449]["status"]["phase"] == "Running"
    assert json.loads((await rig.ask("GET", "/pods/"))[1]) == document


async def test_running_pods_hold_running_containers_only(rig: Rig) -> None:
    rig.source.handles = [
        FakeHandle(make_pod(), running_status()),
        FakeHandle(make_pod("done", "uid-2"), {"phase": "Succeeded"}),
    ]
    items = json.loads((await rig.ask("GET", "/runningpods/"))[1])["items"]
    assert items == [
        {
            "metadata": {"name": "web", "namespace": "ns", "uid": "uid-1"},
            "spec": {"containers": [{"name": "c", "image": "i:1", "resources": {}}]},
            "status": {},
        }
    ]


async def test_a_client_certificate_is_optional_and_names_the_user(rig: Rig) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"https://127.0.0.1:{rig.server.port}/configz"
        for groups, status in ((["system:masters"], 200), (["others"], 403)):
            certificate = rig.ca.issue("apiserver", groups)
            async with http.get(url, ssl=rig.ca.client_context(certificate)) as response:
                assert response.status == status
        async with http.get(url, ssl=rig.ca.client_context()) as response:
            assert (response.status, await response.text()) == (401, "Unauthorized")


async def test_a_rotated_serving_certificate_serves_new_connections(rig: Rig) -> None:
    _, writer = await rig.open()
    first = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    rig.server.reload_certificate(*rig.ca.issue("renewed"))
    _, second_writer = await rig.open()
    second = second_writer.get_extra_info("ssl_object").getpeercert()
    assert second["subject"] == ((("commonName", "renewed"),),)
    assert second["serialNumber"] != first
    for opened in (writer, second_writer):
        opened.close()
        await opened.wait_closed()


async def test_rotated_client_cas_count_for_new_connections(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is a bundle: old and new, then the new one alone. A broken one changes nothing."""
    monkeypatch.setattr(filechanges, "CHECK_S", 0.001)
    (tmp_path / "new").mkdir()
    new, bundle = CertificateAuthority(tmp_path / "new", "new-ca"), tmp_path / "bundle.pem"
    contexts = []
    for ca in (rig.ca, new):
        contexts.append(rig.ca.client_context(ca.issue("apiserver", ["system:masters"])))

    async def accepted(context: ssl.SSLContext) -> bool:
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(f"https://127.0.0.1:{rig.server.port}/configz", ssl=context) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

    bundle.write_text(rig.ca.pem)
    changed = asyncio.Queue[str]()

    def reload(pem: str) -> None:
        try:
            rig.server.reload_client_ca(pem)
        finally:
            changed.put_nowait(pem)

    task = asyncio.create_task(ClientCaFile(bundle).run(reload))
    expected = [(rig.ca.pem + new.pem, [True, True]), ("nonsense", [True, True]), (new.pem, [False, True])]
    assert [await accepted(context) for context in contexts] == [True, False]
    for text, answers in expected:
        await asyncio.sleep(0.02)
        replacement = tmp_path / "replacement"
        replacement.write_text(text)
        replacement.replace(bundle)
        while await asyncio.wait_for(changed.get(), 30) != text:
            pass
        assert [await accepted(context) for context in contexts] == answers
    rig.server.reload_certificate(*rig.ca.issue("renewed"))
    _, writer = await rig.open()
    assert writer.get_extra_info("ssl_object").getpeercert()["subject"] == ((("commonName", "renewed"),),)
    writer.close()
    await writer.wait_closed()
    task.cancel()


async def test_connections_of_a_client_ca_that_was_rotated_away_are_closed_and_only_these(
    rig: Rig, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    new = CertificateAuthority(tmp_path / "new", "new-ca")
    rig.server.reload_client_ca(rig.ca.pem + new.pem)

    async def connect(context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", rig.server.port, ssl=context)

    async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], token: str = "") -> bytes:
        reader, writer = connection
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        try:
            return (await asyncio.wait_for(reader.readuntil(b"ok"), 30))[9:12]
        except (asyncio.IncompleteReadError, ConnectionError):
            return b"closed"

    new_context = rig.ca.client_context(new.issue("apiserver", ["system:masters"]))
    old = await connect(rig.ca.client_context(rig.ca.issue("apiserver", ["system:masters"])))
    kept, token = await connect(new_context), await connect(rig.ca.client_context())
    assert [await ask(old), await ask(kept), await ask(token, "good")] == [b"200"] * 3
    rig.server.reload_client_ca(new.pem)
    assert [await ask(old), await ask(kept), await ask(token, "good")] == [b"closed", b"200", b"200"]
    for _, writer in (old, kept, token):
        writer.transport.abort()


async def test_without_a_client_ca_only_tokens_count_also_after_there_was_one(rig: Rig) -> None:
    certificate = rig.ca.client_context(rig.ca.issue("apiserver", ["system:masters"]))

    async def ask(**headers: str) -> int:
        async with aiohttp.ClientSession() as http:
            url = f"https://127.0.0.1:{rig.server.port}/configz"
            async with http.get(url, ssl=certificate, headers=headers) as response:
                return response.status

    answers = []
    for pem in (rig.ca.pem, "", rig.ca.pem):
        rig.server.reload_client_ca(pem)
        answers.append((await ask(), await ask(**ADMIN)))
    assert answers == [(200, 200), (401, 200), (200, 200)]


async def test_a_request_that_is_being_answered_when_its_ca_goes_is_answered(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("2026-01-02T03:04:05Z stdout F hello\n")
    rig.view.paths["abc"] = str(path)
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    context = rig.ca.client_context(rig.ca.issue("apiserver", ["system:masters"]))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port, ssl=context)
    writer.write(b"GET /containerLogs/ns/web/c?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"hello\n"), 30)
    (tmp_path / "new").mkdir()
    rig.server.reload_client_ca(CertificateAuthority(tmp_path / "new", "new-ca").pem)
    rig.view.status, rig.runtime.state = {}, 2
    with path.open("a") as file:
        file.write("2026-01-02T03:04:05Z stdout F bye\n")
    assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"0\r\n\r\n")
    writer.transport.abort()


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"\xff", "is not PEM"), (None, "No such file")])
async def test_a_file_without_cas_is_a_bad_start(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadStartError, match=rf"kubelet\.client_ca_file .*ca\.crt: {reason}"):
        await ClientCaFile(path).load()


async def test_a_pod_of_another_node_of_the_provider_does_not_exist_here(rig: Rig) -> None:
    pod = make_pod()
    pod["spec"]["nodeName"] = "node-2"
    rig.source.handles.append(FakeHandle(pod, running_status(), make_instance()))
    assert (await rig.ask("GET", "/containerLogs/ns/web/c"))[:2] == (404, 'pod "web" does not exist')
    assert (await rig.ask("POST", "/run/ns/web/c?cmd=ls"))[:2] == (404, "pod does not exist")
    for path in ("/exec/ns/web/c?output=1", "/attach/ns/web/c?output=1", "/portForward/ns/web"):
        assert (await rig.ask("POST", path, headers=UPGRADE))[:2] == (404, "pod does not exist")


async def test_logs_of_a_running_container_come_from_the_agent(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("2026-01-02T03:04:05Z stdout F hello\n2026-01-02T03:04:06Z stdout F world\n")
    rig.view.paths["abc"] = str(path)
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    status, body, headers = await rig.ask("GET", "/containerLogs/ns/web/c?tailLines=1&timestamps=true")
    assert (status, body) == (200, "2026-01-02T03:04:06.000000000Z world\n")
    assert headers["Transfer-Encoding"] == "chunked"
    previous = await rig.ask("GET", "/containerLogs/ns/web/c?previous=true")
    assert previous[:2] == (400, 'previous terminated container "c" in pod "web" not found')


async def test_headers_of_a_followed_log_come_before_its_first_line(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("")
    rig.view.paths["abc"] = str(path)
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    reader, writer = await rig.open()
    writer.write(b"GET /containerLogs/ns/web/c?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    with path.open("a") as file:
        file.write("2026-01-02T03:04:05Z stdout F hello\n")
    assert await reader.readuntil(b"hello\n")
    rig.view.status, rig.runtime.state = {}, 2
    with path.open("a") as file:
        file.write("2026-01-02T03:04:05Z stdout F bye\n")
    assert (await reader.readuntil(b"0\r\n\r\n")).count(b"bye\n") == 1
    writer.close()
    await writer.wait_closed()


async def test_logs_of_a_finished_pod_come_from_the_archive(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    path.write_text("2026-01-02T03:04:05Z stdout F over\n")
    archive = FakeArchive({("c", False): str(path)})
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), None, archive))
    assert (await rig.ask("GET", "/containerLogs/ns/web/c?follow=true"))[:2] == (200, "over\n")


async def test_an_agent_that_does_not_answer_is_named(rig: Rig) -> None:
    rig.connector.reachable = False
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    for method, path in (
        ("GET", "/containerLogs/ns/web/c"),
        ("POST", "/exec/ns/web/c?output=1"),
        ("POST", "/run/ns/web/c?cmd=ls"),
    ):
        headers = UPGRADE if "exec" in path else ADMIN
        assert (await rig.ask(method, path, headers=headers))[:2] == (500, "instance i-1 does not answer: no answer")


async def test_run_returns_combined_output_or_the_failure(rig: Rig) -> None:
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    status, body, headers = await rig.ask("POST", "/run/ns/web/uid-1/c?cmd=ls%20-l")
    assert (status, body, headers["Content-Type"]) == (200, "outerr", "application/json")
    assert rig.runtime.calls == [("exec_sync", "abc", ["ls", "-l"])]
    failed = await rig.ask("POST", "/run/ns/web/c?cmd=false")
    assert failed[:2] == (500, "command 'false' exited with 1: err")


async def test_statusz_and_flagz_are_pages_for_people(rig: Rig) -> None:
    assert "kubelet statusz" in (await rig.ask("GET", "/statusz"))[1]
    assert "kubelet flagz" in (await rig.ask("GET", "/flagz"))[1]


async def test_metrics_are_prometheus_text(rig: Rig) -> None:
    Counter("things_total", "Things", ("kind",), registry=rig.registry).labels('a"b').inc()
    status, body, headers = await rig.ask("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert body == '# HELP things_total Things\n# TYPE things_total counter\nthings_total{kind="a\\"b"} 1.0\n'
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1' in (await rig.ask("GET", "/metrics/slis"))[1]


async def test_a_taken_port_and_a_foreign_address_are_told_apart_with_what_to_change(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BadStartError, match=rf"127.0.0.1:{port}: taken by .* change kubelet.healthz_port$"):
            await HealthServer("127.0.0.1", port, lambda: True).start()
        api = KubeletApi("node-1", rig.source, rig.connector, CollectorRegistry(), idle_s=1.0)
        auth = AuthFilter(Authenticator(AllowingReviews()), Authorizer(AllowingReviews()), "node-1")
        with pytest.raises(BadStartError, match=rf"127.0.0.1:{port}: taken by .* change address and port in"):
            await KubeletServer(replace(rig.server.config, port=port), api, auth).start()
    with pytest.raises(BadStartError, match="no interface of this machine has the address"):
        await HealthServer("192.0.2.77", 0, lambda: True).start()
