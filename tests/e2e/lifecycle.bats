# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

@test "create, start, stop, start again, remove" {
  run kit create --name web busybox sh -c 'echo up; trap "echo bye; exit 3" TERM; while :; do sleep 0.05; done'
  [[ $output =~ ^[0-9a-f]{64}$ ]]
  [ "$(state_of web)" = created ]
  [ "$(kit start web)" = web ]
  within 5 logs_contain web up
  [ "$(kit stop web)" = web ]
  [ "$(state_of web)" = exited ]
  [ "$(kit inspect -f '{{.State.ExitCode}}' web)" -eq 3 ]
  kit start web
  is_running web
  fails_with 1 "running" kit rm web
  kit rm -f web
  fails_with 1 "web" kit inspect --type container -f '{{.Id}}' web
}

@test "stop kills what does not listen" {
  kit run -d --name deaf busybox sh -c 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
  within 5 logs_contain deaf ready
  kit stop -t 1 deaf
  [ "$(kit inspect -f '{{.State.ExitCode}}' deaf)" -eq 137 ]
  kit stop deaf
}

@test "the stop signal is the container's" {
  kit run -d --name usr --stop-signal USR1 busybox sh -c 'trap "exit 7" USR1; echo ready; while :; do sleep 0.05; done'
  within 5 logs_contain usr ready
  kit stop usr
  [ "$(kit wait usr)" -eq 7 ]
}

@test "logs: batch, both streams, tail, timestamps, follow to the end" {
  kit run -d --name talker busybox sh -c 'for i in 1 2 3; do echo out $i; done; echo err >&2; sleep 1; echo last'
  within 5 logs_contain talker err
  run --separate-stderr kit logs talker
  [ "$output" = $'out 1\nout 2\nout 3' ]
  [ "$stderr" = err ]
  run kit logs -f talker
  [[ $output == *last ]]
  within 5 is_exited talker
  [ "$(kit logs --tail 1 talker)" = last ]
  [[ $(kit logs -t --tail 1 talker) =~ ^20[0-9-]+T[0-9:.]+Z\ last$ ]]
  [ -z "$(kit logs --since 2099-01-01T00:00:00Z talker 2>&1)" ]
}

@test "a log of many lines is whole" {
  kit run --name many busybox seq 1 50000 >"$BATS_TEST_TMPDIR/seen"
  seq 1 50000 | cmp - "$BATS_TEST_TMPDIR/seen"
  kit logs many | cmp - "$BATS_TEST_TMPDIR/seen"
}

@test "exec: output, exit codes, environment, user, stdin, not found, not running" {
  kit run -d --name box -e FROM=run busybox sleep 100
  [ "$(kit exec -e MORE=exec box sh -c 'echo $FROM $MORE')" = "run exec" ]
  run kit exec box sh -c 'exit 42'
  [ "$status" -eq 42 ]
  [ "$(kit exec -u guest -w /srv box sh -c 'id -un; pwd')" = $'guest\n/srv' ]
  [ "$(echo given | kit exec -i box cat)" = given ]
  [ "$(kit exec box sh -c 'readlink /proc/self/ns/pid')" = "$(readlink "/proc/$(pid_of box)/ns/pid")" ]
  fails_with 127 nothing kit exec box nothing
  fails_with 126 /bin/text kit exec box /bin/text
  kit exec -d box sh -c 'sleep 0.3; touch /made'
  within 5 kit exec box test -e /made
  kit stop -t 0 box
  fails_with 1 "not running" kit exec box true
}

@test "attach shows what comes, and ends with the container's exit code" {
  kit run -d --name late busybox sh -c 'sleep 1; echo spoken; exit 5'
  run kit attach late
  [ "$status" -eq 5 ]
  [[ $output == *spoken* ]]
}

@test "kit may be killed: the container goes on, and its exit is recorded" {
  kit run --name orphan busybox sh -c 'echo begin; sleep 1; echo end; exit 9' >/dev/null &
  local client=$!
  within 5 logs_contain orphan begin
  kill -9 "$client"
  wait "$client" || true
  is_running orphan
  [ "$(kit wait orphan)" -eq 9 ]
  within 5 logs_contain orphan end
}

