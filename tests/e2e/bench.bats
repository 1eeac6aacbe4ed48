# SPDX-License-Identifier: Apache-2.0
load common

# On a tmpfs, as the benchmark's own.
setup_file() {
  new_root
  KIT_RUN_DIR=$(mktemp -d /dev/shm/kit.XXXXXX)
  import_busybox
}
teardown_file() {
  remove_root
  within 20 rm -rf "$KIT_RUN_DIR"
}

floor() { kit bench floor "$@"; }

# What a program can see of the container it is in.
look='
for n in mnt uts ipc pid net cgroup user time; do echo "namespace $n $(busybox readlink /proc/self/ns/$n)"; done
busybox sed "s/^/mount /" /proc/self/mountinfo
busybox sed "s/^/group /" /proc/self/cgroup
for g in /sys/fs/cgroup /sys/fs/cgroup/*; do
  for f in devices.list memory.limit_in_bytes memory.max pids.max cpu.shares cpu.max cpuset.cpus cpuset.mems; do
    [ ! -f $g/$f ] || busybox sed "s,^,limit $g/$f ," $g/$f
  done
done
busybox grep -E "^(Umask|Cap...|NoNewPrivs|Seccomp.*|Groups):" /proc/self/status
busybox ls -ln /dev | busybox awk "{print \"device\", \$1, \$3, \$4, \$5, \$6, \$NF}"
busybox ip -o link | busybox sed "s/^/link /"
busybox ip -o addr | busybox sed "s/^/address /"
busybox ip route | busybox sed "s/^/route /"
busybox ls /proc/self/fd | busybox wc -l
'

# Without the numbers that differ between any two containers.
normalized() {
  sed -E -e 's/^(mount) [0-9]+ [0-9]+ [0-9]+:[0-9]+ /\1 /' \
    -e 's,^(mount) /[^ ]*/(hosts|hostname|resolv.conf) ,\1 DIR/\2 ,' \
    -e 's,(lowerdir\+?|upperdir|workdir)=[^ \,]*,\1=DIR,g' \
    -e '/^link|^address|^route/s/[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/ADDRESS/g' \
    -e '/^link/s/@if[0-9]+//' -e '/^(link|address)/s/([0-9a-f]{2}:){5}[0-9a-f]{2}/MAC/' \
    -e '/^(link|address) [0-9]+: eth0/s/[0-9]+/N/' \
    -e '/^namespace/s/[0-9]{6,}/N/' -e '/^device total/d' -e '/^device/s/ (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) / /' |
    sort
}

@test "the floor's program sees what a container's sees" {
  local network
  for network in bridge none; do
    kit run --rm --network "$network" busybox sh -c "$look" >"$BATS_TEST_TMPDIR/kit"
    floor --network "$network" -- /bin/sh -c "$look" >"$BATS_TEST_TMPDIR/floor"
    grep -q '^mount .* /sys/fs/cgroup ' "$BATS_TEST_TMPDIR/floor"
    diff <(normalized <"$BATS_TEST_TMPDIR/kit") <(normalized <"$BATS_TEST_TMPDIR/floor")
  done
}

@test "every namespace of the floor is new, like a container's" {
  floor -- /bin/sh -c "$look" | grep ^namespace >"$BATS_TEST_TMPDIR/floor"
  kit run --rm busybox sh -c "$look" | grep ^namespace >"$BATS_TEST_TMPDIR/kit"
  local kind name number
  while read -r _ kind number; do
    for name in floor kit; do
      case $kind in
        user | time) grep -qF "namespace $kind $(readlink "/proc/self/ns/$kind")" "$BATS_TEST_TMPDIR/$name" ;;
        *) ! grep -qF "$(readlink "/proc/self/ns/$kind")" "$BATS_TEST_TMPDIR/$name" ;;
      esac
    done
  done <"$BATS_TEST_TMPDIR/floor"
  [ "$(wc -l <"$BATS_TEST_TMPDIR/floor")" -eq 8 ]
}

@test "the floor takes layers, and tells each step's time" {
  [ "$(floor --layers 20 -- /bin/sh -c 'ls / | busybox grep -c layer-')" -eq 19 ]
  run floor -n 2 --json
  [ "$status" -eq 0 ]
  [ "$(jq '.wall_ms | length' <<<"$output")" -eq 2 ]
  # The steps of the parent are all of the time between fork and the end.
  jq -e '([.steps[] | select(.side == "parent") | .ms[0]] | add) as $sum | ($sum - .wall_ms[0] | fabs) < 0.5' <<<"$output"
  jq -e '[.steps[].name] | index("network") and index("pivot_root") and index("mount overlay")' <<<"$output"
}

