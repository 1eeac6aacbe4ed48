# SPDX-License-Identifier: Apache-2.0
# The processes that live as long as a container: its monitor and its init, killed or stopped.
load common

state_file() { echo "$KIT_RUN_DIR/$TAG/containers/$(kit inspect -f '{{.Id}}' "$1")/state.json"; }
monitor_of() { jq .monitor "$(state_file "$1")"; }
lines_of() { kit logs "$1" | wc -l; }
exit_code_of() { kit inspect -f '{{.State.ExitCode}}' "$1"; }
says_more_than() { (($(lines_of "$1") > $2)); }
talker() { kit run -d --name victim "$@" busybox sh -c 'trap "exit 5" TERM; while :; do echo more; sleep 0.05; done' >/dev/null; }
begin() {
  talker "$@"
  within 5 says_more_than victim 2
}

@test "the monitor dies: shown as running, works, and can be stopped; its exit code is known" {
  begin
  kill -9 "$(monitor_of victim)"
  is_running victim
  kit exec victim true
  kit stop victim
  is_exited victim
  [ "$(exit_code_of victim)" -eq 5 ]
  [ "$(comes_to_order)" = "clean, exited" ]
}

@test "the monitor dies: a check gives it another, which goes on with the log and knows the exit" {
  begin
  local had
  kill -9 "$(monitor_of victim)"
  sleep 0.2
  had=$(lines_of victim)
  run -1 kit system check
  [[ $output == *victim*"its monitor is gone"*"given a new one" ]]
  within 5 says_more_than victim $((had + 3))
  run -0 kit system check
  kit kill --signal TERM victim
  within 5 is_exited victim
  [ "$(exit_code_of victim)" -eq 5 ]
  [ "$(comes_to_order)" = "clean, exited" ]
}

@test "the monitor dies, then the container ends unseen: its exit is found, and said to be unknown" {
  begin
  kill -9 "$(monitor_of victim)"
  kill -9 "$(pid_of victim)"
  within 5 is_exited victim
  # A kernel whose init process reaps late still knows: 137.
  [[ $(exit_code_of victim) == -1 || $(exit_code_of victim) == 137 ]]
  comes_to_order
}

@test "the monitor of a --rm container dies: the next command removes it when it has ended" {
  begin --rm
  kill -9 "$(monitor_of victim)"
  kit stop victim
  [ "$(comes_to_order)" = clean ]
}

@test "the init dies: exit code 137, and nothing is left" {
  begin
  kill -9 "$(pid_of victim)"
  within 5 is_exited victim
  [ "$(exit_code_of victim)" -eq 137 ]
  [ "$(comes_to_order)" = "clean, exited" ]
}

@test "kit stop does not wait for ever for a monitor that somebody stopped" {
  begin
  local monitor
  monitor=$(monitor_of victim)
  kill -STOP "$monitor"
  timeout 20 kit stop -t 1 victim
  is_exited victim
  kill -CONT "$monitor"
  comes_to_order
}

@test "the init stopped: it can be killed" {
  begin
  kill -STOP "$(pid_of victim)"
  kit stop -t 0 victim
  is_exited victim
  comes_to_order
}

# What runs beside a process that is stopped at a point: it works on the same root, and never waits for long.
others_work() {
  timeout 10 kit ps -a >/dev/null
  timeout 10 kit run --rm busybox true
  timeout 10 kit exec bystander true
  timeout 10 kit system check >/dev/null || (($? == 1))
  bystander_is_well
}

stopped_at() { # POINT COMMAND...
  local point=$1 pid
  shift
  KIT_FAULT=$point=stop timeout 60 "$@" >/dev/null 2>&1 </dev/null &
  pid=$!
  # The command, below timeout; or the launcher it forked.
  stopped() { ps -o pid=,stat= --ppid "$pid,$(pgrep -d , -P "$pid")" | awk '$2 ~ /^T/ {print $1}'; }
  stops() { [[ -n $(stopped) ]]; }
  within 5 stops
  others_work
  [[ -z ${KIT_TEST_LONG:-} ]] || sleep 5
  # shellcheck disable=SC2046
  kill -CONT $(stopped)
  wait "$pid"
}

# stopped_everywhere NAME EVERY PREPARE COMMAND...: as cut_short, but that it goes on after a while.
stopped_everywhere() {
  local name=$1 every=$2 prepare=$3 point order failed=0
  shift 3
  $prepare
  points_of "$@" | grep -v -e @child -e @monitor -e become_monitor | sampled "$every" >"$BATS_TEST_TMPDIR/chosen"
  comes_to_order >/dev/null
  [[ -s $BATS_TEST_TMPDIR/chosen ]]
  while read -r point; do
    $prepare
    if stopped_at "$point" "$@" && order=$(comes_to_order); then
      printf '# %-8s %-46s stopped: %s\n' "$name" "$point" "$order" >&3
    else
      failed=$((failed + 1))
      printf '# %-8s %-46s stopped: WRONG: %s\n' "$name" "$point" "${order:-}" >&3
    fi
  done <"$BATS_TEST_TMPDIR/chosen"
  ((failed == 0))
}

@test "run --rm stopped at a point: others work, and it completes when it goes on" {
  stopped_everywhere run--rm 25 nothing kit run --rm --name victim busybox true
}
@test "exec stopped at a point" { stopped_everywhere exec 12 running kit exec victim true; }
@test "stop stopped at a point" { stopped_everywhere stop 12 running kit stop -t 0 victim; }
@test "rm stopped at a point" { stopped_everywhere rm 12 changed kit rm victim; }
@test "commit stopped at a point" { stopped_everywhere commit 16 changed kit commit victim made; }
@test "import stopped at a point" { stopped_everywhere import 14 nothing kit import "$BATS_FILE_TMPDIR/rootfs.tar" made; }
@test "unpack stopped at a point" {
  stopped_everywhere unpack 20 unpacked_elsewhere kit create --storage vfs --name victim made true
}
