# SPDX-License-Identifier: Apache-2.0
load common

@test "a memory limit kills with 137, and inspect says OOM" {
  run kit run --name hungry -m 32m busybox sh -c 'x=x; while :; do x=$x$x; done'
  [ "$status" -eq 137 ]
  [ "$(kit inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hungry)" = "true 137" ]
  kit rm hungry
}

@test "a killed container that stayed within its memory is not called OOM" {
  kit run -d --name calm -m 32m busybox sleep 100
  kit kill calm
  kit wait calm
  [ "$(kit inspect -f '{{.State.OOMKilled}}' calm)" = false ]
  kit rm calm
}

@test "a cpu limit holds within 10 % over 2 seconds" {
  kit run -d --name half --cpus 0.5 busybox sh -c 'while :; do :; done'
  sleep 0.5
  local pid before after begin end share try
  pid=$(pid_of half)
  spent() { awk '{print $14 + $15}' "/proc/$pid/stat"; }
  # Whether the limit held it back, or the host had no more to give: cpu.stat counts periods that were cut short.
  throttled() {
    local group
    group=$(awk -F: '$2 ~ /(^|,)cpu(,|$)/ {print "/cpu" $3; exit} $1 == 0 {unified = $3} END {print unified}' \
      "/proc/$pid/cgroup" | head -n 1)
    awk '/^nr_throttled/ {print $2}' "/sys/fs/cgroup$group/cpu.stat"
  }
  for try in 1 2 3 4 5; do
    before=$(spent) begin=$(date +%s%N)
    sleep 2
    after=$(spent) end=$(date +%s%N)
    # Hundredths of a processor, from ticks of 1/100 s.
    share=$(((after - before) * 1000000000 / (end - begin)))
    echo "try $try: used $share % of a processor"
    [ "$share" -le 55 ] || return 1
    [ "$share" -lt 45 ] || break
  done
  local periods
  periods=$(throttled)
  kit rm -f half
  [ "$share" -ge 45 ] || [ "$periods" -gt 50 ] || skip "the host is too busy: it gave $share % where 50 % are allowed"
  [ "$share" -ge 45 ]
}

@test "a pids limit stops a fork bomb" {
  run timeout 60 kit run --rm --pids-limit 20 busybox sh -c 'for i in $(seq 100); do sleep 5 & done; echo survived'
  [[ $output == *"an't fork"* ]]
  run kit run -d --name bomb --pids-limit 20 busybox sh -c 'bomb() { bomb | bomb & }; bomb; sleep 100'
  sleep 1
  [ "$(kit stats --no-stream --format '{{.PIDs}}' bomb)" -le 20 ]
  kit rm -f bomb
}

@test "limits that make no sense are refused" {
  fails_with 125 size kit run --rm -m 1x busybox true
  fails_with 125 cpus kit run --rm --cpus minus busybox true
  fails_with 125 CPUs kit run --rm --cpus -1 busybox true
  fails_with 125 pids kit run --rm --pids-limit many busybox true
}
