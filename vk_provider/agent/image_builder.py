"""Makes a prepared image store on a builder: an instance without an agent and without a pod (wire.imagebuild).

    python -m vk_provider.agent.image_builder ORDER

A new file system on the volume that has none gets what the machine image has below containerd's root; a containerd of
its own pulls the images into it, by their digests and without credentials. When the file system is unmounted the
console says so. Nothing of an image is run here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vk_provider.agent.network import NetworkError, write_registry_hosts
from vk_provider.wire.imagebuild import (
    BASE_SIZE_FILE,
    LABEL,
    STORE_DIRECTORY,
    BuildAnswer,
    BuildOrder,
    Cause,
    find_uuid,
)

log = logging.getLogger(__name__)

VOLUMES = Path("/dev/disk/by-id")
VOLUME_LINK = "nvme-Amazon_Elastic_Block_Store_*"
XEN_DEVICE = Path("/dev/xvdf")
CONTENT = Path("io.containerd.content.v1.content/blobs/sha256")
COMMAND_S, PULL_S, SOCKET_S = 120.0, 3600.0, 30.0
REPEATS = 3
"""Of the answer's line: the kernel may write into the middle of one."""
FREE_PERCENT = 2
"""Of the file system: with less a pull has failed for the lack of room, whatever it says."""
_REFUSED = re.compile(
    r"(?<![\w.:])40[13]\b|unauthorized|denied|insufficient_scope|authorization failed|(?<!command )not found"
)
_DIGITS = re.compile(r"[0-9a-f]{12,}")
"""Of a digest: a number in it is no status."""
_CONFIG = re.compile(r"sha256:[0-9a-f]{64}")
_FULL = "no space left"
_CORRUPT = "digest"
_CRI_LABEL = "io.cri-containerd.image=managed"


class BuildError(Exception):
    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause: Cause = cause


@dataclass(frozen=True, slots=True)
class Machine:
    """device: of the store to be; mount: where it is mounted; base: containerd's root of the machine image, whose own
    containerd does not run; work: for sockets and temporary files."""

    device: Path
    mount: Path
    base: Path
    work: Path


def build(order: BuildOrder, machine: Machine) -> int:
    """Make the store; returns the bytes that its images take. Raises BuildError. It is unmounted in any case."""
    run("mkfs.ext4", "-q", "-F", "-L", LABEL, "-U", find_uuid(order.nonce), "-m", "0", str(machine.device))
    machine.mount.mkdir(parents=True, exist_ok=True)
    run("mount", "-o", "noatime", str(machine.device), str(machine.mount))
    try:
        root = machine.mount / STORE_DIRECTORY
        run("cp", "-a", str(machine.base), str(root))
        base_bytes = used_bytes(machine.mount)
        (machine.mount / BASE_SIZE_FILE).write_text(f"{base_bytes}\n")
        hosts = machine.work / "certs.d"
        hosts.mkdir()
        try:
            write_registry_hosts({host: _options(each) for host, each in order.registries.items()}, hosts)
        except NetworkError as error:
            raise BuildError("failed", str(error)) from None
        with run_containerd(root, machine.work) as address:
            ctr = ("ctr", "--address", address, "--namespace", "k8s.io", "images")
            for image in order.images:
                _pull(ctr, hosts, image.reference, image.digest, machine.mount)
                _name_as_cri(ctr, image.reference, image.digest, root / CONTENT)
        size = max(1, used_bytes(machine.mount) - base_bytes)
        if size > order.max_bytes:
            raise BuildError("full", f"{size} bytes unpacked, {order.max_bytes} are allowed")
        return size
    except OSError as error:
        raise BuildError("full" if error.errno == 28 else "failed", str(error)) from None
    finally:
        run("umount", str(machine.mount))


def _options(host: Any) -> dict[str, Any]:
    return {"server": host.server, "plain_http": host.plain_http}


def _pull(ctr: Sequence[str], hosts: Path, reference: str, digest: str, mount: Path) -> None:
    pinned = pin(reference, digest)
    # The manifests of an index for other platforms are not fetched, as by CRI.
    pull = (*ctr, "pull", "--hosts-dir", str(hosts), "--skip-metadata", pinned)
    try:
        run(*pull, limit_s=PULL_S)
    except BuildError as error:
        raise BuildError(find_cause(str(error), is_full(mount)), f"{pinned}: {error}") from None


def pin(reference: str, digest: str) -> str:
    """The name of a canonical reference by its digest."""
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return f"{repository if colon and '/' not in tag else name}@{digest}"


def find_cause(message: str, full: bool) -> Cause:
    """Of a pull that has failed. A registry that is not reached is not one that refuses."""
    text = _DIGITS.sub("", message.lower())
    if full or _FULL in text:
        return "full"
    if _REFUSED.search(text):
        return "refused"
    return "corrupt" if _CORRUPT in text and ("unexpected" in text or "mismatch" in text) else "failed"


