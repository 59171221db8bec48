"""Every form of credentials that the library reads, read without its models; and what others that import it get."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vk_provider.errors import BadStartError
from vk_provider.kube.configlibrary import LIBRARY, incluster_config
from vk_provider.kube.credentials import Credentials

SERVER = "https://127.0.0.1:1"


def make_certificate() -> tuple[str, str]:
    """PEM of a self-signed certificate and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "c")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), text.decode()


CERTIFICATE, KEY = make_certificate()


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write_kubeconfig(directory: Path, user: Any, **cluster: Any) -> Path:
    path = directory / "kubeconfig"
    document = {
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


async def load(directory: Path, user: Any, **cluster: Any) -> Credentials:
    made = Credentials(str(write_kubeconfig(directory, user, **cluster)))
    await made.load()
    return made


async def renewed(credentials: Credentials) -> str | None:
    """The header once a renewal that is due was made."""
    credentials._renew_at = 0.0
    await credentials.authorization()
    if credentials._job is not None:
        await credentials._job
    return await credentials.authorization()


def jwt(expires_at: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": int(expires_at)}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


async def test_a_token_a_name_with_a_password_and_none_of_both(tmp_path: Path) -> None:
    assert await (await load(tmp_path, {"token": "t"})).authorization() == "Bearer t"
    basic = await (await load(tmp_path, {"username": "n", "password": "p"})).authorization()
    assert basic == f"Basic {encode('n:p')}"
    assert await (await load(tmp_path, {})).authorization() is None


async def test_a_token_file_that_was_replaced_is_read_after_a_401(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    credentials = await load(tmp_path, {"tokenFile": "token"})
    assert await credentials.authorization() == "Bearer old"
    (tmp_path / "token").write_text("new")
    assert await credentials.reload()
    assert await credentials.authorization() == "Bearer new"


@pytest.mark.parametrize("inline", [True, False])
async def test_certificates_are_in_the_tls_context_and_no_key_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    texts = {"client-certificate": CERTIFICATE, "client-key": KEY}
    if inline:
        user = {f"{name}-data": encode(text) for name, text in texts.items()}
        cluster = {"certificate-authority-data": encode(CERTIFICATE)}
    else:
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        user = {name: name for name in texts}
        cluster = {"certificate-authority": "client-certificate"}
    extra = {"tls-server-name": "api", "proxy-url": "http://127.0.0.1:2"}
    credentials = await load(tmp_path, user, **cluster, **extra)
    context: Any = credentials.ssl_context
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "c"),),)]
    assert context.check_hostname and await credentials.authorization() is None
    assert (credentials.server, credentials.server_hostname, credentials.proxy) == (SERVER, "api", "http://127.0.0.1:2")
    assert not list(scratch.iterdir())


async def test_a_server_that_is_not_to_be_verified(tmp_path: Path) -> None:
    context: Any = (await load(tmp_path, {}, **{"insecure-skip-tls-verify": True})).ssl_context
    assert not context.check_hostname


async def test_a_cluster_without_a_server_is_one_line(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, {})
    path.write_text(path.read_text().replace('"server"', '"sever"'))
    with pytest.raises(BadStartError, match="names no API server URL"):
        await Credentials(str(path)).load()


async def test_a_plugin_that_gives_a_certificate(tmp_path: Path) -> None:
    version = "client.authentication.k8s.io/v1"
    status = {"clientCertificateData": CERTIFICATE, "clientKeyData": KEY}
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    (tmp_path / "answer").write_text(answer)
    user = {"exec": {"apiVersion": version, "command": "cat", "args": [str(tmp_path / "answer")]}}
    credentials = await load(tmp_path, user)
    assert credentials.ssl_context is not True and await credentials.authorization() is None


async def test_the_token_of_an_identity_provider_is_renewed_there(tmp_path: Path) -> None:
    tokens = [jwt(time.time() + 3600)]

    async def describe(request: web.Request) -> web.Response:
        return web.json_response({"token_endpoint": f"http://{request.host}/token"})

    async def give(request: web.Request) -> web.Response:
        form = await request.post()
        assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "r")
        return web.json_response({"id_token": tokens[0], "refresh_token": "r"})

    site = web.Application()
    site.add_routes([web.get("/.well-known/openid-configuration", describe), web.post("/token", give)])
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "client-id": "i",
        "client-secret": "s",
        "idp-issuer-url": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "id-token": jwt(time.time() - 60),
        "refresh-token": "r",
    }
    try:
        credentials = await load(tmp_path, {"auth-provider": {"name": "oidc", "config": config}})
        assert await renewed(credentials) == f"Bearer {tokens[0]}"
    finally:
        await runner.cleanup()


