# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

log_path() { kit inspect -f '{{.LogPath}}' "$1"; }
old_files() { find "$(dirname "$(log_path "$1")")" -name 'log.*.[0-9]*' | sort -V; }
sum() { sha256sum | cut -d' ' -f1; }
sums_of() { printf '%s %s\n' "$(kit logs "$1" 2>/dev/null | sum)" "$(kit logs "$1" 2>&1 >/dev/null | sum)"; }
children_of() { cat "/proc/$1/task/$1/children"; }
monitor_of() { awk '{print $4}' "/proc/$(pid_of "$1")/stat"; }

@test "every byte is kept, in any encoding; Docker's readers see lines" {
  head -c 100000 /dev/urandom >"$BATS_TEST_TMPDIR/bytes"
  printf 'plain\nwith "quotes", \\ and \t\nGr\xc3\xbc\xc3\x9fe\n\xff\xfe\0\x01\x7f' >>"$BATS_TEST_TMPDIR/bytes"
  kit run --name bytes -v "$BATS_TEST_TMPDIR:/data:ro" busybox cat /data/bytes >"$BATS_TEST_TMPDIR/seen"
  cmp "$BATS_TEST_TMPDIR/bytes" "$BATS_TEST_TMPDIR/seen"
  kit logs bytes | cmp - "$BATS_TEST_TMPDIR/bytes"
  # Each line is JSON, with the members that Docker's have.
  jq -es 'all(.[]; (.log | type) == "string" and .stream == "stdout" and (.time | test("^20.*Z$")))' "$(log_path bytes)"
  [ "$(jq -r 'select(.log == "Gr\u00fc\u00dfe\n") | has("base64")' "$(log_path bytes)")" = false ]
}

@test "the last line needs no newline (moby#43860)" {
  kit run --name last busybox printf 'one\ntwo' >/dev/null
  [ "$(kit logs last | od -An -c | tr -d ' ')" = 'one\ntwo' ]
  [ "$(kit logs --tail 1 last)" = two ]
  [ "$(kit logs -f --tail 1 last)" = two ]
}

@test "a prompt is shown before its line ends (moby#18497)" {
  kit run -d -i --name asks busybox sh -c 'printf "name? "; read -r name; echo "hello $name"; sleep 1000'
  kit logs -f asks >"$BATS_TEST_TMPDIR/seen" &
  local follower=$!
  seen() { [ "$(cat "$BATS_TEST_TMPDIR/seen")" = "$1" ]; }
  within 5 seen "name? "
  echo kit | timeout -s KILL 1 kit attach asks >/dev/null || true
  within 5 seen "name? hello kit"
  [[ $(kit logs -t asks) =~ ^20[^\ ]*Z\ name\?\ hello\ kit$ ]]
  kit stop -t 0 asks
  wait "$follower"
}

@test "follow goes on after the log was emptied (moby#45728)" {
  kit run -d --name emptied busybox sh -c 'i=0; while [ $i -lt 1000000 ]; do i=$((i + 1)); echo $i; sleep 0.01; done'
  kit logs -f emptied >"$BATS_TEST_TMPDIR/seen" &
  local follower=$! round
  lines() { wc -l <"$BATS_TEST_TMPDIR/seen"; }
  more() { [ "$(lines)" -gt "$1" ]; }
  for round in 1 2 3; do
    within 5 more $(("$(lines)" + 20))
    truncate -s 0 "$(log_path emptied)"
  done
  within 5 more $(("$(lines)" + 20))
  kit stop -t 0 emptied
  wait "$follower"
  # In order, none twice; what was taken away before it was read may be missing.
  sort -nuc "$BATS_TEST_TMPDIR/seen"
}

@test "nothing between the stored log and the live stream is lost (moby#10617)" {
  kit run -d --name busy busybox sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); echo $i; done'
  local n followers=()
  for n in 1 2 3 4 5 6; do
    kit logs -f busy >"$BATS_TEST_TMPDIR/seen$n" &
    followers+=($!)
    sleep 0.05
  done
  wait "${followers[@]}"
  for n in 1 2 3 4 5 6; do seq 1 20000 | cmp - "$BATS_TEST_TMPDIR/seen$n"; done
}

