"""The script of the machine image that puts images and pods on the instance store disks: with real block devices (loop
devices of sparse files), file systems and mounts in a mount namespace, and a metadata service on loopback.

This machine's kernel may have no software RAID: `mdadm` is a program of the test, which makes the array's name one of
the disk's and writes down how it was called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vk_provider.agent.instance_store import read_failure
from vk_provider.cloud.aws.instancestore import add_store
from vk_provider.wire.bootdata import BootData

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).parents[3] / "manifests" / "aws" / "instance-store.sh"
MIB = 2**20
DISK = 64 * MIB
USABLE = DISK // 100 * 97
PLAIN = BootData("CA", "00ff").to_user_data()
LINK = "nvme-Amazon_EC2_NVMe_Instance_Storage_AWS0123456789ABCDEF"
MDADM = """#!/bin/bash
echo "$@" >> "$ROOT/mdadm.log"
[[ $1 == --create ]] || exit 1
{then}
ln -s "${@: -1}" "$2"
"""


@dataclass
class Machine:
    """A root directory with the disks of an instance. user_data: what its metadata service says, None for nothing."""

    root: Path
    user_data: str | None = None
    loops: list[str] = field(default_factory=list)
    script: Path = SCRIPT
    state_name: str = "instance-store"

    def add_disk(self, name: str = LINK) -> str:
        """Attach one, with the two links that udev makes of it."""
        image = self.root.parent / f"disk-{len(self.loops)}"
        with image.open("wb") as file:
            file.truncate(DISK)
        found = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
        loop = found.stdout.strip()
        self.loops.append(loop)
        for link in (f"{name}{len(self.loops)}", f"{name}{len(self.loops)}_1"):
            (self.root / "by-id" / link).symlink_to(loop)
        return loop

    def add_mdadm(self, then: str = "") -> None:
        path = self.root / "bin" / "mdadm"
        path.write_text(MDADM.replace("{then}", then))
        path.chmod(0o755)

    def boot(self, then: str = "", reboot: bool = False) -> str:
        """Run the script as at a boot, and `then` where it has mounted; returns what `then` says."""
        if reboot:
            (self.root / "run/vk-agent" / self.state_name).unlink()
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "ROOT": str(self.root),
            "BY_ID": str(self.root / "by-id"),
            "ARRAY": str(self.root / "array"),
            "METADATA": self.metadata_url,
        }
        script = f"bash {self.script}; code=$?; cd $ROOT; {then or 'true'}; exit $code"
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.code, self.errors = done.returncode, done.stderr
        return done.stdout

    @property
    def metadata_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def state(self) -> str:
        return (self.root / "run/vk-agent" / self.state_name).read_text().strip()

    def serve(self) -> None:
        machine = self

        class Metadata(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.answer(200, "token")

            def do_GET(self) -> None:
                has_token = self.headers.get("X-aws-ec2-metadata-token") == "token"
                if machine.user_data is None or self.path != "/latest/user-data" or not has_token:
                    self.answer(404, "")
                else:
                    self.answer(200, machine.user_data)

            def answer(self, code: int, text: str) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: object) -> None:
                """Nothing is said."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for loop in self.loops:
            subprocess.run(["losetup", "-d", loop], check=True)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "root", add_store(PLAIN, USABLE))
    for name in ("by-id", "bin", "var/lib/containerd/images"):
        (made.root / name).mkdir(parents=True)
    (made.root / "var/lib/containerd/images/pause").write_text("the sandbox image")
    made.serve()
    try:
        yield made
    finally:
        made.close()


WHERE = "for d in var/lib/containerd var/lib/kubelet var/lib/vk-agent/blobs var/log/pods; do stat -c %d $d; done"


def test_one_disk_holds_images_volumes_logs_and_blobs_with_what_the_image_had(machine: Machine) -> None:
    machine.add_disk()
    said = machine.boot(f"{WHERE}; cat var/lib/containerd/images/pause; df -B1 --output=size mnt/instance-store")
    assert machine.code == 0, machine.errors
    lines = said.splitlines()
    assert lines[0].startswith("instance store: used: 1 disk(s), ") and machine.state.startswith("used: 1 disk(s)")
    assert len(set(lines[1:5])) == 1 and lines[1] != str(machine.root.stat().st_dev), "all are on the one disk"
    assert lines[5].startswith("the sandbox image")
    assert read_failure(machine.root / "run/vk-agent/instance-store") == ""
    assert not (machine.root / "mdadm.log").exists()


def test_several_disks_are_joined_to_one_array(machine: Machine) -> None:
    machine.add_mdadm()
    disks = [machine.add_disk() for _ in range(3)]
    machine.user_data = add_store(PLAIN, 3 * USABLE)
    said = machine.boot("findmnt -n -o SOURCE mnt/instance-store")
    assert machine.code == 0, machine.errors
    assert machine.state.startswith("used: 3 disk(s)") and said.splitlines()[-1] == disks[-1]
    calls = (machine.root / "mdadm.log").read_text().splitlines()
    assert calls[0].split()[:2] == ["--assemble", "--quiet"], "an array of before a reboot would be taken"
    words = calls[1].split()
    assert words[:2] == ["--create", str(machine.root / "array")]
    assert {"--level=0", "--raid-devices=3", "--run", "--force"} <= set(words) and words[-3:] == sorted(disks)


