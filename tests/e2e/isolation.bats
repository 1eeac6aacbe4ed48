# SPDX-License-Identifier: Apache-2.0
load common

setup_file() {
  new_root
  import_busybox
  kit run -d --name box -m 64m busybox sleep 1000
}

in_box() { kit exec box "$@"; }

@test "namespaces of its own: pid mnt net uts ipc cgroup" {
  local pid kind
  pid=$(pid_of box)
  for kind in pid mnt net uts ipc cgroup; do
    [ "$(readlink "/proc/$pid/ns/$kind")" != "$(readlink "/proc/self/ns/$kind")" ] || { echo "$kind is shared"; return 1; }
    [ "$(in_box readlink "/proc/1/ns/$kind")" = "$(readlink "/proc/$pid/ns/$kind")" ] || { echo "exec has another $kind"; return 1; }
  done
}

@test "from inside: no process, mount or file of the host" {
  [ "$(in_box sh -c 'ls -d /proc/[0-9]* | wc -l')" -le 4 ]
  [ "$(in_box sh -c 'cat /proc/1/comm')" = sleep ]
  run in_box awk '{print $2}' /proc/mounts
  [ -z "$(grep -vE '^/($|(proc|sys|dev)(/|$)|etc/(hosts|hostname|resolv.conf)$)' <<<"$output")" ]
  run in_box ls /
  [[ $output != *oldroot* && $output != *.old* ]]
  in_box test ! -e "$KIT_ROOT"
}

@test "from outside: no mount of a running container is visible on the host" {
  [ -z "$(grep -F "$KIT_ROOT" /proc/self/mountinfo)" ]
  [ -z "$(grep -F "$KIT_RUN_DIR" /proc/self/mountinfo)" ]
  # The log and records are files; the root file system is seen through the process alone.
  [ "$(cat "/proc/$(pid_of box)/root/etc/group" | wc -l)" -eq 3 ]
}

@test "capabilities are Docker's default ones, and no new privileges" {
  run in_box sh -c 'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status'
  [[ $output == *$'CapEff:\t00000000a80425fb'* ]]
  [[ $output == *$'CapBnd:\t00000000a80425fb'* ]]
  [[ $output == *$'Seccomp:\t2'* ]]
  run kit run --rm --cap-drop ALL --cap-add CHOWN busybox grep CapEff /proc/self/status
  [[ $output == *$'\t0000000000000001' ]]
  run kit run --rm -u guest busybox grep CapEff /proc/self/status
  [[ $output == *$'\t0000000000000000' ]]
}

@test "what the kernel offers to break out with is refused or hidden" {
  local try
  for try in 'mount -t tmpfs none /tmp' 'hostname other' 'echo b >/proc/sysrq-trigger' \
    'echo 1 >/proc/sys/kernel/panic' 'mknod /tmp/disk b 8 0 && cat /tmp/disk' 'unshare -m true' \
    'echo /x >/proc/sys/kernel/core_pattern' 'mkdir /sys/fs/cgroup/x' 'chroot /proc/1/root/../../.. true && false'; do
    run in_box sh -c "$try"
    [ "$status" -ne 0 ] || { echo "allowed: $try"; return 1; }
  done
  [ "$(in_box sh -c 'cat /proc/kcore 2>/dev/null | head -c 1 | wc -c')" -eq 0 ]
  [ "$(in_box sh -c 'ls /sys/firmware 2>/dev/null | wc -l')" -eq 0 ]
}

@test "devices: the usual ones, and they work" {
  run in_box sh -c 'echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && test -c /dev/full && ls -l /dev/fd /dev/stdin | wc -l'
  [ "$output" = $'4\n4\n2' ]
  run in_box sh -c 'ls /dev | grep -E "^(sd|vd|nvme|loop|mem|kmsg|dm)"'
  [ -z "$output" ]
  in_box sh -c 'df /dev/shm | grep -q 65536'
}

@test "no descriptor of kit's or the caller's reaches the program" {
  exec 57</etc/passwd
  run kit run --rm busybox sh -c 'ls /proc/self/fd'
  exec 57<&-
  [ "$(echo $output)" = "0 1 2 3" ]
}

@test "privileged lifts the filter and the masks" {
  run kit run --rm --privileged busybox sh -c 'mount -t tmpfs none /srv && grep Seccomp: /proc/self/status'
  [ "$status" -eq 0 ]
  [[ $output == *$'\t0' ]]
}

@test "two containers see neither each other's processes nor files" {
  kit run -d --name neighbour busybox sh -c 'echo secret >/secret; exec sleep 1001'
  within 5 kit exec neighbour test -s /secret
  in_box test ! -e /secret
  [ -z "$(in_box ps | grep 1001)" ]
  kit rm -f neighbour
}
