"""The mesh in the tests' hands: requests from its client and from outside, what is applied, what the proxies hold."""

from __future__ import annotations

import base64
import json
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509

from tests.cluster.istio.installation import Istio
from tests.e2e.nodeless import Namespace, Nodeless, is_deleting, is_ready
from tests.e2e.until import until
from vk_provider.jsontypes import Json

CLIENT, OUTSIDER = "client", "outsider"
READY_LIMIT_S = 180.0
LIMIT_S = "5"
"""Of one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got: its own exit code (0 when there was an answer), the HTTP status (0 without), headers and body."""

    exit_code: int
    status: int
    headers: str
    body: str


class Mesh:
    """Two services (web in two versions, api), a client, and a pod outside; see manifests/istio/app.yaml."""

    def __init__(self, nodeless: Nodeless, istio: Istio) -> None:
        self.nodeless, self.istio = nodeless, istio
        self.inside, self.outside = Namespace(nodeless, "mesh"), Namespace(nodeless, "plain")

    def deploy(self) -> None:
        self.nodeless.kubectl("apply", "-f", str(self.istio.manifest("app")))
        for name in ("web-v1", "web-v2", "api"):
            self.wait_available(name)
        self.inside.wait_pod(CLIENT, "Ready", is_ready, READY_LIMIT_S)
        self.outside.wait_pod(OUTSIDER, "Ready", is_ready, READY_LIMIT_S)

    def wait_available(self, deployment: str) -> None:
        """Until the Deployment is rolled out in full."""
        target = f"deployment/{deployment}"
        self.inside.kubectl(
            "rollout", "status", target, f"--timeout={READY_LIMIT_S:.0f}s", timeout_s=READY_LIMIT_S + 10
        )

    def wait_gateway(self) -> None:
        """Until the Gateway of manifests/istio/gateway.yaml is served by what istiod has deployed for it."""
        for target, condition in (("gateway/front", "Programmed"), ("deployment/front-istio", "Available")):
            words = ("wait", target, f"--for=condition={condition}", f"--timeout={READY_LIMIT_S:.0f}s")
            self.inside.kubectl(*words, timeout_s=READY_LIMIT_S + 10)

    @contextmanager
    def applied(self, *names: str) -> Iterator[None]:
        """Manifests of manifests/istio while the block runs."""
        files = [word for name in names for word in ("-f", str(self.istio.manifest(name)))]
        self.nodeless.kubectl("apply", *files)
        try:
            yield
        finally:
            self.nodeless.kubectl("delete", *files, "--ignore-not-found", timeout_s=READY_LIMIT_S)

    # Requests.

    def _execute(self, source: str, script: str, check: bool = True) -> str:
        namespace = self.outside if source == OUTSIDER else self.inside
        return namespace.execute(source, script, check=check).stdout

    def get(self, url: str, *flags: str, source: str = CLIENT) -> Answer:
        """One request by curl."""
        curl = shlex.join(["curl", "-s", "-i", "--max-time", LIMIT_S, "-w", "\n%{http_code}", *flags, url])
        return parse_answer(self._execute(source, f"{curl}; code=$?; echo; echo $code", check=False))

    def wait_get(self, what: str, url: str, holds: object, *flags: str, source: str = CLIENT) -> Answer:
        """The first answer that `holds` of: configuration reaches the proxies in its own time."""
        assert callable(holds)
        last: list[Answer] = []

        def look() -> Answer | None:
            last[:] = [self.get(url, *flags, source=source)]
            return last[0] if holds(last[0]) else None

        found = until(what, look, explain=lambda: last)
        assert found is not None
        return found

    def statuses(self, url: str, count: int, source: str = CLIENT) -> Counter[int]:
        """How often each HTTP status (0: no answer) came in `count` requests one after the other."""
        curl = ["curl", "-s", "--max-time", LIMIT_S, "-o", "/dev/null", "-w", "%{http_code}\\n", f"{url}?[1-{count}]"]
        return Counter(map(int, self._execute(source, shlex.join(curl), check=False).split()))

    def versions(self, url: str, count: int, *flags: str, source: str = CLIENT) -> Counter[str]:
        """How many of `count` answers of /hostname came from each Deployment of two words (web-v1)."""
        curl = ["curl", "-s", "--max-time", LIMIT_S, "-w", "\\n", *flags, f"{url}?[1-{count}]"]
        names = self._execute(source, shlex.join(curl), check=False).split()
        return Counter("-".join(name.split("-")[:2]) for name in names)

    # What there is.

    def pods(self, selector: str) -> list[Json]:
        """Pods of the mesh by label, without those that go."""
        found = json.loads(self.inside.kubectl("get", "pods", "-l", selector, "-o", "json").stdout)["items"]
        return [pod for pod in found if not is_deleting(pod)]

    def secrets(self, pod: str) -> dict[str, Json]:
        """What the proxy of a pod has from istiod's secret discovery: name -> secret."""
        text = self.istio.istioctl("proxy-config", "secret", f"{pod}.mesh", "-o", "json").stdout
        return {item["name"]: item["secret"] for item in json.loads(text)["dynamicActiveSecrets"]}

    def certificate(self, pod: str) -> x509.Certificate:
        """The certificate that the proxy of a pod shows to others."""
        chain = self.secrets(pod)["default"]["tlsCertificate"]["certificateChain"]["inlineBytes"]
        return x509.load_pem_x509_certificates(base64.b64decode(chain))[0]

    def root(self) -> x509.Certificate:
        """istiod's root, as it gives it to every namespace."""
        text = self.inside.get("configmap", "istio-ca-root-cert")["data"]["root-cert.pem"]
        return x509.load_pem_x509_certificate(text.encode())


def parse_answer(text: str) -> Answer:
    """What `curl -i` has written, a line with the status, a line with its exit code. HTTP's line ends may be ours."""
    answer, status, exit_code = text.replace("\r\n", "\n").rstrip("\n").rsplit("\n", 2)
    headers, _, body = answer.partition("\n\n")
    return Answer(int(exit_code), int(status), headers, body)


def spiffe_id(certificate: x509.Certificate) -> list[str]:
    """The URIs in a certificate's alternative names."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