async def test_the_token_of_google_is_renewed_by_its_command(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    config = {"cmd-path": "cat", "cmd-args": str(answer)}

    def say(token: str, life_s: int) -> None:
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=life_s)
        credential = {"access_token": token, "token_expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")}
        answer.write_text(json.dumps({"credential": credential}))

    say("old", 0)
    credentials = await load(tmp_path, {"auth-provider": {"name": "gcp", "config": config}})
    assert await credentials.authorization() == "Bearer old"
    say("new", 3600)
    assert await renewed(credentials) == "Bearer new"


async def test_within_a_pod_the_token_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("old")
    authority.write_text(CERTIFICATE)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setattr(incluster_config, "TOKEN_REFRESH_PERIOD", datetime.timedelta())
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    credentials = Credentials(None)
    await credentials.load()
    assert credentials.server == "https://[fd00::1]:443" and await credentials.authorization() == "Bearer old"
    token.write_text("new")
    assert await renewed(credentials) == "Bearer new"


def run(script: str, *arguments: str, path: str = "") -> Any:
    """What a fresh process prints, as JSON; fails when it ends with an error."""
    places = [each for each in (path, *sys.path) if each]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MODELS = """
import asyncio, gc, json, sys, types
from vk_provider.kube.credentials import Credentials

asyncio.run(Credentials(sys.argv[1]).load())
gc.collect()
modules = [each.__name__ for each in gc.get_objects() if isinstance(each, types.ModuleType)]
classes = [each for each in gc.get_objects() if isinstance(each, type)]
of_client = [str(each) for each in classes if str(each.__module__).startswith("kubernetes_asyncio.client")]
print(json.dumps([[name for name in modules if name.startswith("kubernetes_asyncio.client.")], of_client]))
"""


def test_no_model_is_in_memory(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path, {"token": "t"})
    assert run(MODELS, str(path)) == [[], []]


REAL = """
import json, sys
from vk_provider.kube import execplugin
import kubernetes_asyncio.config

pod = kubernetes_asyncio.client.V1Pod(kind="Pod")
mine, theirs = execplugin.kube_config, kubernetes_asyncio.config.kube_config
print(json.dumps([pod.kind, mine is theirs, theirs.ApiClient is kubernetes_asyncio.client.ApiClient]))
"""


def test_who_imports_the_library_gets_all_of_it() -> None:
    assert run(REAL) == ["Pod", False, True]


FULL = """
import json
import kubernetes_asyncio.config
from vk_provider.kube.configlibrary import kube_config

print(json.dumps(kube_config is kubernetes_asyncio.config.kube_config))
"""


def test_what_somebody_has_imported_before_is_used() -> None:
    assert run(FULL) is True


MORE = """
import json, sys
from vk_provider.kube.configlibrary import kube_config

print(json.dumps([kube_config.NAME, "kubernetes_asyncio.client.more" in sys.modules]))
"""


def test_a_version_that_needs_more_of_itself_is_imported_as_a_whole(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from kubernetes_asyncio import client",
        "client/__init__.py": "",
        "client/more.py": "NAME = 'more'",
        "config/__init__.py": "",
        "config/incluster_config.py": "",
        "config/kube_config.py": "from kubernetes_asyncio.client.more import NAME",
    }
    for name, text in files.items():
        path = tmp_path / LIBRARY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert run(MORE, path=str(tmp_path)) == ["more", True]


async def test_the_paths_of_a_kubeconfig_are_merged(tmp_path: Path) -> None:
    """KUBECONFIG may name several files, of which some may be missing."""
    first = write_kubeconfig(tmp_path, {"token": "t"})
    credentials = Credentials(f"{tmp_path / 'missing'}{os.pathsep}{first}")
    await asyncio.wait_for(credentials.load(), 30)
    assert await credentials.authorization() == "Bearer t"