@test "pause stops all processes, unpause lets them go on" {
  kit run -d --name ticker busybox sh -c 'while :; do echo tick; sleep 0.02; done'
  within 5 logs_contain ticker tick
  kit pause ticker
  [ "$(state_of ticker)" = paused ]
  [[ $(kit ps --format '{{.Status}}') == *"(Paused)" ]]
  sleep 0.1
  local before
  before=$(kit logs ticker | wc -l)
  sleep 0.3
  [ "$(kit logs ticker | wc -l)" -eq "$before" ]
  fails_with 1 paused kit exec ticker true
  kit unpause ticker
  more() { [ "$(kit logs ticker | wc -l)" -gt "$before" ]; }
  within 5 more
}

@test "ps: columns, quiet, filters, formats" {
  kit run -d --name one --label tier=front busybox sleep 100
  kit run --name two busybox false || true
  run kit ps
  [[ ${lines[0]} =~ ^CONTAINER\ ID\ +IMAGE\ +COMMAND\ +CREATED\ +STATUS\ +PORTS\ +NAMES$ ]]
  [ "${#lines[@]}" -eq 2 ]
  [[ ${lines[1]} =~ ^[0-9a-f]{12}\ +busybox\ +\"sleep\ 100\"\ .*Up\ .*one$ ]]
  [ "$(kit ps -aq | wc -l)" -eq 2 ]
  [ "$(kit ps -lq)" = "$(kit inspect -f '{{.Id}}' two | cut -c1-12)" ]
  [ "$(kit ps --filter label=tier=front --format '{{.Names}}')" = one ]
  [ "$(kit ps --filter exited=1 --format '{{.Names}}')" = two ]
  [ "$(kit ps -a --filter status=exited --format json | jq -r .Names)" = two ]
  fails_with 1 "invalid filter" kit ps --filter color=red
}

@test "inspect answers in Docker's shape" {
  kit run -d --name seen -m 64m --cpus 0.5 -l a=b -w /srv busybox sleep 100
  kit inspect seen | jq -e '.[0] | .Name == "/seen" and .State.Running and .State.Pid > 0
    and .HostConfig.Memory == 67108864 and .HostConfig.NanoCpus == 500000000
    and .Config.Labels.a == "b" and .Config.Cmd == ["sleep", "100"] and .Config.WorkingDir == "/srv"
    and (.NetworkSettings.IPAddress | test("^10\\.")) and .GraphDriver.Name == "overlayfs"'
  [ "$(kit inspect -f '{{.State.Status}} {{.Config.Image}}' seen)" = "running busybox" ]
}

@test "rename, and names that are in use" {
  kit create --name first busybox true
  kit rename first second
  [ "$(kit inspect -f '{{.Name}}' second)" = /second ]
  fails_with 1 "second" kit create --name second busybox true
}

@test "wait answers for several, and for one that has long ended" {
  kit run --name first busybox sh -c 'exit 4' || true
  kit run -d --name second busybox sh -c 'sleep 0.3; exit 6'
  [ "$(kit wait first second)" = $'4\n6' ]
}

@test "stats shows what a container uses" {
  kit run -d --name busy -m 64m busybox sh -c 'while :; do :; done'
  run kit stats --no-stream --format '{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' busy
  [[ $output =~ ^([0-9]+)\.[0-9]+%\ .*\ /\ 64MiB\ 1$ ]]
  [ "${BASH_REMATCH[1]}" -gt 20 ]
}

@test "many containers that go on leave no long log to the next command" {
  local i
  for ((i = 0; i < 40; ++i)); do kit create --name "logged$i" busybox true >/dev/null; done
  # Forty of them write 700 KiB, of which a first reader takes more than a millisecond.
  short() { [ "$(stat -c %s "$KIT_ROOT/kit.db-wal")" -lt $((512 * 1024)) ]; }
  within 5 short
  kit rm $(seq -f logged%.0f 0 39) >/dev/null
}
