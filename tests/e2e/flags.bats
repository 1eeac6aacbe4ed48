# SPDX-License-Identifier: Apache-2.0
# What run and create are told, seen from inside, and refused as Docker refuses it.
load common

in_box() { kit run --rm --network none "$@"; }

@test "names: host and domain name, hosts, resolv.conf" {
  run -0 in_box --hostname foo --domainname bar.com busybox sh -c 'hostname; cat /proc/sys/kernel/domainname /etc/hostname'
  [ "$output" = $'foo\nbar.com\nfoo' ]
  run -0 in_box --add-host a:1.2.3.4 --add-host b:::1 busybox tail -n 2 /etc/hosts
  [ "$output" = $'1.2.3.4\ta\n::1\tb' ]
  run -0 in_box --dns 1.1.1.1 --dns-search x.y --dns-option ndots:2 busybox cat /etc/resolv.conf
  [ "$output" = $'search x.y\nnameserver 1.1.1.1\noptions ndots:2' ]
  [[ $(in_box --dns 9.9.9.9 --dns-search . busybox cat /etc/resolv.conf) == "nameserver 9.9.9.9"* ]]
  run -0 kit run --rm --hostname foo --domainname bar --add-host up:host-gateway busybox cat /etc/hosts
  [[ $output == *"foo.bar foo"* && $output == *.1$'\tup'* ]]
}

@test "users and groups" {
  [[ $(in_box --group-add extra --group-add 55 busybox id) == *55*"2000(extra)"* ]]
  [ "$(in_box -u guest --group-add 77 busybox id -G)" = "1000 77 2000" ]
  [ "$(in_box -u 1:2 --group-add extra busybox id -G)" = "2 2000" ]
}

@test "ulimit, sysctl, oom-score-adj, security options" {
  run -0 in_box --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'
  [ "$output" = $'100\n200\n0' ]
  [ "$(in_box --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=4096 busybox \
    cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax)" = $'1\n4096' ]
  [ "$(in_box --oom-score-adj 500 busybox cat /proc/self/oom_score_adj)" -eq 500 ]
  [[ $(in_box --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status) == *1 ]]
  [[ $(in_box --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status) == *0 ]]
}

@test "devices: one, by another name, read-only; a directory" {
  [[ $(in_box --device /dev/loop0:/dev/xx:r busybox ls -l /dev/xx) == b*"7,"*0* ]]
  [[ $(in_box --device /dev/net busybox ls -l /dev/net/tun) == c*"10, 200"* ]]
  run in_box --device /dev/full:/dev/yy:r busybox sh -c 'head -c 1 /dev/yy | wc -c; : 2>/dev/null >/dev/yy || echo refused'
  [ "${lines[0]}" -eq 1 ]
  fails_with 127 /nope kit run --rm --device /nope busybox true
  [ -z "$(kit ps -aq)" ]
}

@test "limits are set" {
  local limits=(--memory 100m --memory-swap 150m --memory-reservation 50m --cpu-shares 512 --cpuset-cpus 0 --pids-limit 9
    --cpu-period 50000 --cpu-quota 25000)
  run -0 in_box "${limits[@]}" busybox sh -c 'grep Cpus_allowed_list /proc/self/status
    cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max cpu/cpu.shares \
      cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us || cat memory.max memory.low pids.max cpu.weight cpu.max'
  [[ ${lines[0]} == *$'\t'0 && ${lines[1]} -eq 104857600 && ${lines[2]} -eq 52428800 && ${lines[3]} -eq 9 ]]
  kit create --name told "${limits[@]}" --stop-timeout 3 --shm-size 1m busybox true
  [ "$(kit inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.MemoryReservation}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.ShmSize}} {{.Config.StopTimeout}}' told)" = \
    "104857600 157286400 52428800 512 0 9 1048576 3" ]
  kit rm told
}

