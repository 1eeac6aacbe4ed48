# SPDX-License-Identifier: Apache-2.0
# Looking at containers and changing them: ps, stats, top, update, restart, rename, port, prune, history, --format.
load common

setup_file() {
  new_root
  import_busybox
  kit run -d --network none --name web -l tier=front -l app=shop -m 64m busybox sleep 1000 >/dev/null
  kit create --network none --name idle -l tier=back -v data:/data busybox true >/dev/null
  kit run --network none --name gone busybox sh -c 'exit 3' || true
}

names() { kit ps --format '{{.Names}}' "$@" | tr '\n' ' '; }

@test "ps: which containers" {
  [ "$(names)" = "web " ]
  [ "$(names -a)" = "gone idle web " ]
  [ "$(names -l)" = "gone " ]
  [ "$(names -n 2)" = "gone idle " ]
  [ "$(names -n -1)" = "web " ]
  [ "$(kit ps -q --no-trunc)" = "$(kit inspect -f '{{.Id}}' web)" ]
}

@test "ps: filters; of one kind any, of several all" {
  [ "$(names -a --filter exited=3)" = "gone " ]
  [ "$(names -a --filter status=exited --filter status=created)" = "gone idle " ]
  [ "$(names --filter status=created)" = "idle " ]
  [ "$(names -a --filter label=tier)" = "idle web " ]
  [ "$(names -a --filter label=tier=back)" = "idle " ]
  [ "$(names -a --filter label=tier --filter label=app)" = "web " ]
  [ "$(names -a --filter name='^/?(web|gone)$')" = "gone web " ]
  [ "$(names -a --filter name=e)" = "gone idle web " ]
  [ "$(names -a --filter id="$(kit inspect -f '{{.Id}}' idle | cut -c1-8)")" = "idle " ]
  [ "$(names -a --filter ancestor=busybox)" = "gone idle web " ]
  [ "$(names -a --filter ancestor="$(kit images -q busybox)")" = "gone idle web " ]
  [ "$(names -a --filter ancestor=other)" = "" ]
  [ "$(names -a --filter before=gone)" = "idle web " ]
  [ "$(names -a --filter since=web)" = "gone idle " ]
  [ "$(names -a --filter network=none)" = "gone idle web " ]
  [ "$(names -a --filter network=bridge)" = "" ]
  [ "$(names -a --filter volume=data)" = "idle " ]
  [ "$(names -a --filter volume=/data)" = "idle " ]
  [ "$(names -a --filter health=none)" = "gone idle web " ]
  fails_with 1 "invalid filter 'bogus'" kit ps --filter bogus=1
  fails_with 1 "invalid filter 'status=bogus'" kit ps --filter status=bogus
  fails_with 1 "no such container: nope" kit ps --filter since=nope
  fails_with 125 "bad format of filter" kit ps --filter bogus
  fails_with 125 "whole number" kit ps -n x
}

@test "ps: columns, templates, JSON, sizes" {
  run -0 kit ps -a
  [[ ${lines[0]} == "CONTAINER ID   IMAGE     COMMAND"*"CREATED"*"STATUS"*"PORTS     NAMES" ]]
  [[ ${lines[1]} == *'"sh -c '"'exit 3'"'"'*"Exited (3) "*" ago"*gone ]]
  [[ ${lines[2]} == *Created*idle && ${lines[3]} == *"Up "*web ]]
  run -0 kit ps -a --format 'table {{.Names}}\t{{.State}}'
  [ "${lines[0]}" = "NAMES     STATE" ]
  [ "${lines[1]}" = "gone      exited" ]
  [ "$(kit ps -a --format json | jq -r .Names | tr '\n' ' ')" = "gone idle web " ]
  [ "$(kit ps --format '{{.Label "tier"}} {{.Networks}} {{.LocalVolumes}}' --filter name=web)" = "front none 0" ]
  [ "$(kit ps -a --format '{{.Mounts}}' --filter name=idle)" = data ]
  [[ $(kit ps -s | head -n 1) == *"NAMES     SIZE" ]]
  [[ $(kit ps -s --format '{{.Size}}') == *B\ \(virtual\ *B\) ]]
  fails_with 1 "no field .Nope" kit ps --format '{{.Nope}}'
  [[ $(kit container ls -a --format '{{.Names}}' --filter name=idle) == idle ]]
}

