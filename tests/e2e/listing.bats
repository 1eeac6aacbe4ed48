# SPDX-License-Identifier: Apache-2.0
# Looking at containers is quick, however many there are, and waits for nobody's work on them.
load common

# The quickest of some runs, in milliseconds: the host has other things to do, too.
least_ms() {
  local begin end best=1000000
  for _ in 1 2 3 4 5 6 7; do
    begin=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    (((end - begin) / 1000000 >= best)) || best=$(((end - begin) / 1000000))
  done
  echo "$best"
}

@test "ps of 500 containers takes less than three times as long as Docker's of 5" {
  kit run --name template --network none busybox true
  "$BATS_TEST_DIRNAME/../../bench/fill-records" "$KIT_ROOT" 499 0
  [ "$(kit ps -aq | wc -l)" -eq 500 ]
  local ours theirs=25
  ours=$(least_ms kit ps -a)
  # Where Docker is not installed: what it needed on the machine this was written on.
  if [[ -x /usr/bin/docker ]] && command -v dockerd; then
    local directory
    directory=$(mktemp -d "${TMPDIR:-/tmp}/kit.XXXXXX")
    docker() { /usr/bin/docker --host "unix://$directory/socket" "$@"; }
    gone() { ! kill -0 "$1" 2>/dev/null; }
    setpriv --pdeathsig TERM dockerd --data-root "$directory/data" --exec-root "$directory/run" --pidfile "$directory/pid" \
      --host "unix://$directory/socket" --bridge none --iptables=false --ip6tables=false --ip-forward=false \
      --storage-driver vfs --userland-proxy=false >"$directory/log" 2>&1 3>&- 4>&- </dev/null &
    local daemon=$!
    if within 30 docker version; then
      busybox_rootfs | docker import - busybox
      for _ in 1 2 3 4 5; do docker create --network none busybox true; done
      theirs=$(least_ms docker ps -a)
    fi >/dev/null 2>&1
    kill "$daemon"
    within 20 gone "$daemon"
    awk -v below="$directory/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
    rm -rf "$directory"
  fi
  echo "kit: $ours ms for 500, Docker: $theirs ms for 5"
  ((ours < 3 * theirs))
  ((ours < 2000))
  sqlite3 "$KIT_ROOT/kit.db" 'DELETE FROM containers'
}

# Each is stopped in the midst of its work, which holds the locks it takes.
@test "ps, inspect and logs do not wait for a slow run, commit, cp, rm or volume" {
  kit run -d --name up busybox sh -c 'echo hello; sleep 1000'
  kit create --name down busybox true
  within 10 logs_contain up hello
  look() {
    timeout 2 kit ps -a >/dev/null && timeout 2 kit inspect up down >/dev/null && timeout 2 kit logs up >/dev/null &&
      timeout 2 kit images >/dev/null && timeout 2 kit volume ls >/dev/null && timeout 2 kit stats --no-stream up >/dev/null
  }
  local point command pid
  while IFS='|' read -r point command; do
    # shellcheck disable=SC2086
    KIT_FAULT="$point=slow:3000" kit $command >/dev/null 2>&1 &
    pid=$!
    sleep 0.3
    look || { echo "waits for: kit $command, at $point"; return 1; }
    kill -0 $pid || { echo "was not slow: kit $command"; return 1; }
    wait $pid || true
  done <<'ROWS'
create_layer:before|create --name slow1 busybox true
make_volumes:before|create --name slow2 -v slow:/v busybox true
start_in_launcher:before@launcher|run -d --name slow3 busybox true
pause_container:after|commit up image
remove_layer:before|rm slow1
ROWS
  kit rm -f up down slow2 slow3
  kit volume rm slow
}