@test "namespaces of the host and of another container" {
  [ "$(in_box --uts host busybox hostname)" = "$(hostname)" ]
  [ "$(in_box --pid host busybox sh -c "grep -c . /proc/$$/comm")" -eq 1 ]
  in_box --ipc host busybox true
  [[ $(in_box --cgroupns host busybox cat /proc/self/cgroup) == *kit-* ]]
  kit run -d --name base --hostname based --ipc shareable busybox sh -c 'echo x >/dev/shm/shared; exec sleep 1000'
  within 10 kit exec base test -e /dev/shm/shared
  run -0 kit run --rm --network container:base --pid container:base --ipc container:base busybox sh -c \
    'hostname; cat /dev/shm/shared; cat /proc/1/comm; ip -4 -o addr show eth0 | wc -l; readlink /proc/self/ns/net; cat /etc/hostname'
  [ "${lines[*]:0:4}" = "based x sleep 1" ]
  [ "${lines[4]}" = "$(readlink "/proc/$(pid_of base)/ns/net")" ]
  [ "${lines[5]}" = based ]
  kit run --rm --uts container:base busybox hostname | grep -q based
  # By name when it is made, by id ever after.
  kit create --name joined --network container:base busybox true
  kit rename base other
  kit start -a joined
  kit stop -t 0 other
  fails_with 1 "non running container" kit start joined
  kit rm joined other
  kit run -d --name closed --network none busybox sleep 1000
  fails_with 125 "not shareable" kit run --rm --ipc container:closed busybox true
  kit rm -f closed
}

@test "cidfile, pidfile, label-file" {
  cd "$BATS_TEST_TMPDIR"
  printf '# none\nfrom=file\nboth=file\n' >labels
  kit run -d --name filed --cidfile cid --pidfile pid --label-file labels -l both=option busybox sleep 1000
  [ "$(cat cid)" = "$(kit inspect -f '{{.Id}}' filed)" ]
  [ "$(cat pid)" = "$(pid_of filed)" ]
  [ "$(kit inspect -f '{{json .Config.Labels}}' filed)" = '{"from":"file","both":"option"}' ]
  fails_with 125 "container ID file found" kit run --rm --cidfile cid busybox true
  fails_with 125 "pid file found" kit run --rm --pidfile pid busybox true
  fails_with 125 "no such file" kit run --rm --cidfile absent/cid busybox true
  kit rm -f filed
}

# Docker's exit code, one clear line, and nothing is left.
@test "what is refused" {
  local file=$BATS_TEST_TMPDIR/env before
  before=$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" -mindepth 1 -maxdepth 2 | sort)
  while IFS='|' read -r code pattern args; do
    # shellcheck disable=SC2086
    fails_with "$code" "$pattern" kit run --rm $args busybox true || { echo "failed: $args"; return 1; }
  done <<'ROWS'
125|6MB|--memory 1
125|size|--memory 9E
125|size|--memory 4x
125|size|--memory -5
125|size|--memory 1.2.3g
125|memoryswap|-m 100m --memory-swap 1m
125|memory limit|--memory-swap 100m
125|reservation|-m 50m --memory-reservation 100m
125|swappiness|--memory-swappiness 101
125|CPUs|--cpus 1000
125|CPUs|--cpus -1
125|number|--cpus nan
125|number|--cpus x
125|conflicting|--cpus 1 --cpu-quota 25000
125|number|--cpu-shares -5
125|available|--cpuset-cpus 8000
125|invalid value a|--cpuset-cpus a
125|weight|--blkio-weight 5
125|number|--pids-limit x
125|ulimit type: foo|--ulimit foo=1
125|soft limit|--ulimit nofile=5:1
125|ulimit argument|--ulimit nofile
125|whitelisted|--sysctl foo
125|whitelisted|--sysctl kernel.panic=1
125|add-host|--add-host foo
125|IP address|--add-host foo:bar
125|ip address|--dns foo
125|bad mode|--device /dev/null:/dev/x:q
125|device|--device null
125|absolute|-w rel
125|nobody1|-u nobody1
125|nogroup1|--group-add nogroup1
125|oom score|--oom-score-adj 2000
125|no such container|--network container:nope
125|conflicting|--network container:nope --hostname x
125|conflicting|--network container:nope --dns 1.1.1.1
125|conflicting|--uts host --hostname x
125|no such container|--pid container:nope
125|invalid mode|--ipc foo
125|invalid mode|--uts foo
125|invalid mode|--pid foo
125|empty name|--label =x
125|KEY=VALUE|-e =x
125|security-opt|--security-opt foo
125|number|--stop-timeout x
125|pull|--pull always
125|no such network|--network nope
125|/no/such|--label-file /no/such
125|directory|-w /etc/passwd
ROWS
  printf 'A=\xff\n' >"$file"
  fails_with 125 "UTF-8" kit run --rm --env-file "$file" busybox true
  [ "$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" -mindepth 1 -maxdepth 2 | sort)" = "$before" ]
  [ -z "$(kit ps -aq)" ]
}
