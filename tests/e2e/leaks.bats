# SPDX-License-Identifier: Apache-2.0
load common

# What this root could leave on the host, and in its own directories.
inventory() {
  "$BATS_TEST_DIRNAME/../inventory" | grep -v '^process'
  pgrep -f -- "$KIT_ROOT" || true
  find "$KIT_ROOT/containers" "$KIT_RUN_DIR/containers" -mindepth 1 -maxdepth 1 2>/dev/null || true
  # A driver's trash is deleted by whoever comes next: a removal does not wait for it.
  find "$KIT_ROOT"/storage -mindepth 1 -maxdepth 3 -not -path '*/trash/*' 2>/dev/null | sort
}
begin_with_an_inventory() {
  no_process() { ! pgrep -f -- "$KIT_ROOT"; }
  within 30 no_process
  inventory >"$BATS_FILE_TMPDIR/before"
}
# The kernel takes namespaces and links apart after their last process, and a monitor ends after that.
leaves_nothing() {
  settled() {
    inventory >"$BATS_FILE_TMPDIR/after"
    # What others leave late may go meanwhile; nothing may have come.
    diff "$BATS_FILE_TMPDIR/before" "$BATS_FILE_TMPDIR/after" | grep '^>' >"$BATS_FILE_TMPDIR/left"
    [[ ! -s $BATS_FILE_TMPDIR/left ]]
  }
  within 60 settled || { cat "$BATS_FILE_TMPDIR/left"; return 1; }
}

@test "200 runs leave no mount, link, cgroup, process, rule or directory" {
  local i
  kit run --rm busybox true
  begin_with_an_inventory
  for ((i = 0; i < 200; ++i)); do kit run --rm -m 64m --pids-limit 64 busybox true; done
  leaves_nothing
  [ -z "$(kit ps -aq)" ]
}

@test "failed starts leave nothing either" {
  begin_with_an_inventory
  local i
  for ((i = 0; i < 10; ++i)); do
    kit run --rm busybox /no/such || true
    kit run --rm --network absent busybox true || true
    kit run --rm -u nobody-here busybox true || true
  done
  leaves_nothing
}

@test "a monitor that was killed: kit finds the container's end and cleans up" {
  begin_with_an_inventory
  kit run -d --name adopted busybox sleep 1000
  local monitor
  monitor=$(awk '{print $4}' "/proc/$(pid_of adopted)/stat")
  [ "$(cat "/proc/$monitor/comm")" = kit-monitor ]
  kill -9 "$monitor"
  kit rm -f adopted
  leaves_nothing
}

@test "two roots at once do not disturb each other" {
  local first_root=$KIT_ROOT first_run=$KIT_RUN_DIR
  new_root
  import_busybox
  kit run -d --name same busybox sleep 1000
  local second
  second=$(kit inspect -f '{{.NetworkSettings.IPAddress}}' same)
  KIT_ROOT=$first_root KIT_RUN_DIR=$first_run kit run -d --name same busybox sleep 1000
  [ "$(KIT_ROOT=$first_root KIT_RUN_DIR=$first_run kit inspect -f '{{.NetworkSettings.IPAddress}}' same)" != "$second" ]
  KIT_ROOT=$first_root KIT_RUN_DIR=$first_run kit exec same ping -c 1 127.0.0.1
  KIT_ROOT=$first_root KIT_RUN_DIR=$first_run kit system check
  KIT_ROOT=$first_root KIT_RUN_DIR=$first_run kit rm -f same
  is_running same
  kit exec same ping -c 1 -W 2 "$(kit inspect -f '{{.NetworkSettings.Gateway}}' same)"
  kit rm -f same
  remove_root
  export KIT_ROOT=$first_root KIT_RUN_DIR=$first_run
}

@test "system check finds nothing in a clean root; prune removes what exited" {
  run kit system check
  [ "$status" -eq 0 ]
  [ -z "$output" ]
  kit run --name old busybox true
  run kit system prune -f
  [[ $output == *container* ]]
  [ -z "$(kit ps -aq)" ]
  kit run --rm busybox true
}
