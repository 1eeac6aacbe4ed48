# SPDX-License-Identifier: Apache-2.0
# Containers on the file systems that some storage drivers need: one of its own for each test, in this file's own mount
# namespace.
load common
load workloads

setup_file() { :; }

# on TYPE: a root on a new file system of that type.
on() {
  new_root
  truncate -s 2G "${KIT_ROOT%/root}/image"
  "mkfs.$1" -q "${KIT_ROOT%/root}/image" >/dev/null 2>&1
  mkdir "$KIT_ROOT"
  mount -o loop "${KIT_ROOT%/root}/image" "$KIT_ROOT" || skip "this kernel has no $1"
  import_busybox
}

teardown() {
  empty_root
  within 10 umount "$KIT_ROOT"
  rm -rf "${KIT_ROOT%/root}"
}
teardown_file() { :; }

# What every driver must do with an image, a container, a commit.
lives() {
  [ "$(kit run --rm --storage "$1" busybox sh -c 'echo written >/file; cat /file')" = written ]
  kit run --name maker --storage "$1" busybox sh -c 'echo kept >/root/note; rm /etc/group; mkdir -p /a/b'
  [ "$(kit diff maker | sort | tr '\n' ' ')" = 'A /a A /a/b A /root/note C /etc C /root D /etc/group ' ]
  kit commit maker busybox:note
  [ "$(kit run --rm --storage "$1" busybox:note sh -c 'cat /root/note; ls /etc/group 2>/dev/null')" = kept ]
  [ "$(kit run --rm --storage overlayfs busybox:note cat /root/note)" = kept ]
  kit rm maker
  kit rmi busybox:note
  kit system check
}

@test "btrfs: containers live on subvolumes, and leave none" {
  on btrfs
  lives btrfs
  kit rmi busybox
  kit system check
  [ -z "$(btrfs subvolume list "$KIT_ROOT")" ]
}

@test "btrfs: the size of a container is limited once quotas are on" {
  on btrfs
  fails_with 125 "btrfs cannot limit the size" kit run --rm --storage btrfs --storage-opt size=8m busybox true
  btrfs quota enable "$KIT_ROOT"
  kit run --name small --storage btrfs --storage-opt size=8m busybox true
  [ "$(kit inspect -f '{{.HostConfig.StorageOpt.size}}' small)" = 8m ]
  run kit run --rm --storage btrfs --storage-opt size=8m busybox dd if=/dev/zero of=/big bs=1M count=64 conv=fsync
  [ "$status" -ne 0 ]
  [[ $output == *"Disk quota exceeded"* || $output == *"No space left"* ]]
  [ "$(kit run --rm --storage btrfs busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null; stat -c %s /big')" = 33554432 ]
}

@test "reflink: containers live on clones, on xfs and btrfs" {
  local type
  for type in xfs btrfs; do
    on "$type"
    lives reflink
    if [[ $type == xfs ]]; then teardown; fi
  done
}

@test "a database, a repository and packages work on overlayfs, vfs and btrfs" {
  on btrfs
  import_workloads
  works btrfs
  works overlayfs
  works vfs
}

@test "a database, a repository and packages work on reflink" {
  on xfs
  import_workloads
  works reflink
}
