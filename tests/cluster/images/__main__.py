"""Build and push the images: `python -m tests.cluster.images build|push|archive`.

What was built is found again by the hash of its inputs: these modules, the installed Debian packages, the Go targets.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path
from typing import TextIO

from tests.cluster import build, targets
from tests.cluster.cache import cache_dir, file_lock
from tests.cluster.errors import ClusterError
from tests.cluster.images import debian, mesh
from tests.cluster.images.catalog import AGGREGATOR, CATALOG, ISTIO, CatalogEntry, repository_list, select_entries
from tests.cluster.images.distribution import RegistryClient, push_image
from tests.cluster.images.oci import write_archive
from tests.cluster.images.recipe import Kitchen
from tests.cluster.images.store import BuiltImage, ImageStore

DPKG_STATUS = Path("/var/lib/dpkg/status")


def fingerprint(entry: CatalogEntry) -> str:
    """Hash of everything the image of `entry` is made from. Cheap: nothing is built for it."""
    room = Path(__file__).parent
    digest = hashlib.sha256(entry.recipe.encode())
    for source in sorted([*room.glob("*.py"), *room.glob("src/*")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    if entry.sample:
        digest.update(debian.installed_version("busybox-static").encode())
    elif entry.recipe == "coredns":
        digest.update(str(build.built_path("coredns")).encode())
    elif entry in ISTIO:
        digest.update(DPKG_STATUS.read_bytes() + mesh.inputs().encode())
    elif entry in AGGREGATOR:
        digest.update(f"{build.built_path('sample-apiserver')} {build.built_path('controlplane')}".encode())
    else:
        digest.update(DPKG_STATUS.read_bytes())
        digest.update(f"{targets.kubernetes_version()} {build.built_path('agnhost')}".encode())
    return digest.hexdigest()[:32]


def open_store() -> ImageStore:
    """The user's image store."""
    return ImageStore(cache_dir() / "images")


def build_image(entry: CatalogEntry, store: ImageStore, kitchen: Kitchen, out: TextIO | None = None) -> BuiltImage:
    """The image of `entry`, from the store when its inputs are unchanged. Says on `out` (stderr) what it builds."""
    key = f"{entry.recipe}-{fingerprint(entry)}"
    image = store.recall(key)
    if image is None:
        started = time.monotonic()
        image = kitchen.make(entry.recipe)
        store.remember(key, image)
        size = sum(part.size_bytes for part in image.parts) / 1e6
        print(
            f"image {entry.recipe}: built, {size:.1f} MB in {time.monotonic() - started:.1f} s",
            file=out or sys.stderr,
            flush=True,
        )
    return image


def ensure_pushed(registry: str, only: str | None = None, out: TextIO | None = None) -> int:
    """Build what is missing and push what `registry` (host:port) lacks; how many references were pushed."""
    out = out or sys.stderr
    store = open_store()
    kitchen = Kitchen(store)
    client = RegistryClient(registry)
    client.ping()
    known: dict[str, str] = {}
    pushed = 0
    with file_lock(store.directory / "build.lock", "another build of images is running, waiting for it", out):
        for entry in select_entries(only):
            image = build_image(entry, store, kitchen, out)
            for reference in entry.references:
                if push_image(client, reference, image, store, known):
                    pushed += 1
                    print(f"image {registry}/{reference}: pushed", file=out, flush=True)
        if pushed:
            store.remove_unused()
    return pushed


def write_image_archive(recipe: str, reference: str, output: Path) -> None:
    """Write the image of a recipe as an OCI archive that containerd imports as `reference`."""
    known = {entry.recipe: entry for entry in (*CATALOG, *AGGREGATOR, *ISTIO)}
    if recipe not in known:
        raise ClusterError(f"no image {recipe}", f"one of: {', '.join(known)}")
    store = open_store()
    image = build_image(known[recipe], store, Kitchen(store))
    blobs = {part.digest: store.blob_path(part.digest) for part in (image.manifest, *image.parts)}
    write_archive(output, reference, image.manifest, blobs)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("build", "build into the cache"), ("push", "build and push to a registry")):
        command = commands.add_parser(name, help=text)
        parts = ("sample", "e2e", "mesh", "aggregator", *(entry.recipe for entry in (*CATALOG, *AGGREGATOR, *ISTIO)))
        command.add_argument(
            "--only", choices=parts, help="a part, or one image; default all but the aggregator's, Istio's"
        )
        if name == "push":
            command.add_argument("--registry", required=True, metavar="HOST:PORT")
    archive = commands.add_parser("archive", help="write one image as an OCI archive")
    archive.add_argument("image")
    archive.add_argument("--name", required=True, metavar="REFERENCE", help="the name it is imported under")
    archive.add_argument("--output", required=True, type=Path)
    listing = commands.add_parser("repo-list", help="print the KUBE_TEST_REPO_LIST file of a registry")
    listing.add_argument("--registry", required=True, metavar="HOST:PORT")
    return parser


def run(options: argparse.Namespace) -> None:
    """Carry out one parsed command."""
    if options.command == "build":
        store = open_store()
        kitchen = Kitchen(store)
        for entry in select_entries(options.only):
            build_image(entry, store, kitchen)
    elif options.command == "push":
        pushed = ensure_pushed(options.registry, options.only)
        print(f"{pushed} images pushed to {options.registry}" if pushed else f"{options.registry} has every image")
    elif options.command == "archive":
        write_image_archive(options.image, options.name, options.output)
    else:
        print(repository_list(options.registry), end="")


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0, or 3 with what went wrong and the next step on stderr."""
    try:
        run(_arguments().parse_args(arguments))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