@test "a reader that stands still does not stop the program, and misses nothing (moby#22502, moby#31540)" {
  mkfifo "$BATS_TEST_TMPDIR/pipe"
  sleep 1000 <"$BATS_TEST_TMPDIR/pipe" &
  local stuck=$!
  kit run --name free busybox sh -c 'seq 1 300000; touch /done; sleep 1000' >"$BATS_TEST_TMPDIR/pipe" &
  local starter=$!
  within 5 is_running free
  kit attach --no-stdin free >/dev/null &
  local other=$!
  kill -STOP "$other"
  within 20 kit exec free test -e /done
  # It reads on: all is there.
  seq 1 300000 >"$BATS_TEST_TMPDIR/all"
  head -c "$(stat -c %s "$BATS_TEST_TMPDIR/all")" "$BATS_TEST_TMPDIR/pipe" | cmp - "$BATS_TEST_TMPDIR/all"
  kill -CONT "$other"
  kit stop -t 0 free
  kill "$stuck"
  wait "$starter" "$other" "$stuck" || true
}

@test "a slow reader of a command's output gets all of it" {
  kit run --rm busybox seq 1 1000000 | { sleep 2; cat; } | cmp - <(seq 1 1000000)
}

@test "rotation: files of a size, a number of them, and logs reads across" {
  kit run --name turns --log-opt max-size=20k --log-opt max-file=5 busybox seq 1 5000 >/dev/null
  run old_files turns
  [ "${#lines[@]}" -eq 4 ]
  local file
  for file in "${lines[@]}"; do [ "$(stat -c %s "$file")" -ge 20000 ] && [ "$(stat -c %s "$file")" -lt 21000 ]; done
  kit logs turns >"$BATS_TEST_TMPDIR/seen"
  local first
  first=$(head -n 1 "$BATS_TEST_TMPDIR/seen")
  seq "$first" 5000 | cmp - "$BATS_TEST_TMPDIR/seen"
  [ "$first" -gt 1 ]
  kit logs --tail 1000 turns | cmp - <(seq 4001 5000)
  [ "$(kit inspect turns | jq -r '.[0].HostConfig.LogConfig.Config["max-size"]')" = 20k ]
  # As in Docker, one file is all there is without max-file.
  kit run --name one --log-opt max-size=5k busybox seq 1 5000 >/dev/null
  [ "$(kit logs one | tail -n 1)" -eq 5000 ]
  [ "$(kit logs one | wc -l)" -lt 200 ]
}

@test "rotation with compression: read, searched and followed as if there were none" {
  kit run -d --name packed --log-opt max-size=50k --log-opt max-file=1000 --log-opt compress=true busybox \
    sh -c 'for i in 1 2 3 4; do seq $((i * 5000 - 4999)) $((i * 5000)); sleep 0.5; done'
  kit logs -f packed >"$BATS_TEST_TMPDIR/seen"
  seq 1 20000 | cmp - "$BATS_TEST_TMPDIR/seen"
  packed() { [ "$(old_files packed | grep -c 'gz$')" -gt 5 ]; }
  within 10 packed
  kit logs packed | cmp - <(seq 1 20000)
  kit logs --tail 15000 packed | cmp - <(seq 5001 20000)
  gzip -dc "$(old_files packed | head -n 1)" | head -n 1 | jq -e '.log == "1\n"'
}

@test "the file driver writes lines of plain text; none keeps nothing" {
  kit run --name text --log-driver file busybox sh -c 'echo out; echo err >&2; printf "\377 open"' >/dev/null 2>&1
  grep -aqE '^20[^ ]*Z stdout F out$' "$(log_path text)"
  grep -aqE '^20[^ ]*Z stderr F err$' "$(log_path text)"
  [[ $(log_path text) == */log.txt ]]
  kit logs text 2>/dev/null | cmp - <(printf 'out\n\377 open')
  [ "$(kit logs text 2>&1 >/dev/null)" = err ]
  [ "$(kit run --name nothing --log-driver none busybox echo shown)" = shown ]
  fails_with 1 none kit logs nothing
  [ -z "$(find "$(dirname "$(log_path text)")/../$(kit inspect -f '{{.Id}}' nothing)" -name 'log*')" ]
}

@test "without a log, the program waits for a slow reader" {
  kit run --rm --log-driver none busybox seq 1 500000 | { sleep 1; cat; } | cmp - <(seq 1 500000)
  kit run --rm --log-opt max-size=10k busybox seq 1 500000 | { sleep 1; cat; } | cmp - <(seq 1 500000)
}