@test "a benchmark leaves nothing behind" {
  traces() { find /dev/shm "$TMPDIR" /sys/fs/cgroup -maxdepth 2 -name 'kit-bench*' 2>/dev/null | sort; }
  export TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir "$TMPDIR"
  local before
  before=$(traces)
  kit bench floor -n 1 >/dev/null
  [ "$(traces)" = "$before" ]
}

@test "the start-up benchmark writes JSON, Markdown and a page, and names who is left out and why" {
  local bin=$BATS_TEST_TMPDIR/bin out=$BATS_TEST_TMPDIR/out
  mkdir "$bin"
  printf '#!/bin/sh\necho "broken on purpose" >&2\nexit 1\n' >"$bin/bwrap"
  chmod +x "$bin/bwrap"
  PATH=$bin:$PATH kit bench startup -n 3 --only unshare,bubblewrap --cases run-network,run,at-once-8,exec,rm -o "$out"
  jq -e '[.cases[].contenders[] | select(.name == "kit") | .wall_ms | length] == [3, 3, 3, 3, 3]' "$out.json"
  jq -e '[.cases[] | select(.id == "run") | .contenders[].name] == ["kit", "floor", "unshare"]' "$out.json"
  jq -e '.cases[] | select(.id == "at-once-8") | .contenders[0].each_ms | length == 24' "$out.json"
  jq -e '.left_out[] | select(.name == "bubblewrap") | .reason | contains("broken on purpose")' "$out.json"
  grep -q '^| kit ' "$out.md"
  grep -q 'broken on purpose' "$out.md"
  grep -q '<svg' "$out.html"
  # A page that needs nothing else.
  run ! grep -E 'src=|href=|url\(|<script' "$out.html"
  cp "$out.md" "$out.before"
  kit bench report "$out.json"
  diff "$out.before" "$out.md"
}

@test "the start-up benchmark tells what was aimed at, where the time goes, and what plugins cost" {
  local out=$BATS_TEST_TMPDIR/out
  kit bench startup -n 3 --only none --cases run-network,plugins -o "$out"
  table() { jq -e --arg title "$1" '.tables[] | select(.title == $title) | .rows' "$out.json"; }
  # A goal is reached or missed, as the figure beside it says.
  table "What kit aims at" | jq -e 'map(.[1]) == ["kit / floor", "plugins / linked in"]
    and all(.[]; (.[6] == "reached") == (.[3] <= (.[2] | ltrimstr("≤ ") | tonumber)))'
  table "Where kit's time goes" | jq -e 'map(.[1]) | index("create_in_launcher") and index("conclude")'
  # Each row but the last has three figures; a call through the table costs less than a microsecond.
  table "What a call of a driver costs" | jq -e 'length == 4 and all(.[:3][]; .[1] > 0 and .[2] > 0 and .[3] > 0)
    and .[3][2] < 1000'
}

@test "the density benchmark tells what each container costs, or what was reached" {
  local out=$BATS_TEST_TMPDIR/out
  kit bench density 3 --only none -o "$out"
  jq -e '.curves[0].series[0] | .name == "kit" and (.points | length) == 3' "$out.json"
  # Name, containers, and the memory of one monitor each.
  jq -e '.tables[0].rows[0] | .[0] == "kit" and .[1] == 3 and .[5] == 1 and .[6] > 10 and .[6] < 2000' "$out.json"
  grep -q '<polyline' "$out.html"
}

@test "an interrupted benchmark leaves nothing behind" {
  traces() { find /dev/shm "$TMPDIR" /sys/fs/cgroup -maxdepth 2 -name 'kit-bench*' 2>/dev/null | sort; }
  export TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir "$TMPDIR"
  local before pid status=0
  before=$(traces)
  kit bench startup -n 10000 --only none --cases exec -o - >/dev/null 3>&- &
  pid=$!
  sleep 1.5
  kill -TERM "$pid"
  wait "$pid" || status=$?
  [ "$status" -eq 1 ]
  [ "$(traces)" = "$before" ]
  within 5 eval '! pgrep -f "$TMPDIR"'
}