def _name_as_cri(ctr: Sequence[str], reference: str, digest: str, content: Path) -> None:
    """CRI keeps an image under its reference, under its digest and under its ID, the digest of its configuration."""
    pinned = pin(reference, digest)
    config = find_config(digest.removeprefix("sha256:"), content)
    for name in dict.fromkeys((pinned, reference, *([config] if config else []))):
        if name != pinned:
            run(*ctr, "tag", "--force", pinned, name)
        run(*ctr, "label", name, _CRI_LABEL)


def find_config(digits: str, content: Path) -> str:
    """The configuration's digest; "" where an index has several manifests here: CRI finds it by itself. What is there
    is of its digest; that it is a manifest is no matter of trust: containerd has unpacked it."""
    try:
        document = json.loads((content / digits).read_bytes())
        if "config" in document:
            config = str(document["config"]["digest"])
            if not _CONFIG.fullmatch(config):  # containerd may read another key of the same name
                raise ValueError(config)
            return config
        inner = [str(entry["digest"]).removeprefix("sha256:") for entry in document["manifests"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BuildError("refused", f"sha256:{digits} is no manifest") from None
    present = [each for each in inner if each.isalnum() and (content / each).is_file()]
    return find_config(present[0], content) if len(present) == 1 else ""


@contextmanager
def run_containerd(root: Path, work: Path) -> Iterator[str]:
    """The address of a containerd without CRI, which has stopped at the end."""
    address = str(work / "c.sock")
    config = work / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{work}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", '
        '"io.containerd.cri.v1.runtime"]\n'
        f'[grpc]\n  address = "{address}"\n[ttrpc]\n  address = "{address}.ttrpc"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{work}/opt"\n'
    )
    with open(work / "containerd.log", "wb") as output:
        process = subprocess.Popen(["containerd", "--config", str(config)], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SOCKET_S
        while not os.path.exists(address):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = (work / "containerd.log").read_text(errors="replace").splitlines()
                raise BuildError("failed", f"containerd does not start: {lines[-1] if lines else 'no output'}")
            time.sleep(0.02)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def used_bytes(directory: Path) -> int:
    os.sync()
    status = os.statvfs(directory)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def is_full(directory: Path) -> bool:
    status = os.statvfs(directory)
    return status.f_bavail * 100 < status.f_blocks * FREE_PERCENT


def run(*argv: str, limit_s: float = COMMAND_S) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, check=False, errors="replace")
    except FileNotFoundError:
        raise BuildError("failed", f"{argv[0]}: command not found") from None
    except subprocess.TimeoutExpired:
        raise BuildError("failed", f"{argv[0]}: no end after {limit_s:g} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise BuildError(
            "failed", f"{argv[0]}: {lines[-1].strip()[-300:] if lines else f'exit code {done.returncode}'}"
        )


def find_device() -> Path:
    """The one volume without anything on it. Raises BuildError."""
    found = {path.resolve() for path in (*VOLUMES.glob(VOLUME_LINK), XEN_DEVICE) if path.is_block_device()}
    blank = []
    for path in sorted(found):
        has_partitions = any(Path("/sys/block", path.name).glob(f"{path.name}*"))
        probed = subprocess.run(["blkid", "-p", str(path)], capture_output=True, check=False)
        if not has_partitions and probed.returncode == 2:  # nothing, as EC2 gives it
            blank.append(path)
    if len(blank) != 1:
        raise BuildError("failed", f"{len(blank)} of {len(found)} volumes are blank, not one")
    return blank[0]


def answer(order: BuildOrder, device: Path | None, base: Path, work: Path) -> BuildAnswer:
    """Carry the order out."""
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True, mode=0o700)
        machine = Machine(device or find_device(), work / "mount", base, work)
        return BuildAnswer(build(order, machine))
    except BuildError as error:
        return BuildAnswer(0, error.cause, str(error)[:500])
    except Exception as error:  # without an answer the provider would wait for the builder's limit
        log.exception("the order is not carried out")
        return BuildAnswer(0, "failed", f"{type(error).__name__}: {error}"[:500])
    finally:
        shutil.rmtree(work / "state", ignore_errors=True)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="image_builder", description=__doc__)
    parser.add_argument("order", type=Path)
    parser.add_argument("--device", type=Path, help="of the store to be; without it, the blank volume")
    parser.add_argument("--base", type=Path, default=Path("/var/lib/containerd"))
    parser.add_argument("--work", type=Path, default=Path("/run/vk-image-builder"))
    parser.add_argument("--console", type=Path, default=Path("/dev/console"))
    parser.add_argument("--stay", action="store_true", help="do not turn the machine off at the order's limit")
    given = parser.parse_args(list(argv))
    logging.basicConfig(level=logging.INFO)
    try:
        order = BuildOrder.from_user_data(given.order.read_text())
    except (OSError, ValueError) as error:
        log.error("%s", error)
        order = None
    if not given.stay:
        minutes = -(-order.limit_s // 60) if order is not None else 1
        subprocess.run(["shutdown", "-P", f"+{minutes}"], check=False)
    if order is None:
        return 1
    line = answer(order, given.device, given.base, given.work).to_line(order.nonce)
    log.info("%s", line)
    with given.console.open("a") as console:
        for _ in range(REPEATS):
            console.write(f"\n{line}\n")
            console.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