@test "inspect: templates, sizes, types" {
  [ "$(kit inspect -f '{{.State.Running}} {{json .Config.Cmd}} {{.Name}}' web)" = 'true ["sleep","1000"] /web' ]
  [ "$(kit inspect -f '{{.Config.Cmd}} {{index .Config.Labels "tier"}} {{len .Mounts}}' web)" = '[sleep 1000] front 0' ]
  [ "$(kit inspect -f '{{range .Mounts}}{{.Destination}}{{end}}{{if .State.Running}}up{{end}}' idle)" = /data ]
  [ "$(kit inspect -s -f '{{.SizeRootFs}}' gone)" -gt 1000000 ]
  [ "$(kit container inspect -f '{{.Name}}' web idle)" = $'/web\n/idle' ]
  [ "$(kit image inspect -f '{{.Config.Cmd}}' busybox)" = "[sh]" ]
  run -1 --separate-stderr kit inspect --type image web
  [ "$output" = "[]" ]
  [[ $stderr == "kit: no such image: web" ]]
  run -1 --separate-stderr kit inspect web nope
  [ "$(jq length <<<"$output")" -eq 1 ]
}

@test "stats: once, of what does not run, JSON; and live on a terminal" {
  run -0 kit stats --no-stream web
  [ "${lines[0]}" = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS" ]
  [[ ${lines[1]} == *" web "*"/ 64MiB"*" 1" ]]
  [ "$(kit stats --no-stream -a --format '{{.Name}} {{.PIDs}}' | tr '\n' ' ')" = "gone 0 idle 0 web 1 " ]
  [ "$(kit stats --no-stream --format json web | jq -r '.Container,.Name')" = $'web\nweb' ]
  fails_with 1 "no such container: nope" kit stats --no-stream nope
  kit run -d --name busy busybox sh -c 'while :; do :; done'
  converse <<'EXPECT'
spawn kit stats busy
see "NAME"
see "busy"
see "NAME"
expect -re {busy +[1-9][0-9.]*%} {} timeout { exit 99 }
send "\003"
expect eof
EXPECT
  # What has gone over the network is counted.
  kit exec busy ping -c 1 -w 1 "$(kit inspect -f '{{.NetworkSettings.Gateway}}' busy)" || true
  [[ $(kit stats --no-stream --format '{{.NetIO}}' busy) != "0B / 0B" ]]
  kit rm -f busy
}

@test "top: as the host's ps" {
  run -0 kit top web
  [[ ${lines[0]} == "UID                 PID                 PPID "*CMD ]]
  [[ ${lines[1]} == *"sleep 1000" && ${#lines[@]} -eq 2 ]]
  run -0 kit top web -o pid,comm
  [ "${lines[1]}" = "$(printf '%-20s%s' "$(pid_of web)" sleep)" ]
  [[ $(kit container top web aux | head -n 1) == USER* ]]
  fails_with 1 "not running" kit top gone
  fails_with 1 "PID" kit top web -o comm
}

@test "update: limits of a running container, and of one that is started later" {
  kit update -m 32m --pids-limit 17 --cpus 0.5 web idle
  inside() { kit exec web sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max || cat memory.max pids.max' 2>/dev/null; }
  [ "$(inside)" = $'33554432\n17' ]
  [ "$(kit inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' idle)" = "33554432 500000000 17" ]
  fails_with 1 "memoryswap" kit update -m 1g web
  [ "$(inside)" = $'33554432\n17' ]
  kit update -m 1g --memory-swap 2g web
  [ "$(inside | head -n 1)" -eq 1073741824 ]
  fails_with 1 "6MB" kit update -m 1 web
  fails_with 1 "one or more flags" kit update web
  fails_with 1 "no such container: nope" kit update -m 32m nope
  kit restart -t 0 web
  [ "$(inside | head -n 1)" -eq 1073741824 ]
}

@test "restart, start of what runs, stop with the timeout it was made with" {
  local pid
  pid=$(pid_of web)
  [ "$(kit restart -t 0 web)" = web ]
  [ "$(pid_of web)" -ne "$pid" ]
  [ "$(kit start web)" = web ]
  [ "$(kit container restart gone)" = gone ]
  [ "$(kit wait gone)" -eq 3 ]
  kit run -d --name stubborn --stop-timeout 1 busybox sh -c 'trap "" TERM; while :; do sleep 0.1; done'
  local begin=$SECONDS
  kit stop stubborn
  ((SECONDS - begin < 5))
  [ "$(kit inspect -f '{{.State.ExitCode}}' stubborn)" -eq 137 ]
  kit rm stubborn
  fails_with 1 "no such container: nope" kit restart nope
  fails_with 125 "whole number" kit stop -t x web
}

@test "rename, port" {
  kit rename web other
  [ "$(names)" = "other " ]
  fails_with 1 "in use" kit rename other gone
  fails_with 1 "already" kit rename other other
  kit rename other web
  [ -z "$(kit port web)" ]
  fails_with 1 "no public port '80/tcp' published for web" kit port web 80
}

@test "images: history, filters, digests, prune" {
  kit commit -m message web child >/dev/null
  run -0 kit history child
  [[ ${lines[0]} == "IMAGE          CREATED"*"CREATED BY"*"SIZE      COMMENT" ]]
  [[ ${lines[1]} == *message && ${lines[2]} == "<missing>"* ]]
  [ "$(kit image history -q --no-trunc child | head -n 1)" = "$(kit image inspect -f '{{.Id}}' child)" ]
  [ "$(kit images --format '{{.Repository}}' --filter since=busybox)" = child ]
  [ "$(kit images --format '{{.Repository}}' --filter before=child)" = busybox ]
  [ "$(kit images --format '{{.Repository}}' --filter reference='ch*')" = child ]
  [[ $(kit images --digests | head -n 1) == *DIGEST* ]]
  [[ $(kit images --digests child | tail -n 1) == *sha256:* ]]
  local old
  old=$(kit image inspect -f '{{.Id}}' child)
  kit commit -c 'LABEL x=y' web child >/dev/null
  [ "$(kit images -q --no-trunc --filter dangling=true)" = "$old" ]
  run -0 kit image prune -f
  [[ $output == "Deleted Images:"*"Deleted: $old"*"Total reclaimed space: "* ]]
  [ -z "$(kit images -q --filter dangling=true)" ]
  run -0 kit image prune -af --filter label=x
  [[ $output == *"Untagged: child:latest"* ]]
  [ "$(kit images --format '{{.Repository}}')" = busybox ]
}

@test "container prune removes what does not run, asked first" {
  kit create --name doomed -l doomed busybox true
  run -0 bash -c 'echo n | kit container prune'
  [[ $output == "WARNING! This will remove all stopped containers."* ]]
  run -0 kit container prune -f --filter label=doomed
  [[ $output == "Deleted Containers:"* ]]
  [ "$(names -a)" = "gone idle web " ]
}

@test "each plain verb of containers stands below container, too" {
  local verb
  for verb in attach commit cp create diff exec export inspect kill logs ls pause port prune rename restart rm run start \
    stats stop top unpause update wait; do
    run -0 kit container "$verb" --help
    [[ $output == *"Usage:  kit container $verb"* ]]
  done
  [[ $(kit internal complete 2 kit container "") == *restart* ]]
  [[ $(kit internal complete 3 kit container start "") == *idle* ]]
}
