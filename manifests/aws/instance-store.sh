#!/bin/bash
# Puts images, logs and what pods write on the instance store disks (NVMe), joined to one where there are several. Runs
# before containerd. EC2 clears these disks when the instance stops or ends, not when it reboots: then they are found.
#
# The user data say whether: BootData.extra.instanceStore.leastBytes. Without it, or where the disks hold less than
# that, they are left alone. On any failure everything stays on the root volume, and the agent tells the pod's owner.
#
# Exit codes: 0 used, or not asked for; 1 failed. The first line of $STATE says which: "used", "unused" or "failed".
set -euo pipefail
BY_ID=${BY_ID:-/dev/disk/by-id}
ROOT=${ROOT:-}
METADATA=${METADATA:-http://169.254.169.254}
STATE=$ROOT/run/vk-agent/instance-store
STORE=$ROOT/mnt/instance-store
ARRAY=${ARRAY:-/dev/md/instance-store}
LABEL=vk-store
DIRECTORIES=(/var/lib/containerd /var/lib/kubelet /var/lib/vk-agent/blobs /var/log/pods)
USABLE_PERCENT=97 # of a disk, for files: STORE_LOSS of the provider's catalog

step="start"
state() {
  mkdir -p -m 0700 "$(dirname "$STATE")"
  echo "$*" > "$STATE"
  echo "instance store: $*"
}

# Nothing of a half is left: containerd and the agent find the root volume's directories.
give_up() {
  trap - ERR
  set +e
  for directory in "${DIRECTORIES[@]}"; do
    if mountpoint -q "$ROOT$directory"; then umount "$ROOT$directory" || umount -l "$ROOT$directory"; fi
  done
  if mountpoint -q "$STORE"; then umount "$STORE" || umount -l "$STORE"; fi
  if [[ -n ${made:-} ]]; then wipefs -aq "$made"; fi # a reboot must not find what the pod has not
  state "failed: cannot $step"
  exit 1
}
trap 'give_up' ERR

find_disks() {
  local link
  for link in "$BY_ID"/nvme-Amazon_EC2_NVMe_Instance_Storage_*; do
    if [[ $link != *-part[0-9]* && -b $link ]]; then realpath "$link"; fi
  done | sort -u
}

# The instance's own metadata service, with a session token. It may take a moment until there is a network.
read_user_data() {
  local token
  for _ in {1..60}; do
    if token=$(curl -fsS -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$METADATA/latest/api/token") &&
      curl -fsS -m 2 -H "X-aws-ec2-metadata-token: $token" "$METADATA/latest/user-data"; then return 0; fi
    sleep 0.5
  done 2> /dev/null
  return 1
}

has_store() { [[ -b $1 && $(blkid -p -o value -s LABEL "$1" 2> /dev/null || true) == "$LABEL" ]]; }

if [[ -s $STATE ]]; then exit 0; fi # it ran since the boot
if command -v udevadm > /dev/null; then udevadm settle --timeout=10 || true; fi
mapfile -t disks < <(find_disks)
if ((${#disks[@]} == 0)); then
  state "unused: there are no disks"
  exit 0
fi

device=${disks[0]}
if ((${#disks[@]} > 1)); then
  device=$ARRAY
  holders=(/sys/block/"${disks[0]##*/}"/holders/md*)
  if [[ -e ${holders[0]} ]]; then # joined before a reboot, and found by udev since
    device=/dev/${holders[0]##*/}
  elif [[ ! -b $ARRAY ]]; then
    mdadm --assemble --quiet "$ARRAY" "${disks[@]}" 2> /dev/null || true
  fi
fi
if ! has_store "$device"; then
  step="read the user data"
  user_data=$(read_user_data)
  least=$(sed -n 's/.*"instanceStore":{"leastBytes":\([0-9]\{1,18\}\)}.*/\1/p' <<< "$user_data")
  if [[ -z $least ]]; then
    state "unused: it is not asked for"
    exit 0
  fi
  step="read the size of the disks"
  usable=0
  for disk in "${disks[@]}"; do usable=$((usable + $(blockdev --getsize64 "$disk") / 100 * USABLE_PERCENT)); done
  if ((usable < least)); then
    step="find $least bytes: the disks hold $usable, and the root volume is smaller, too"
    root_bytes=$(df --output=size -B1 "${ROOT:-/}" | tail -n 1)
    ((root_bytes >= least / 10 * 9))
    state "unused: the disks hold $usable bytes of files, and $least are needed"
    exit 0
  fi
  step="use the disks: there is something on them"
  for disk in "${disks[@]}"; do
    found=0
    blkid -p "$disk" > /dev/null 2>&1 || found=$?
    ((found == 2)) # nothing, as EC2 gives them
  done
  if ((${#disks[@]} > 1)); then
    step="join ${#disks[@]} disks"
    mdadm --create "$ARRAY" --run --force --quiet --homehost=any --name=instance-store --level=0 \
      --raid-devices=${#disks[@]} "${disks[@]}" 2>&1
  fi
  step="make a file system on $device"
  made=$device
  # The disks are empty: nothing to discard, and inodes and journal need not be cleared before the first use.
  mkfs.ext4 -q -F -L "$LABEL" -m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "$device" 2>&1
fi

step="mount $device"
mkdir -p "$STORE"
mount -t ext4 -o noatime "$device" "$STORE" 2>&1
for directory in "${DIRECTORIES[@]}"; do
  step="move $directory"
  mkdir -p "$ROOT$directory"
  kept=$STORE/$(tr / - <<< "${directory#/}")
  if [[ ! -d $kept ]]; then # with what the machine image has of it, such as the sandbox image
    rm -rf "$kept.part"
    cp -a "$ROOT$directory" "$kept.part"
    mv -T "$kept.part" "$kept"
  fi
  mount --bind "$kept" "$ROOT$directory" 2>&1
done
state "used: ${#disks[@]} disk(s), $(df --output=size -B1 "$STORE" | tail -n 1 | tr -d ' ') bytes"
