#!/bin/bash
# Makes the machine it runs on an instance's image. As root, on a fresh Debian 12 or 13, amd64 or arm64:
#
#   build-image.sh vk_provider-VERSION-py3-none-any.whl
#
# The wheel comes from `pip wheel --no-deps .` in a checkout; the files beside this script are installed with it.
set -euo pipefail
wheel=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
containerd=${CONTAINERD_VERSION:-2.1.4}
runc=${RUNC_VERSION:-1.3.0}
cni=${CNI_VERSION:-1.7.1}
arch=$(dpkg --print-architecture)

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends ca-certificates curl python3 python3-venv iproute2 iptables nftables \
  util-linux mount procps e2fsprogs mdadm udev

fetch() { curl -fsSL --retry 5 "$1" -o "$2"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
release=https://github.com/containerd/containerd/releases/download/v$containerd/containerd-$containerd-linux-$arch.tar.gz
fetch "$release" "$work/containerd.tgz"
fetch "$release.sha256sum" "$work/containerd.sum"
(cd "$work" && echo "$(cut -d' ' -f1 containerd.sum)  containerd.tgz" | sha256sum -c)
tar -C /usr/local -xzf "$work/containerd.tgz"
release=https://github.com/opencontainers/runc/releases/download/v$runc
fetch "$release/runc.$arch" "$work/runc"
fetch "$release/runc.sha256sum" "$work/runc.sum"
(cd "$work" && echo "$(awk -v n="runc.$arch" '$2 == n || $2 == "*" n {print $1}' runc.sum)  runc" | sha256sum -c)
install -m 0755 "$work/runc" /usr/local/sbin/runc
release=https://github.com/containernetworking/plugins/releases/download/v$cni/cni-plugins-linux-$arch-v$cni.tgz
fetch "$release" "$work/cni.tgz"
fetch "$release.sha256" "$work/cni.sum"
(cd "$work" && echo "$(cut -d' ' -f1 cni.sum)  cni.tgz" | sha256sum -c)
mkdir -p /opt/cni/bin
tar -C /opt/cni/bin -xzf "$work/cni.tgz"

python3 -m venv /opt/vk-provider
/opt/vk-provider/bin/pip install --no-cache-dir "$wheel"
/opt/vk-provider/bin/python -m compileall -q /opt/vk-provider/lib

install -D -m 0644 "$here/containerd.toml" /etc/containerd/config.toml
install -D -m 0644 "$here/containerd.service" /etc/systemd/system/containerd.service
install -D -m 0644 "$here/vk-agent.service" /etc/systemd/system/vk-agent.service
install -D -m 0755 "$here/instance-store.sh" /usr/local/sbin/vk-instance-store
install -D -m 0644 "$here/vk-instance-store.service" /etc/systemd/system/vk-instance-store.service
install -D -m 0755 "$here/image-store.sh" /usr/local/sbin/vk-image-store
install -D -m 0644 "$here/vk-image-store.service" /etc/systemd/system/vk-image-store.service
install -D -m 0644 "$here/vk-image-builder.service" /etc/systemd/system/vk-image-builder.service
install -D -m 0644 "$here/vk-nvidia-cdi.service" /etc/systemd/system/vk-nvidia-cdi.service
install -D -m 0644 "$here/sysctl.conf" /etc/sysctl.d/90-vk-agent.conf
install -D -m 0644 "$here/networkd.network" /etc/systemd/network/10-vk-primary.network
install -D -m 0644 "$here/README.md" /usr/share/doc/vk-provider/README.md

systemctl enable systemd-networkd vk-instance-store vk-image-store vk-image-builder vk-nvidia-cdi containerd vk-agent
# Updates come with the next image: an instance lives as long as its pod.
systemctl mask apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service mdmonitor.service

systemctl daemon-reload
systemctl restart containerd
pause=$(awk -F'"' '/sandbox = /{print $2}' /etc/containerd/config.toml)
ctr -n k8s.io images pull "$pause" > /dev/null
ctr -n k8s.io images label "$pause" io.cri-containerd.image=managed io.cri-containerd.pinned=pinned > /dev/null
systemctl stop containerd

# Nothing may run what user data say: they are the agent's. And nothing may configure the pod's address. Last, as the
# network may go with it.
for package in cloud-init amazon-ec2-net-utils netplan.io ifupdown; do
  apt-get purge -y "$package" || true
done
rm -rf /etc/network/interfaces /etc/network/interfaces.d /etc/netplan

# What would make two instances alike.
rm -rf /var/lib/vk-agent /run/vk-agent /etc/cni/net.d/* /var/lib/systemd/random-seed /etc/ssh/ssh_host_* /root/.ssh
truncate -s 0 /etc/machine-id
apt-get clean
echo "done: make an image of this machine (aws ec2 create-image), as README.md says"
