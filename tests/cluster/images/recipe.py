"""What is in each image. A recipe is a method of Kitchen named after it, which returns a built image.

The test images behave as the ones of test/images in k8s.io/kubernetes, described in their Dockerfiles; the contents are
Debian's programs on top of busybox, and agnhost, which is Go and builds from the same module as the specs.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.images import compile, debian, mesh
from tests.cluster.images.oci import Descriptor, RunConfig, build_index, digest_of
from tests.cluster.images.rootfs import Rootfs, shared_libraries
from tests.cluster.images.store import BuiltImage, ImageStore
from tests.cluster.targets import kubernetes_version

# Name lookups of static glibc programs crash without it.
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
USERS = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n"
)
GROUPS = "root:x:0:\ndaemon:x:1:\nnobody:x:65534:\n"
AGNHOST_USER = "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
AGNHOST_GROUPS = "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
# The specs read this file from an image volume and look for the distribution the upstream image is based on.
AGNHOST_OS_RELEASE = 'NAME="Debian programs laid out as in Alpine Linux"\nID=test-image\n'
NETWORK_TOOLS = ("bash", "curl", "dig", "getent", "host", "iperf", "ip", "ipcs", "nslookup", "socat", "ss")
NGINX_CONF = """\
user nobody nogroup;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  client_body_temp_path /tmp/client_body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = "server { listen 80; root /usr/share/nginx/html; index index.html; }\n"


def kubernetes_source() -> Path:
    """The directory of the k8s.io/kubernetes module whose specs are run; downloaded when missing."""
    asked = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=False)
    directory = Path(asked.stdout.strip()) / "k8s.io" / f"kubernetes@{kubernetes_version()}"
    if not directory.is_dir():
        module = f"k8s.io/kubernetes@{kubernetes_version()}"
        fetched = subprocess.run(["go", "mod", "download", module], cwd="/", capture_output=True, text=True)
        if fetched.returncode:
            raise ClusterError(f"cannot download {module}: {fetched.stderr.strip()[-300:]}", "check GOPROXY")
    return directory