def test_a_reboot_finds_what_the_pod_has_and_a_stop_has_lost_it(machine: Machine) -> None:
    loop = machine.add_disk()
    machine.boot("echo mine > var/lib/kubelet/file; echo pulled > var/lib/containerd/images/app")
    machine.user_data = None  # nothing is asked of the metadata then
    said = machine.boot("cat var/lib/kubelet/file var/lib/containerd/images/*", reboot=True)
    assert machine.code == 0 and said.splitlines()[1:] == ["mine", "pulled", "the sandbox image"]
    with open(loop, "wb") as disk:  # EC2 gives an instance that was stopped empty disks
        disk.write(bytes(DISK))
    machine.user_data = add_store(PLAIN, USABLE)
    said = machine.boot("ls var/lib/kubelet; cat var/lib/containerd/images/*", reboot=True)
    assert machine.code == 0 and said.splitlines()[1:] == ["the sandbox image"]


def test_a_second_run_since_the_boot_does_nothing(machine: Machine) -> None:
    machine.add_disk()
    again = f"echo kept > var/lib/kubelet/file; bash {SCRIPT}; cat var/lib/kubelet/file"
    assert machine.boot(again).splitlines()[-1] == "kept" and machine.code == 0


@pytest.mark.parametrize(
    ("disks", "user_data", "state"),
    [
        (0, None, "unused: there are no disks"),
        (1, PLAIN, "unused: it is not asked for"),
        (1, add_store(PLAIN, USABLE + 100), f"unused: the disks hold {USABLE} bytes of files, and {USABLE + 100} "),
    ],
)
def test_disks_are_left_alone_where_they_are_not_asked_for_or_too_small(
    machine: Machine, disks: int, user_data: str | None, state: str
) -> None:
    loops = [machine.add_disk() for _ in range(disks)]
    machine.user_data = user_data
    here = machine.boot(WHERE).splitlines()[1:]
    assert machine.code == 0 and machine.state.startswith(state)
    assert "var/lib/kubelet" not in machine.state and set(here) == {str(machine.root.stat().st_dev)}
    for loop in loops:
        assert subprocess.run(["blkid", "-p", loop], capture_output=True, check=False).returncode == 2, "untouched"
    assert read_failure(machine.root / "run/vk-agent/instance-store") == ""


def test_disks_of_another_kind_are_never_touched(machine: Machine) -> None:
    loop = machine.add_disk("nvme-Amazon_Elastic_Block_Store_vol0")
    part = machine.root / "by-id" / f"{LINK}-part1"
    part.symlink_to(loop)
    machine.boot()
    assert machine.state == "unused: there are no disks"


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        ("mkfs.ext4", "cannot make a file system on "),
        ("mdadm", "cannot join 2 disks"),
        ("mount", "cannot move /var/lib/kubelet"),
    ],
)
def test_a_failure_leaves_all_on_the_root_volume_and_says_why(machine: Machine, broken: str, failure: str) -> None:
    machine.add_mdadm("exit 1" if broken == "mdadm" else "")
    machine.add_disk()
    machine.add_disk()
    if broken == "mkfs.ext4":
        (machine.root / "bin" / broken).write_text("#!/bin/bash\necho no space on the moon >&2; exit 1\n")
    elif broken == "mount":
        real = shutil.which("mount")
        (machine.root / "bin" / broken).write_text(
            f'#!/bin/bash\n[[ "$*" == *lib/kubelet ]] && exit 32\nexec {real} "$@"\n'
        )
    (machine.root / "bin" / broken).chmod(0o755)
    said = machine.boot(f"{WHERE}; cat var/lib/containerd/images/pause; findmnt -n mnt/instance-store")
    assert machine.code == 1
    assert read_failure(machine.root / "run/vk-agent/instance-store").startswith(failure), machine.state
    lines = [line for line in said.splitlines() if line.isdigit()]
    assert set(lines) == {str(machine.root.stat().st_dev)}, "no directory is mounted"
    assert said.endswith("the sandbox image"), "nor is the disk"


def test_a_reboot_after_a_failure_does_not_bring_back_what_was_copied_before_it(machine: Machine) -> None:
    machine.add_disk()
    broken, real = machine.root / "bin" / "mount", shutil.which("mount")
    broken.write_text(f'#!/bin/bash\n[[ "$*" == *lib/kubelet ]] && exit 32\nexec {real} "$@"\n')
    broken.chmod(0o755)
    machine.boot("echo since > var/lib/containerd/images/app")
    assert machine.code == 1
    broken.unlink()
    said = machine.boot("cat var/lib/containerd/images/app", reboot=True)
    assert machine.code == 0 and said.splitlines()[1:] == ["since"]


def test_disks_with_something_on_them_are_not_formatted(machine: Machine) -> None:
    loop = machine.add_disk()
    subprocess.run(["mkfs.ext4", "-q", "-L", "somebodys", loop], check=True)
    machine.boot()
    assert machine.code == 1 and machine.state == "failed: cannot use the disks: there is something on them"
    label = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "LABEL", loop], capture_output=True, text=True, check=True
    )
    assert label.stdout.strip() == "somebodys"


def test_too_little_on_either_side_is_a_failure(machine: Machine) -> None:
    """The root volume was made small, because the type was said to have larger disks."""
    machine.add_disk()
    small = machine.root / "bin" / "df"
    small.write_text("#!/bin/bash\necho 1B-blocks; echo 1000\n")
    small.chmod(0o755)
    machine.user_data = add_store(PLAIN, USABLE + 100)
    machine.boot()
    assert machine.code == 1 and machine.state.startswith(f"failed: cannot find {USABLE + 100} bytes")


def test_a_metadata_service_that_does_not_answer_is_a_failure(machine: Machine, tmp_path: Path) -> None:
    impatient = tmp_path / "script.sh"
    impatient.write_text(SCRIPT.read_text().replace("{1..60}", "{1..2}"))
    machine.script = impatient
    machine.add_disk()
    machine.user_data = None
    machine.boot()
    assert machine.code == 1 and machine.state == "failed: cannot read the user data"
