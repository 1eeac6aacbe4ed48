# SPDX-License-Identifier: Apache-2.0
# Many at once, on the same root. KIT_TEST_LONG=1: 64 workers for a minute in place of 16 for some rounds.
load common

if [[ -n ${KIT_TEST_LONG:-} ]]; then
  workers=64 seconds=60 rounds=1000
else
  workers=16 seconds=60 rounds=2
fi

# What a worker finds wrong goes to $work/wrong, what any command says on stderr to $work/said.
wrong() { echo "worker $me, round $round: $*" >>"$work/wrong"; }

# expect CODE OUTPUT COMMAND...
expect() {
  local code=$1 wanted=$2 status=0 got
  shift 2
  got=$("$@" 2>>"$work/said") || status=$?
  [[ $status -eq $code && $got == "$wanted" ]] || wrong "$* answered $status \"$got\", not $code \"$wanted\""
}

# A run from beginning to end, timed.
run_one() {
  local code=$((RANDOM % 100)) begin=$EPOCHREALTIME
  expect "$code" "out $me.$round" kit run --rm busybox sh -c "echo out $me.$round; exit $code"
  echo "$(((${EPOCHREALTIME/./} - ${begin/./}) / 1000))" >>"$work/took"
}

# The life of a container that others look at, too.
live_one() {
  local name=box-$me-$round address
  kit run -d --name "$name" busybox sh -c "echo up $me; exec sleep 1000" >/dev/null 2>>"$work/said" ||
    { wrong "run -d failed"; return; }
  address=$(kit inspect -f '{{.NetworkSettings.IPAddress}}' "$name" 2>>"$work/said")
  mkdir "$work/addresses/$address" || wrong "address $address was given twice"
  expect 42 "$name" kit exec "$name" sh -c "echo $name; echo \$\$ >/pid; exit 42"
  logged() { [[ $(kit logs "$name" 2>>"$work/said") == "up $me" ]]; }
  within 20 logged || wrong "the log of $name is \"$(kit logs "$name" 2>&1)\""
  kit commit "$name" "$name" >/dev/null 2>>"$work/said" || wrong "commit failed"
  expect 0 "" kit run --rm "$name" test -s /pid
  rmdir "$work/addresses/$address"
  expect 0 "$name" kit rm -f "$name"
  kit rmi "$name" >/dev/null 2>>"$work/said" || wrong "rmi failed"
}

# Whatever is there just now: it may be gone the next moment, and that is all that may happen.
look_around() {
  local other
  kit images >/dev/null 2>>"$work/said" || wrong "images failed"
  kit ps -a >/dev/null 2>>"$work/said" || wrong "ps failed"
  for other in $(kit ps -q 2>>"$work/said" | head -n 3); do
    kit logs "$other" >/dev/null 2>>"$work/others" || true
    kit exec "$other" true 2>>"$work/others" || true
    kit inspect "$other" >/dev/null 2>>"$work/others" || true
  done
}

work_on() {
  local me=$1 round end=$((SECONDS + seconds))
  for ((round = 0; round < rounds && SECONDS < end; ++round)); do
    run_one
    live_one
    look_around
    run_one
  done
}

@test "many runs at once, mixed with everything else: every answer is right, and nothing is left" {
  local work=$BATS_TEST_TMPDIR me jobs=() job
  mkdir "$work/addresses"
  touch "$work/said" "$work/others" "$work/wrong"
  for ((me = 0; me < workers; ++me)); do
    work_on "$me" 3>&- &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || echo "worker $job failed" >>"$work/wrong"; done
  sort -n "$work/took" >"$work/sorted"
  local runs
  runs=$(wc -l <"$work/sorted")
  echo "# $workers at once, $runs runs: median $(sed -n "$((runs / 2 + 1))p" "$work/sorted") ms, p99 $(sed -n "$((runs * 99 / 100 + 1))p" "$work/sorted") ms" >&3
  cat "$work/wrong" "$work/said"
  [ ! -s "$work/wrong" ]
  # Nothing but that a container is none any more, runs no more, or stands still for a commit.
  ! grep -Ev "no such (container|object)|is not running|is paused" "$work/others" || return 1
  [ ! -s "$work/said" ]
  [ -z "$(kit ps -aq)" ]
  [ "$(kit images -q | wc -l)" -eq 1 ]
  settled() { [ -z "$(kit system check)" ]; }
  within 10 settled
}

@test "twenty containers of one name: one is made" {
  local i jobs=() made=0
  for ((i = 0; i < 20; ++i)); do
    kit create --name only busybox true >/dev/null 2>>"$BATS_TEST_TMPDIR/said" &
    jobs+=($!)
  done
  for i in "${jobs[@]}"; do ! wait "$i" || made=$((made + 1)); done
  [ "$made" -eq 1 ]
  [ "$(grep -c "^kit: name container only: the name is in use" "$BATS_TEST_TMPDIR/said")" -eq 19 ]
  kit rm only
}

@test "one container started, stopped and removed by many at once ends removed, and once" {
  local i jobs=()
  kit create --name common busybox sleep 1000
  for ((i = 0; i < 5; ++i)); do
    kit start common >/dev/null 2>>"$BATS_TEST_TMPDIR/said" &
    jobs+=($!)
    kit stop -t 0 common >/dev/null 2>>"$BATS_TEST_TMPDIR/said" &
    jobs+=($!)
  done
  wait "${jobs[@]}" || true
  jobs=()
  for ((i = 0; i < 5; ++i)); do
    kit rm -f common >/dev/null 2>>"$BATS_TEST_TMPDIR/said" &
    jobs+=($!)
  done
  for i in "${jobs[@]}"; do wait "$i" || true; done
  cat "$BATS_TEST_TMPDIR/said"
  ! grep -v "already running\|no such container\|was started again\|is being removed" "$BATS_TEST_TMPDIR/said"
  [ -z "$(kit ps -aq)" ]
  settled() { [ -z "$(kit system check)" ]; }
  within 10 settled
}
