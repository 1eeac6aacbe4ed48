# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

count_of() { kit inspect -f '{{.RestartCount}}' "$1"; }
at_least() { [ "$(count_of "$1")" -ge "$2" ]; }
is_restarting() { [[ $(state_of "$1") == restarting ]]; }
starts_of() { sqlite3 "$KIT_ROOT/kit.db" "SELECT time_ns FROM events WHERE actor = '$(kit inspect -f '{{.Id}}' "$1")' AND action = 'start' ORDER BY number"; }
waiters() { pgrep -f "^[^ ]*kit --root $KIT_ROOT .*internal finish" | wc -l; }

@test "always: it comes back with waits that grow, is counted, shown and logged" {
  kit run -d --name again --restart always busybox sh -c 'echo run; exit 3'
  within 10 at_least again 3
  within 5 is_restarting again
  [[ $(kit ps --format '{{.Status}}') == "Restarting (3) "* ]]
  [ "$(kit inspect -f '{{.State.Restarting}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}}' again)" = "true true always" ]
  [ "$(kit logs again | wc -l)" -ge 3 ]
  local times
  mapfile -t times < <(starts_of again)
  [ $(((times[1] - times[0]) / 1000000)) -ge 100 ]
  [ $(((times[2] - times[1]) / 1000000)) -ge 200 ]
  fails_with 1 running kit rm again
  kit stop again
  [ "$(state_of again)" = exited ]
  local count
  count=$(count_of again)
  sleep 1
  [ "$(count_of again)" -eq "$count" ]
  [ "$(waiters)" -eq 0 ]
}

@test "on-failure: so often, and not after success" {
  kit run -d --name fails --restart on-failure:2 busybox false
  within 10 is_exited fails
  [ "$(count_of fails)" -eq 2 ]
  [ "$(kit inspect -f '{{.State.ExitCode}}' fails)" -eq 1 ]
  kit run -d --name well --restart on-failure busybox true
  within 5 is_exited well
  [ "$(count_of well)" -eq 0 ]
  kit start fails
  within 10 is_exited fails
  [ "$(count_of fails)" -eq 2 ]
}

@test "what somebody stopped or killed stays so; what died by itself does not" {
  kit run -d --name held --restart unless-stopped busybox sleep 1000
  kill -9 "$(pid_of held)"
  within 5 at_least held 1
  within 5 is_running held
  kit stop -t 0 held
  sleep 0.5
  [ "$(state_of held)" = exited ]
  kit start held
  kit kill held
  within 5 is_exited held
  sleep 0.5
  [ "$(state_of held)" = exited ]
  kit start held
  [ "$(count_of held)" -eq 0 ]
  kit rm -f held
}

@test "a command that shows the container's output returns with its exit; the container comes back" {
  run kit run --name shown --restart on-failure:1 busybox sh -c 'echo here; exit 4'
  [ "$status" -eq 4 ]
  [ "$output" = here ]
  within 5 at_least shown 1
  within 5 is_exited shown
  [ "$(kit logs shown)" = $'here\nhere' ]
}

@test "logs -f goes on from run to run" {
  kit run -d --name speaks --restart on-failure:2 busybox sh -c 'echo spoken; exit 1'
  [ "$(timeout 20 kit logs -f speaks | wc -l)" -eq 3 ]
}

@test "who waits for the restart is killed: the next command sends another" {
  kit run -d --name orphan --restart always busybox sh -c 'exit 1'
  within 10 at_least orphan 3
  within 10 is_restarting orphan
  local count waiter
  count=$(count_of orphan)
  waiter=$(pgrep -f "^[^ ]*kit --root $KIT_ROOT .*internal finish") || true
  # shellcheck disable=SC2086
  [ -z "$waiter" ] || kill -9 $waiter
  kit ps >/dev/null
  within 10 at_least orphan $((count + 1))
}

@test "the monitor is killed: the container comes back all the same" {
  kit run -d --name lone --restart always busybox sleep 1000
  kill -9 "$(awk '{print $4}' "/proc/$(pid_of lone)/stat")"
  kill -9 "$(pid_of lone)"
  kit ps >/dev/null
  within 5 is_running lone
  [ "$(count_of lone)" -eq 1 ]
}

@test "after a boot, kit system start brings back what should run" {
  local name
  for name in always unless-stopped on-failure no; do
    kit run -d --name "$name" --restart "$name" busybox sleep 1000
  done
  kit run -d --name stopped-always --restart always busybox sleep 1000
  kit run -d --name stopped --restart unless-stopped busybox sleep 1000
  kit stop -t 0 stopped stopped-always
  local pids=()
  for name in always unless-stopped on-failure no; do
    pids+=("$(pid_of "$name")" "$(awk '{print $4}' "/proc/$(pid_of "$name")/stat")")
  done
  # As after a reboot: nothing runs, and what runs is of another boot.
  kill -9 "${pids[@]}"
  sqlite3 "$KIT_ROOT/kit.db" "UPDATE containers SET boot_id = 'another' WHERE state = 'running'"
  kit ps >/dev/null
  [ "$(state_of always)" = exited ]
  run kit system start
  [ "$status" -eq 0 ]
  [ "$output" = $'always\nunless-stopped\non-failure\nstopped-always' ]
  for name in "${lines[@]}"; do is_running "$name"; done
  [ "$(state_of no) $(state_of stopped)" = "exited exited" ]
  [ -z "$(kit system start)" ]
}

@test "a systemd unit for it" {
  kit generate systemd >"$BATS_TEST_TMPDIR/kit.service"
  grep -qx "ExecStart=/.*/kit --root $KIT_ROOT --run-dir $KIT_RUN_DIR system start" "$BATS_TEST_TMPDIR/kit.service"
  ! command -v systemd-analyze || systemd-analyze verify "$BATS_TEST_TMPDIR/kit.service"
}

@test "update gives another policy; words that are none are refused" {
  kit run -d --name changes --restart always busybox sleep 1000
  kit update --restart no changes
  kill -9 "$(pid_of changes)"
  within 5 is_exited changes
  fails_with 125 "invalid restart policy" kit run --restart sometimes busybox true
  fails_with 125 "maximum retry count" kit run --restart always:3 busybox true
  fails_with 125 "maximum retry count" kit run --restart on-failure:-1 busybox true
  fails_with 125 "--restart and --rm" kit run --rm --restart always busybox true
}
