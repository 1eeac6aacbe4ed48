# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

@test "stdin of a pipe is passed on to its end, exactly" {
  local bytes=30000000
  [ -z "${KIT_TEST_LONG:-}" ] || bytes=1000000000
  head -c $bytes /dev/urandom | tee >(sha256sum >"$BATS_TEST_TMPDIR/sum") |
    kit run --rm -i busybox sha256sum >"$BATS_TEST_TMPDIR/seen"
  within 5 test -s "$BATS_TEST_TMPDIR/sum"
  cmp "$BATS_TEST_TMPDIR/seen" "$BATS_TEST_TMPDIR/sum"
}

@test "exec passes both ways at once, however much" {
  kit run -d --name box busybox sleep 1000
  head -c 20000000 /dev/urandom >"$BATS_TEST_TMPDIR/bytes"
  timeout 60 kit exec -i box cat <"$BATS_TEST_TMPDIR/bytes" | cmp - "$BATS_TEST_TMPDIR/bytes"
  timeout 60 kit exec -i box sh -c 'cat; cat >&2' <"$BATS_TEST_TMPDIR/bytes" 2>&1 | cmp - "$BATS_TEST_TMPDIR/bytes"
  # A program that closes its stdin ends without it.
  [ "$(timeout 60 kit exec -i box head -c 3 <"$BATS_TEST_TMPDIR/bytes" | wc -c)" -eq 3 ]
}

@test "kit crashes: the terminal is as it was" {
  run converse <<'SCRIPT'
spawn sh
send "before=\$(stty -g); kit run -it --name crash busybox sh; test \"\$before\" = \"\$(stty -g)\" && echo unch''anged\r"
see "/ # "
exec pkill -SEGV -f "^kit run -it --name crash"
see "unchanged"
send "exit 0\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
  is_running crash
}

@test "a terminal's client that is ended by a signal leaves the container running, and the terminal as it was" {
  local signal
  for signal in TERM HUP; do
    SIGNAL=$signal run converse <<'SCRIPT'
spawn sh
send "trap '' HUP; before=\$(stty -g); kit run -it --name sig$env(SIGNAL) busybox sh; test \"\$before\" = \"\$(stty -g)\" && echo unch''anged\r"
see "/ # "
exec pkill -$env(SIGNAL) -f "^kit run -it --name sig"
see "unchanged"
send "exit 0\r"
end
SCRIPT
    echo "$output"
    [ "$status" -eq 0 ]
    is_running "sig$signal"
  done
}

@test "signals reach the program of a client without a terminal, unless they are not to" {
  kit run --name proxied busybox sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done' >"$BATS_TEST_TMPDIR/out" &
  local client=$! code=0
  within 5 grep -q ready "$BATS_TEST_TMPDIR/out"
  kill -TERM "$client"
  wait "$client" || code=$?
  [ "$code" -eq 9 ]
  kit run --sig-proxy=false --name alone busybox sleep 1000 &
  client=$!
  within 5 is_running alone
  kill -TERM "$client"
  code=0
  wait "$client" || code=$?
  [ "$code" -eq 143 ]
  is_running alone
}

@test "several clients see the same; one that stands still holds up none" {
  kit run -d -i --name shared busybox sh -c 'while read -r line; do echo "got $line"; done'
  kit attach --no-stdin shared >"$BATS_TEST_TMPDIR/one" &
  local one=$!
  kit attach --no-stdin shared >"$BATS_TEST_TMPDIR/two" &
  local two=$!
  sleep 0.5
  kill -STOP "$two"
  { echo first; seq 1 100000; echo last; } | timeout -s KILL 20 kit attach shared >"$BATS_TEST_TMPDIR/three" &
  within 15 grep -q "got last" "$BATS_TEST_TMPDIR/one"
  kill -CONT "$two"
  within 15 grep -q "got last" "$BATS_TEST_TMPDIR/two"
  cmp "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two"
  kit rm -f shared
  wait "$one" "$two" || true
}

@test "--init passes signals on and leaves no zombie" {
  kit run -d --init --name tended busybox sh -c 'for i in 1 2 3 4 5; do (sleep 0.1 &); done; exec sleep 1000'
  within 5 kit exec tended true
  sleep 0.5
  [ -z "$(kit exec tended sh -c 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null')" ]
  kit stop -t 10 tended
  [ "$(kit inspect -f '{{.State.ExitCode}}' tended)" -eq 143 ]
}

@test "the monitor dies under a client: it is told so" {
  kit run --name bereft busybox sleep 1000 2>"$BATS_TEST_TMPDIR/err" &
  local client=$! code=0
  within 5 is_running bereft
  kill -9 "$(awk '{print $4}' "/proc/$(pid_of bereft)/stat")"
  wait "$client" || code=$?
  [ "$code" -eq 125 ]
  grep -q "monitor of container .* is gone" "$BATS_TEST_TMPDIR/err"
  is_running bereft
}
