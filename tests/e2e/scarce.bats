# SPDX-License-Identifier: Apache-2.0
# What a host may run out of, and what it may do behind kit's back: a clear word, nothing left, nobody lost.
load common

teardown() {
  local ids
  ids=$(kit ps -aq --no-trunc)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
  [ -z "$(kit system check)" ]
}

# fails_clearly WORDS COMMAND...: says WORDS, and leaves no container; what it could not even remove for want of
# everything, system check finds. Answers 1 if it succeeds instead.
fails_clearly() {
  local words=$1 status=0
  shift
  "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" </dev/null || status=$?
  ((status != 0)) || return 1
  echo "status $status: $(<"$BATS_TEST_TMPDIR/err")"
  kit system check >"$BATS_TEST_TMPDIR/found" || true
  if [[ $(<"$BATS_TEST_TMPDIR/err") != *"kit: "*$words* || -n $(kit ps -aq) || -n $(kit system check) ]]; then
    echo "unclear, or something is left: $(kit ps -a) $(<"$BATS_TEST_TMPDIR/found")"
    exit 1
  fi
}

@test "out of descriptors: run says so until there are enough" {
  local n
  for ((n = 6; n < 100; ++n)); do
    fails_clearly "too many open files" bash -c "ulimit -n $n; exec kit run --rm busybox true" || break
  done
  ((n > 10 && n < 64))
}

@test "out of processes: run says so until there are enough" {
  local top=/sys/fs/cgroup n group enough=
  [ ! -e $top/pids/cgroup.procs ] || top=$top/pids
  emptied() { rmdir "$group"; }
  for ((n = 1; n < 20 && !enough; ++n)); do
    group=$top/kit-test-$$-$n  # another each time: who has ended counts until the host's init has reaped it
    mkdir "$group"
    [ -e "$group/pids.max" ] || { rmdir "$group"; skip "no control group limits processes"; }
    echo "$n" >"$group/pids.max"
    # shellcheck disable=SC2016
    fails_clearly "resource temporarily unavailable" bash -c 'echo $$ >"$0/cgroup.procs"; exec kit run --rm busybox true' \
      "$group" || enough=1
    within 10 emptied
  done
  ((enough && n > 2))
}

# Whatever became of the command before: what it left is found, what it made can be removed, and then nothing is there.
comes_to_order() {
  local ids
  kit system check >"$BATS_TEST_TMPDIR/found" || true
  ids=$(kit ps -aq --no-trunc)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids >/dev/null
  [ -z "$(kit system check)" ]
}

@test "out of address space: run ends, and what it left is put in order, until there is enough" {
  local megabytes status enough= refused=0
  # Where kit itself has no room, execve(2) fails, not kit.
  for ((megabytes = 6; megabytes < 200 && !enough; megabytes += 2)); do
    status=0
    bash -c "ulimit -v $((megabytes * 1024)); exec kit run --rm busybox true" >"$BATS_TEST_TMPDIR/out" 2>&1 || status=$?
    comes_to_order || { echo "$megabytes MB, status $status: $(<"$BATS_TEST_TMPDIR/out")" && exit 1; }
    if ((status == 0)); then enough=1; else refused=$((refused + 1)); fi
    ((status == 0)) || [ -s "$BATS_TEST_TMPDIR/out" ]
  done
  ((enough && refused > 1))
}

