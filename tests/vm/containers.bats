# SPDX-License-Identifier: Apache-2.0
# `kit run` on Linux 6.1 with version 2 control groups alone. Its upper layers lie on a tmpfs, and containers get no
# network: that kernel's nftables cannot translate addresses.
load ../e2e/common

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