@test "without root, the start-up benchmark measures what can be, and says what cannot" {
  nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
  nobody test -x "$(type -P kit-bench)" || skip "others than root cannot reach $(type -P kit-bench)"
  nobody unshare --user --map-root-user true || skip "this host gives others than root no user namespace"
  local open
  open=$(mktemp -d)
  chmod 777 "$open"
  run nobody env TMPDIR="$open" kit-bench startup -n 2 --only unshare --cases run -o - --json
  rm -r "$open"
  [[ $output == *"only root can start containers"* ]]
  [[ $output == *'"name":"unshare"'* ]]
  run ! nobody kit-bench floor
  [[ $output == *"only root"* ]]
}

@test "an unknown benchmark, option or value is refused in one line" {
  run ! kit bench nonsense
  [[ $output == *"'nonsense' is no benchmark"* ]]
  run ! kit bench floor --nonsense
  [[ $output == *"unknown option --nonsense"* ]]
  run ! kit bench floor -n none
  [[ $output == *'-n: "none" is no number'* ]]
  run ! kit bench startup --only nobody
  [[ $output == *'"nobody" is none of unshare, '* ]]
  run ! kit bench startup --cases nothing
  [[ $output == *'there is no case nothing'* ]]
  echo 'no JSON' >"$BATS_TEST_TMPDIR/file"
  run ! kit bench report "$BATS_TEST_TMPDIR/file"
  [[ $output == *"it holds no benchmark's JSON"* ]]
}

@test "the storage benchmark measures every driver that works here beside the kernel's own part, and leaves nothing" {
  traces() { find /dev/shm "$TMPDIR" -mindepth 1 -maxdepth 2 -name 'kit-bench*' 2>/dev/null | sort; }
  TMPDIR=$(mktemp -d /dev/shm/kit.XXXXXX)
  export TMPDIR
  local before out=$BATS_TEST_TMPDIR/out
  before=$(traces)
  kit bench storage --quick --workload provision,first-write,diff,clones -o "$out" >/dev/null
  [ "$(traces)" = "$before" ]
  # Those that work, and those that do not with the reason, are all there are.
  diff <(kit driver ls --format '{{.Family}} {{.Name}}' | sed -n 's/^storage //p' | sort) \
    <(jq -r '(.figures | keys[]), (.left_out[] | select(.reason | startswith("time was up") | not) | .name)' "$out.json" | sort -u)
  jq -e '[.cases[] | select(.id == "provision-files") | .contenders[] | select(.name | startswith("mount(2)"))] | length == 2' "$out.json"
  # A sample is the sum of its phases.
  jq -e '[.cases[0].contenders[] | select(.wall_ms[0]) | ([.phases[].ms[0]] | add) - .wall_ms[0] | fabs < 0.001] | all' "$out.json"
  # The second write to a file that a union copied costs a part of the first.
  jq -e '.cases[] | select(.id == "first-write-1024") | .contenders[] | select(.name == "mount(2)") | [.phases[].ms | map(select(.)) | min] | .[1] < .[0]' "$out.json"
  # A clone that nobody wrote takes next to nothing, where a driver shares.
  jq -e '.figures.overlayfs.clone_disk_kb < 100 and .figures.overlayfs.provision_ms > 0' "$out.json"
  grep -q '^| overlayfs' "$out.md"
  grep -q '<polyline' "$out.html"
  run ! grep -E 'src=|href=|url\(|<script' "$out.html"
  rmdir "$TMPDIR"
}

@test "an interrupted storage benchmark leaves nothing behind, not even what a driver deletes later" {
  traces() { find /dev/shm "$TMPDIR" -mindepth 1 -maxdepth 2 -name 'kit-bench*' 2>/dev/null | sort; }
  TMPDIR=$(mktemp -d /dev/shm/kit.XXXXXX)
  export TMPDIR
  local before pid status=0
  before=$(traces)
  kit bench storage -o - >/dev/null 3>&- &
  pid=$!
  sleep 2
  kill -INT "$pid"
  wait "$pid" || status=$?
  [ "$status" -eq 1 ]
  [ "$(traces)" = "$before" ]
  run ! grep kit-bench /proc/self/mountinfo
  rmdir "$TMPDIR"
}

@test "storage's options are refused by name, and a driver that is none" {
  run ! kit bench storage --drivers absent -o -
  [[ $output == *'no storage driver "absent"; there is '* ]]
  run ! kit bench storage --workload nothing
  [[ $output == *'there is no workload nothing; there is provision, '* ]]
  run ! kit bench storage --quick --full
  [[ $output == *'exclude each other'* ]]
  run ! kit bench storage --directory /absent/directory
  [[ $output == *'/absent/directory'* ]]
}
