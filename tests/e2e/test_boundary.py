"""A privileged pod on the cloud `local` is root of its instance and nobody on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace
from vk_provider.cloud.local.boot import PREPARED

pytestmark = pytest.mark.real

SHARED = f"cut -d' ' -f5 /proc/self/mountinfo | grep '^/host{PREPARED}$' | sort -u"
"""The layers of the images that all instances share."""


def privileged(namespace: Namespace, name: str) -> dict[str, object]:
    return pod(
        name,
        container(
            namespace.nodeless.image,
            SLEEP,
            securityContext={"privileged": True},
            volumeMounts=[{"name": "host", "mountPath": "/host"}],
        ),
        volumes=[{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}],
        hostPID=True,
    )


def test_a_privileged_pod_with_the_instances_root_changes_no_image_and_reads_no_file_of_the_machine(
    namespace: Namespace,
) -> None:
    namespace.apply(privileged(namespace, "attacker"), privileged(namespace, "neighbour"))
    for name in ("attacker", "neighbour"):
        namespace.wait_ready(name)
    assert namespace.execute("neighbour", SHARED).stdout.split(), "no directory is shared"
    listing = f"find $({SHARED}) -type f -exec stat -c '%n %a %u %Y %s' {{}} + | sort"
    before = namespace.execute("neighbour", listing).stdout
    assert before.count("\n") >= 1
    device = os.stat("/").st_dev
    script = f"""
    for f in $(find $({SHARED}) -type f | head -50); do
      echo evil >> $f && echo written; touch -d @1 $f && echo touched; chmod 600 $f && echo mode
      chattr +i $f && echo flags; rm -f $f && echo removed
    done
    for d in $({SHARED}); do touch $d/new && echo made; mount -o remount,bind,rw $d && echo remounted; done
    mknod /disk b {os.major(device)} {os.minor(device)} && dd if=/disk of=/dev/null bs=512 count=1 && echo device
    echo x > /proc/sys/kernel/core_pattern && echo pattern
    cat /host/etc/shadow /host/etc/vk-provider/* /host/etc/kubernetes/* /host/root/.ssh/* && echo secret
    """
    # Each attack that succeeds says a word.
    assert namespace.execute("attacker", f"({script}) 2>/dev/null; true").stdout == ""
    assert namespace.execute("neighbour", listing).stdout == before
    assert not Path("/host").exists()