@test "non-blocking: a log that stands still does not stop the program; the loss is counted and told" {
  kit run -d -i --name nonblock --log-opt mode=non-blocking --log-opt max-buffer-size=64k busybox \
    sh -c 'echo first; read -r x; seq 1 200000; touch /done; read -r x; echo after; sleep 1000'
  within 5 logs_contain nonblock first
  local writer
  writer=$(pgrep -P "$(monitor_of nonblock)" -x kit-monitor)
  kill -STOP "$writer"
  echo go | timeout -s KILL 1 kit attach nonblock >/dev/null 2>&1 || true
  within 10 kit exec nonblock test -e /done
  lost() { [ "$(kit inspect -f '{{.LogBytesLost}}' nonblock)" -gt 1000000 ]; }
  within 5 lost
  kill -CONT "$writer"
  within 5 logs_contain nonblock first
  echo go | timeout -s KILL 1 kit attach nonblock >/dev/null 2>&1 || true
  within 5 logs_contain nonblock after
  kit logs nonblock 2>&1 >/dev/null | grep -x 'kit: [0-9]* bytes of the log are missing here: its buffer was full'
  kit stop -t 0 nonblock
  lost
}

@test "since, until, details, follow until" {
  kit run --name timed busybox sh -c 'echo one; sleep 1; echo two; sleep 1; echo three' >/dev/null
  local second
  second=$(kit logs -t timed | sed -n 's/ two$//p')
  [ "$(kit logs --since "$second" timed)" = $'two\nthree' ]
  [ "$(kit logs --until "$second" timed)" = $'one\ntwo' ]
  [ "$(kit logs --since "$second" --until "$second" timed)" = two ]
  [ "$(kit logs --since 1h timed | wc -l)" -eq 3 ]
  [ "$(kit logs --since "$(($(date +%s) + 100))" timed)" = "" ]
  [ "$(kit logs --details --tail 1 timed)" = " three" ]
  kit run -d --name goes-on busybox sleep 1000
  run timeout 10 kit logs -f --until "$(date -u -d '+1 second' +%FT%T.%NZ)" goes-on
  [ "$status" -eq 0 ]
}

@test "log options that are wrong leave nothing" {
  fails_with 125 "unknown log driver" kit run --log-driver paper busybox true
  fails_with 125 "unknown log opt 'colour'" kit run --log-opt colour=red busybox true
  fails_with 125 "max-size" kit run --log-opt max-size=much busybox true
  fails_with 125 "max-file" kit run --log-opt max-size=1m --log-opt max-file=0 busybox true
  fails_with 125 "compress" kit run --log-opt compress=true busybox true
  fails_with 125 "mode" kit run --log-opt mode=maybe busybox true
  fails_with 125 "KEY=VALUE" kit run --log-opt max-size busybox true
  [ -z "$(kit ps -aq)" ]
}

# One container writes its bytes on both streams, while followers come and go, and its log is rotated.
write_and_follow() {
  local n=$1 bytes=$2 dir=$BATS_TEST_TMPDIR/c$1 i
  mkdir "$dir"
  head -c "$bytes" /dev/urandom >"$dir/out"
  head -c "$bytes" /dev/urandom >"$dir/err"
  kit run -d --name "w$n" --network none --log-opt max-size="$((bytes / 3))" --log-opt max-file=1000 \
    --log-opt compress="$([ $((n % 2)) -eq 0 ] && echo true || echo false)" \
    -v "$dir:/data:ro" busybox sh -c 'cat /data/out & cat /data/err >&2; wait' >/dev/null
  kit logs -f "w$n" >"$dir/seen-out" 2>"$dir/seen-err" &
  local whole=$!
  for i in 1 2 3; do
    timeout -s KILL 0.2 kit logs -f "w$n" >/dev/null 2>&1 || true
    timeout -s KILL 0.2 kit attach --no-stdin "w$n" >/dev/null 2>&1 || true
  done
  wait "$whole" || return 1
  local written
  written="$(sum <"$dir/out") $(sum <"$dir/err")"
  [ "$(sums_of "w$n")" = "$written" ] || { echo "w$n: the log differs"; return 1; }
  [ "$(sum <"$dir/seen-out") $(sum <"$dir/seen-err")" = "$written" ] || { echo "w$n: followed differs"; return 1; }
  kit rm -f "w$n" >/dev/null
  rm -r "$dir"
}

@test "many containers at once, random bytes on both streams, rotation, followers that come and go: no byte differs" {
  local containers=8 bytes=1000000 n workers=()
  [ -z "${KIT_TEST_LONG:-}" ] || { containers=100 bytes=10000000; }
  for ((n = 0; n < containers; ++n)); do
    write_and_follow "$n" "$bytes" &
    workers+=($!)
  done
  for n in "${workers[@]}"; do wait "$n"; done
}