@test "killed for want of memory, wherever it is: what it left is put in order, until there is enough" {
  local top=/sys/fs/cgroup limit=memory.max n group status killed=0 enough=
  [ ! -e $top/memory/cgroup.procs ] || { top=$top/memory limit=memory.limit_in_bytes; }
  emptied() { rmdir "$group"; }
  for ((n = 512; n < 65536 && !enough; n += n / 4)); do
    group=$top/kit-test-$$-$n
    mkdir "$group"
    [ -e "$group/$limit" ] || { rmdir "$group"; skip "no control group limits memory"; }
    echo "${n}K" >"$group/$limit"
    [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
    status=0
    # shellcheck disable=SC2016
    bash -c 'echo $$ >"$0/cgroup.procs"; exec kit run --rm busybox true' "$group" >"$BATS_TEST_TMPDIR/out" 2>&1 || status=$?
    comes_to_order || { echo "$n KiB, status $status: $(<"$BATS_TEST_TMPDIR/out")" && exit 1; }
    if ((status == 0)); then enough=1; else killed=$((killed + 1)); fi
    within 10 emptied
  done
  ((enough && killed > 2))
}

@test "a read-only root can be looked at; changes are refused by its name" {
  # shellcheck disable=SC2016
  run unshare --mount bash -c 'mount --bind "$KIT_ROOT" "$KIT_ROOT"; mount -o remount,bind,ro "$KIT_ROOT"
    kit images --format "{{.Repository}}"
    for words in "run --rm busybox true" "import /dev/null x" "rmi busybox"; do kit $words; echo "$?"; done'
  echo "$output"
  [ "${lines[0]}" = busybox ]
  [ "${#lines[@]}" -eq 7 ]
  [ "$(grep -c "^kit: .*$KIT_ROOT.*read-\?only" <<<"$output")" -eq 3 ]
  [ "$(grep -Ec '^(1|125)$' <<<"$output")" -eq 3 ]
  kit run --rm busybox true
}

@test "a clock set back by a day: times in the future confuse nobody" {
  kit run --name ended busybox echo said
  kit run -d --name lives busybox sleep 1000
  kit create --name waits busybox true
  sqlite3 "$KIT_ROOT/kit.db" "UPDATE containers SET created_ns = created_ns + 86400000000000,
    started_ns = started_ns + 86400000000000 * (started_ns != 0), finished_ns = finished_ns + 86400000000000 * (finished_ns != 0);
    UPDATE images SET created_ns = created_ns + 86400000000000;
    UPDATE events SET time_ns = time_ns + 86400000000000"
  sed -i 's/"time":"2/"time":"3/' "$KIT_ROOT"/containers/*/log.json
  [ "$(kit ps -a --format '{{.Names}} {{.State}}' | sort)" = $'ended exited\nlives running\nwaits created' ]
  [[ $(kit ps --format '{{.Status}}') == "Up Less than a second" ]]
  kit images | grep busybox
  [ "$(kit logs ended)" = said ]
  [ "$(kit wait ended)" = 0 ]
  [ -z "$(kit system check)" ]
  kit run --rm busybox true
  kit exec lives true
  kit stop -t 0 lives
  kit start waits ended
  kit wait waits ended
  kit rm ended lives waits
}

@test "a reboot: every container is accounted for, and starts again" {
  # shellcheck disable=SC2016
  kit create --name fresh busybox true
  kit run --name ended busybox sh -c 'exit 7' || true
  kit run -d --name service busybox sh -c 'echo up; sleep 1000'
  kit run -d --name stopped busybox sleep 1000
  kit pause stopped
  kit run -d --rm --name passing busybox sleep 1000
  within 5 logs_contain service up
  # No processes, nothing in the run directory, another boot's id.
  local pid monitors=()
  for pid in $(pid_of service) $(pid_of stopped) $(pid_of passing); do
    monitors+=("$(awk '{print $4}' "/proc/$pid/stat")")
  done
  kill -9 "${monitors[@]}"
  kit unpause stopped
  # shellcheck disable=SC2046
  kill -9 $(pid_of service) $(pid_of stopped) $(pid_of passing)
  sqlite3 "$KIT_ROOT/kit.db" "UPDATE containers SET state = 'paused' WHERE name = 'stopped'"
  rm -rf "$KIT_RUN_DIR"
  cat /proc/sys/kernel/random/uuid >"$BATS_TEST_TMPDIR/boot_id"
  mount --bind "$BATS_TEST_TMPDIR/boot_id" /proc/sys/kernel/random/boot_id

  run kit ps -a --format '{{.Names}} {{.State}}'
  echo "$output"
  [ "$(sort <<<"$output")" = $'ended exited\nfresh created\nservice exited\nstopped exited' ]
  [ "$(kit inspect -f '{{.State.ExitCode}}' ended)" -eq 7 ]
  [[ $(kit inspect -f '{{.State.Error}}' service) == *unknown* ]]
  [ "$(kit logs service)" = up ]
  kit system check || true  # this kernel still has the control groups
  [ -z "$(kit system check)" ]
  kit start service fresh
  is_running service
  [ -n "$(kit inspect -f '{{.NetworkSettings.IPAddress}}' service)" ]
  kit rm -f service fresh ended stopped
  umount /proc/sys/kernel/random/boot_id
}