class Kitchen:
    """Builds images into a store; layers that several images share are packed once."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._built = store.directory / "programs"

    def make(self, recipe: str) -> BuiltImage:
        """The image of a recipe."""
        method: Callable[[], BuiltImage] = getattr(self, recipe.replace("-", "_"))
        return method()

    def pause(self) -> BuiltImage:
        """One static program that sleeps."""
        tree = Rootfs()
        tree.add_file("/pause", compile.compile_static("pause", self._built), 0o755)
        run = RunConfig(entrypoint=("/pause",), user="65535:65535")
        return self._store.put_image(run, [self._store.put_layer(tree)])

    def sample_busybox(self) -> BuiltImage:
        """Debian's busybox, for the demo: nothing to compile."""
        return self._store.put_image(RunConfig(cmd=("sh",)), [self._small_base])

    @functools.cached_property
    def _small_base(self) -> Descriptor:
        return self._store.put_layer(_busybox_tree(Path("/bin/busybox")))

    def coredns(self) -> BuiltImage:
        """One static program. As root: upstream's has a file capability instead, which needs an extended attribute."""
        tree = Rootfs()
        tree.add_file("/coredns", build.ensure("coredns"), 0o755)
        run = RunConfig(entrypoint=("/coredns",), exposed_ports=("53/tcp", "53/udp"), working_dir="/")
        return self._store.put_image(run, [self._store.put_layer(tree)])

    def sample_apiserver(self) -> BuiltImage:
        """One static program, of the version of Kubernetes that everything here is of."""
        tree = Rootfs()
        tree.add_file("/sample-apiserver", build.ensure("sample-apiserver"), 0o755)
        return self._store.put_image(RunConfig(entrypoint=("/sample-apiserver",)), [self._store.put_layer(tree)])

    def etcd(self) -> BuiltImage:
        """The control plane's program by its name etcd."""
        tree = Rootfs()
        tree.add_file("/usr/local/bin/etcd", build.ensure("controlplane"), 0o755)
        return self._store.put_image(RunConfig(cmd=("etcd",)), [self._store.put_layer(tree)])

    @functools.cached_property
    def _base(self) -> Descriptor:
        return self._store.put_layer(_busybox_tree(compile.busybox(self._built)))

    def busybox(self) -> BuiltImage:
        """busybox as upstream configures it."""
        return self._store.put_image(RunConfig(cmd=("sh",)), [self._base])

    @functools.cached_property
    def _agnhost_layers(self) -> list[Descriptor]:
        tools = Rootfs()
        for name in NETWORK_TOOLS:
            tools.add_program(name)
        tools.add_program("bash", "/bin/bash")
        tools.add_program("nc.openbsd", "/usr/bin/nc")
        tools.add_text("/etc/os-release", AGNHOST_OS_RELEASE)
        tools.add_text("/etc/passwd", USERS + AGNHOST_USER)
        tools.add_text("/etc/group", GROUPS + AGNHOST_GROUPS)
        tools.add_directory("/home/user-defined-in-image", 0o755, 1000, 1000)
        tools.add_directory("/uploads")
        self._add_fake_registry(tools)
        program = Rootfs()
        program.add_file("/agnhost", build.ensure("agnhost"), 0o755)
        program.add_symlink("/agnhost-2", "agnhost")
        keys = kubernetes_source() / "test" / "images" / "agnhost" / "porter"
        for name in ("localhost.crt", "localhost.key"):
            program.add_file(f"/{name}", keys / name, 0o644)
        return [self._base, self._store.put_layer(tools), self._store.put_layer(program)]

    def _add_fake_registry(self, tree: Rootfs) -> None:
        """What `agnhost fake-registry-server` serves: our pause image as pause:testing.

        Layout as test/images/agnhost/fakeregistryserver/prepare_registry.sh makes it.
        """
        image = self.pause()
        index = build_index(image.manifest)
        digest = digest_of(index)
        manifests = {digest: index, image.manifest.digest: self._store.blob_path(image.manifest.digest).read_bytes()}
        for name, content in manifests.items():
            tree.add_text(_nested("/var/registry/pause/manifests", name), content)
        for part in image.parts:
            tree.add_file(_nested("/var/registry/pause/blobs", part.digest), self._store.blob_path(part.digest), 0o644)
        tree.add_text("/var/registry/pause/manifests/testing", digest + "\n")

    def _agnhost_image(self, cmd: str, *more: Descriptor) -> BuiltImage:
        ports = ("80/tcp", "8080/tcp", "8081/tcp", "9376/tcp", "5000/tcp")
        run = RunConfig(entrypoint=("/agnhost",), cmd=(cmd,), exposed_ports=ports)
        return self._store.put_image(run, [*self._agnhost_layers, *more])

    def agnhost(self) -> BuiltImage:
        """Kubernetes' test server with a shell and network tools around it."""
        return self._agnhost_image("pause")

    def kitten(self) -> BuiltImage:
        """agnhost that serves a picture and a JSON file."""
        return self._pet("kitten")

    def nautilus(self) -> BuiltImage:
        """The other picture."""
        return self._pet("nautilus")

    def _pet(self, name: str) -> BuiltImage:
        html = kubernetes_source() / "test" / "images" / name / "html"
        tree = Rootfs()
        for file in (f"{name}.jpg", "data.json"):
            tree.add_file(f"/{file}", html / file, 0o644)
        return self._agnhost_image("test-webserver", self._store.put_layer(tree))

    def nginx(self) -> BuiltImage:
        """Debian's nginx with one static site, in the foreground, logging to the container's streams."""
        unpacked = self._built / "nginx"
        if not (unpacked / "usr/sbin/nginx").exists():
            debian.unpack_packages(["nginx", "nginx-common"], unpacked)
        tree = Rootfs()
        tree.add_file("/usr/sbin/nginx", unpacked / "usr/sbin/nginx")
        for library in shared_libraries(unpacked / "usr/sbin/nginx"):
            tree.add_file(str(library), library)
        tree.add_file("/etc/nginx/mime.types", unpacked / "etc/nginx/mime.types")
        tree.add_text("/etc/nginx/nginx.conf", NGINX_CONF)
        tree.add_text("/etc/nginx/conf.d/default.conf", NGINX_SITE)
        tree.add_text("/etc/group", GROUPS + "nogroup:x:65533:\n")
        tree.add_file("/usr/share/nginx/html/index.html", unpacked / "usr/share/nginx/html/index.html")
        tree.add_directory("/var/log/nginx")
        tree.add_symlink("/var/log/nginx/error.log", "/dev/stderr")
        tree.add_directory("/var/lib/nginx")
        run = RunConfig(cmd=("nginx", "-g", "daemon off;"), exposed_ports=("80/tcp",), stop_signal="SIGQUIT")
        return self._store.put_image(run, [self._base, self._store.put_layer(tree)])

    def nonewprivs(self) -> BuiltImage:
        """busybox with a setuid-root program that prints its effective user."""
        tree = Rootfs()
        tree.add_file("/usr/local/bin/nnp", compile.compile_static("euid", self._built), 0o6755)
        return self._store.put_image(RunConfig(cmd=("nnp",)), [self._base, self._store.put_layer(tree)])

    def nonroot(self) -> BuiltImage:
        """busybox whose image runs as user 1234."""
        return self._store.put_image(RunConfig(cmd=("sh",), user="1234"), [self._base])

    def glibc_dns_testing(self) -> BuiltImage:
        """busybox with glibc's resolver tools."""
        tree = Rootfs()
        for name in ("bash", "dig", "getent", "host", "hostname", "nslookup"):
            tree.add_program(name)
        tree.add_program("bash", "/bin/bash")
        return self._store.put_image(RunConfig(cmd=("bash",)), [self._base, self._store.put_layer(tree)])

    def istio_pilot(self) -> BuiltImage:
        """istiod."""
        layer = self._store.put_layer(mesh.pilot_files(USERS, GROUPS))
        run = RunConfig(entrypoint=("/usr/local/bin/pilot-discovery",), user="1337:1337")
        return self._store.put_image(run, [self._small_base, layer])

    def istio_proxyv2(self) -> BuiltImage:
        """pilot-agent and Envoy: the sidecar, the gateways and the init container."""
        layer = self._store.put_layer(mesh.proxy_files(USERS, GROUPS))
        environment = (*RunConfig().env, mesh.proxy_environment())
        run = RunConfig(entrypoint=("/usr/local/bin/pilot-agent",), env=environment)
        return self._store.put_image(run, [self._small_base, layer])


def _nested(directory: str, digest: str) -> str:
    algorithm, value = digest.split(":")
    return f"{directory}/{algorithm}/{value[:2]}/{value}/data"


def _busybox_tree(program: Path) -> Rootfs:
    listed = subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True)
    tree = Rootfs()
    tree.add_file("/bin/busybox", program, 0o755)
    for applet in sorted(set(listed.stdout.split()) - {"busybox"}):
        tree.add_symlink(f"/bin/{applet}", "busybox")
    tree.add_text("/etc/nsswitch.conf", NSSWITCH)
    tree.add_text("/etc/passwd", USERS)
    tree.add_text("/etc/group", GROUPS)
    tree.add_directory("/tmp", 0o1777)
    tree.add_directory("/root", 0o700)
    for path in ("/home", "/usr/sbin", "/usr/bin", "/usr/local/bin", "/var/spool", "/run"):
        tree.add_directory(path)
    tree.add_symlink("/usr/bin/env", "../../bin/busybox")
    return tree
