#!/bin/bash
# Lets containerd start with the images of a prepared store: an EBS volume of a snapshot that a builder has made. Runs
# after vk-instance-store and before containerd.
#
# The user data say which file system is the store: BootData.extra.imageStore.uuid. The volume is only read: layers are
# links to it, content is an overlay above it, and the small databases are copies. So what the pod writes is where it is
# without a store, on the root volume or on the instance store disks. On any failure containerd starts with what the
# machine image has, and pulls.
#
# On a builder, whose user data are an order (vk_provider.wire.imagebuild), it puts the order where vk-image-builder
# finds it, and does nothing else.
#
# Exit codes: 0 used, or not asked for; 1 failed. The first line of $STATE says which: "used", "unused" or "failed".
set -Eeuo pipefail
BY_ID=${BY_ID:-/dev/disk/by-id}
XEN_DEVICE=${XEN_DEVICE:-/dev/xvdf}
ROOT=${ROOT:-}
METADATA=${METADATA:-http://169.254.169.254}
STATE=$ROOT/run/vk-agent/image-store
ORDER=$ROOT/run/vk-agent/image-order
VOLUME=$ROOT/mnt/image-store
CONTAINERD=$ROOT/var/lib/containerd
MARK=$CONTAINERD/.image-store # the UUID of the store that the links lead to
CONTENT=io.containerd.content.v1.content
SNAPSHOTS=io.containerd.snapshotter.v1.overlayfs/snapshots
shopt -s nullglob

step="start"
state() {
  mkdir -p -m 0700 "$(dirname "$STATE")"
  echo "$*" > "$STATE"
  echo "image store: $*"
}

put_back() { # what the machine image has
  if mountpoint -q "$CONTAINERD/$CONTENT"; then umount "$CONTAINERD/$CONTENT" || umount -l "$CONTAINERD/$CONTENT"; fi
  rm -rf "$CONTAINERD/.part" "$CONTAINERD/.content" "$MARK"
  if [[ -d $CONTAINERD/.old ]]; then rm -rf "${CONTAINERD:?}"/*; fi
  for half in "$CONTAINERD/.old" "$CONTAINERD/.old-part"; do
    if [[ -d $half ]]; then move_all "$half" "$CONTAINERD" && rmdir "$half"; fi
  done
}

move_all() { # FROM TO, but for what begins with a dot
  local entry
  for entry in "$1"/*; do mv -T "$entry" "$2/${entry##*/}"; done
}

give_up() {
  trap - ERR
  set +e
  if [[ -e $MARK && ! -d $CONTAINERD/.old ]]; then rm -rf "${CONTAINERD:?}"/*; fi # links that lead nowhere
  put_back
  if mountpoint -q "$VOLUME"; then umount "$VOLUME" || umount -l "$VOLUME"; fi
  state "failed: cannot $step"
  exit 1
}
trap 'give_up' ERR

# Without the one that the machine has booted from, which has partitions.
find_volumes() {
  local link
  for link in "$BY_ID"/nvme-Amazon_Elastic_Block_Store_* "$XEN_DEVICE"; do
    if [[ $link != *-part[0-9]* && -b $link && ! -e $link-part1 ]]; then realpath "$link"; fi
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

lay_content() {
  mkdir -p "$CONTAINERD/.content/upper" "$CONTAINERD/.content/work" "$CONTAINERD/$CONTENT"
  mount -t overlay overlay "$CONTAINERD/$CONTENT" \
    -o "lowerdir=$store/$CONTENT,upperdir=$CONTAINERD/.content/upper,workdir=$CONTAINERD/.content/work" 2>&1
}

if [[ -s $STATE ]]; then exit 0; fi # it ran since the boot
if command -v udevadm > /dev/null; then udevadm settle --timeout=10 || true; fi
mapfile -t volumes < <(find_volumes)
if ((${#volumes[@]} == 0)) && [[ ! -e $MARK ]]; then
  state "unused: there is no volume"
  exit 0
fi
step="read the user data"
user_data=$(read_user_data)
if [[ $user_data == *'"kind":"ImageBuild"'* ]]; then
  state "unused: this is a builder"
  (umask 077 && printf '%s' "$user_data" > "$ORDER")
  exit 0
fi
uuid=$(sed -n 's/.*"imageStore":{"uuid":"\([0-9a-f-]\{36\}\)"}.*/\1/p' <<< "$user_data")
if [[ -z $uuid ]]; then
  state "unused: it is not asked for"
  exit 0
fi
step="find the volume with the file system $uuid"
device=""
for volume in "${volumes[@]}"; do
  if [[ $(blkid -p -o value -s UUID "$volume" 2> /dev/null || true) == "$uuid" ]]; then device=$volume; fi
done
[[ -n $device ]]
step="mount $device"
mkdir -p "$VOLUME" "$CONTAINERD"
mount -t ext4 -o ro,noload,noatime "$device" "$VOLUME" 2>&1
store=$VOLUME/store
step="read the store on $device"
databases=("$store"/*/*.db)
[[ -d $store/$CONTENT && -d $store/$SNAPSHOTS && ${#databases[@]} -ge 2 ]]

if [[ -e $MARK ]]; then # a reboot
  step="use the store of before the reboot"
  [[ $(< "$MARK") == "$uuid" ]]
  lay_content
  state "used: $uuid"
  exit 0
fi
step="take the store over"
put_back # of a boot that has been cut off
part=$CONTAINERD/.part
mkdir -p "$part/$SNAPSHOTS"
for database in "${databases[@]}"; do
  directory=$part/$(basename "$(dirname "$database")")
  mkdir -p "$directory"
  cp "$database" "$directory/"
done
layers=("$store/$SNAPSHOTS"/*)
if ((${#layers[@]})); then ln -s "${layers[@]}" "$part/$SNAPSHOTS/"; fi
mkdir "$CONTAINERD/.old-part"
move_all "$CONTAINERD" "$CONTAINERD/.old-part"
mv -T "$CONTAINERD/.old-part" "$CONTAINERD/.old"
move_all "$part" "$CONTAINERD"
step="lay the content of the store out"
lay_content
echo "$uuid" > "$MARK"
rm -rf "$CONTAINERD/.old" "$part"
state "used: $uuid"
