# SPDX-License-Identifier: Apache-2.0
# `kit run` on Linux 6.1 with version 2 control groups alone. Its upper layers lie on a tmpfs, and containers get no
# network: that kernel's nftables cannot translate addresses.
load ../e2e/common
load ../e2e/workloads

with_pool='{"network": "none", "drivers": {"devicemapper": {"data_size": "500m", "base_size": "256m"}}}'

setup_file() {
  new_root
  export KIT_CONFIG=${KIT_ROOT%/root}/kit.json
  echo '{"network": "none"}' >"$KIT_CONFIG"
  import_busybox
}

@test "a container runs, commits and runs again" {
  [ "$(kit run --rm busybox sh -c 'echo $$; exit 0')" = 1 ]
  kit run --name maker busybox sh -c 'echo kept >/root/note; rm /bin/vi'
  kit diff maker | grep -x 'D /bin/vi'
  kit commit maker busybox:note
  [ "$(kit run --rm busybox:note cat /root/note)" = kept ]
  kit rm maker
}

@test "limits of memory and processes hold, and are told" {
  run kit run --name hungry -m 32m busybox sh -c 'x=x; while :; do x=$x$x; done'
  [ "$status" -eq 137 ]
  [ "$(kit inspect -f '{{.State.OOMKilled}}' hungry)" = true ]
  kit rm hungry
  run kit run --rm --pids-limit 10 busybox sh -c 'for i in $(seq 30); do sleep 3 & done; echo survived'
  [[ $output == *"can't fork"* ]]
}

@test "a running container is entered, paused, stopped; nothing is left" {
  kit run -d --name service busybox sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
  [ "$(kit exec service hostname)" = "$(kit inspect -f '{{.Config.Hostname}}' service)" ]
  kit pause service
  [ "$(state_of service)" = paused ]
  kit unpause service
  kit stop service
  [ "$(kit inspect -f '{{.State.ExitCode}}' service)" = 3 ]
  kit rm service
  kit system check
  [ -z "$(find /sys/fs/cgroup -path '*/kit-*/*' -type d)" ]
}

@test "a root on this machine's file system, which its own kernel has open too, is refused" {
  local shared
  shared=$(mktemp -d /var/tmp/kit.XXXXXX)
  run kit --root "$shared/root" ps
  rm -rf "$shared"
  [ "$status" -eq 1 ]
  [[ $output == "kit: open records in $shared/root: it is on hostfs"* ]]
}

# limited DRIVER: a container of 8 MiB is refused more, another none.
limited() {
  local fill='dd if=/dev/zero of=/big bs=1M count=32 conv=fsync'
  run kit run --rm --storage "$1" --storage-opt size=8m busybox $fill
  echo "$output"
  [ "$status" -ne 0 ]
  [[ $output == *"Disk quota exceeded"* || $output == *"No space left"* ]]
  kit run --rm --storage "$1" busybox $fill
}

@test "a database, a repository and packages work on devicemapper" {
  echo "$with_pool" >"$KIT_CONFIG"
  import_workloads
  works devicemapper
}

@test "the size of a container is limited: overlayfs by a project quota, devicemapper by its file system" {
  fails_with 125 "overlayfs cannot limit the size" kit run --rm --storage overlayfs --storage-opt size=8m busybox true
  echo "$with_pool" >"$KIT_CONFIG"
  limited devicemapper
  echo '{"network": "none"}' >"$KIT_CONFIG"
  truncate -s 1G "$BATS_FILE_TMPDIR/image"
  mkfs.ext4 -q -O quota,project "$BATS_FILE_TMPDIR/image"
  mkdir "$BATS_FILE_TMPDIR/mnt"
  mount -o loop,prjquota "$BATS_FILE_TMPDIR/image" "$BATS_FILE_TMPDIR/mnt"
  KIT_ROOT=$BATS_FILE_TMPDIR/mnt
  import_busybox
  limited overlayfs
  empty_root
  within 10 umount "$KIT_ROOT"
}
