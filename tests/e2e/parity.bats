# SPDX-License-Identifier: Apache-2.0
# The command lines of docker-parity, given to kit and to Docker: the same output and exit code, or a reason.
load common

rows() { grep -vE '^(#|$)' "$BATS_TEST_DIRNAME/docker-parity"; }

gone() { ! kill -0 "$1" 2>/dev/null; }

setup_file() {
  new_root
  PARITY_DIR=$(mktemp -d "${TMPDIR:-/tmp}/kit.XXXXXX")
  export PARITY_DIR TAR=$PARITY_DIR/rootfs.tar FILE=$PARITY_DIR/file
  # Docker adds this link to every image.
  mkdir "$PARITY_DIR/rootfs"
  busybox_rootfs | tar -x -C "$PARITY_DIR/rootfs"
  ln -s /proc/mounts "$PARITY_DIR/rootfs/etc/mtab"
  tar -C "$PARITY_DIR/rootfs" -cf "$TAR" .
  echo content >"$FILE"
  # Debian's, whatever else stands before it in PATH.
  export DOCKER=/usr/bin/docker
  if [[ ! -x $DOCKER ]] || ! command -v dockerd >/dev/null; then
    export NO_DOCKER="dockerd is not installed"
    return
  fi
  local storage=overlay2
  [[ $(stat -f -c %T "$PARITY_DIR") != overlayfs ]] || storage=vfs
  # It ends with this file's process, however that ends.
  setpriv --pdeathsig TERM dockerd --data-root "$PARITY_DIR/data" --exec-root "$PARITY_DIR/run" \
    --pidfile "$PARITY_DIR/pid" --host "unix://$PARITY_DIR/socket" --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false --storage-driver "$storage" --cgroup-parent "kit-parity-$$" --userland-proxy=false \
    >"$PARITY_DIR/log" 2>&1 3>&- 4>&- </dev/null &
  echo $! >"$PARITY_DIR/started"
  export DOCKER_GROUP=kit-parity-$$
  if ! within 30 "$DOCKER" --host "unix://$PARITY_DIR/socket" version; then
    NO_DOCKER="dockerd does not start: $(grep -m 1 -E 'level=(fatal|error)|failed to' "$PARITY_DIR/log")"
    export NO_DOCKER
  fi >/dev/null 2>&1
}

teardown_file() {
  if [[ -s $PARITY_DIR/started ]]; then
    local pid
    pid=$(<"$PARITY_DIR/started")
    "$DOCKER" --host "unix://$PARITY_DIR/socket" ps -q 2>/dev/null |
      xargs -r "$DOCKER" --host "unix://$PARITY_DIR/socket" rm -f >/dev/null 2>&1 || true
    kill "$pid" 2>/dev/null || true
    within 20 gone "$pid" || kill -9 "$pid"
    awk -v below="$PARITY_DIR/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
    find /sys/fs/cgroup -depth -type d -path "*/$DOCKER_GROUP*" -exec rmdir {} + 2>/dev/null || true
  fi
  within 20 rm -rf "$PARITY_DIR"
  remove_root
}

# Ids, times, sizes, places and the width of columns are each program's own.
made_equal() {
  sed -E -e "s#$KIT_ROOT#ROOT#g; s#$PARITY_DIR/data#ROOT#g" \
    -e 's/(sha256:)?[0-9a-f]{64}/ID/g; s/\b[0-9a-f]{12}\b/ID/g' \
    -e 's/(Less than a second|About a minute|[0-9]+ (second|minute)s?)/AGO/g' \
    -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z| \+0000 UTC)/TIME/g' \
    -e 's/[0-9.]+(B|kB|MB)\b/SIZE/g; s/ +/ /g; s/ $//'
}

# run_rows DIRECTORY: DIRECTORY/N has what row N printed, and its exit code; D is there.
run_rows() {
  local n=0 row code
  mkdir "$1"
  cd "$1" || return
  while IFS= read -r row; do
    n=$((n + 1))
    code=0
    eval "${row%%  ## *}" >out 2>"err.$n" </dev/null || code=$?
    { made_equal <out; echo "exit code $code"; } >"$n"
  done < <(rows)
}

as_kit() (
  D() { kit "$@"; }
  run_rows "$PARITY_DIR/as-kit"
)
as_docker() (
  D() { "$DOCKER" --host "unix://$PARITY_DIR/socket" "$@"; }
  run_rows "$PARITY_DIR/as-docker"
)

@test "kit and Docker answer alike, or it is said why not" {
  [[ -z ${NO_DOCKER:-} ]] || skip "$NO_DOCKER"
  as_docker &
  as_kit
  wait $!
  local n=0 wrong=0 row
  while IFS= read -r row; do
    n=$((n + 1))
    if cmp -s "$PARITY_DIR/as-kit/$n" "$PARITY_DIR/as-docker/$n"; then
      [[ $row == *"  ## "* ]] || continue
      echo "no difference any more: $row"
    else
      [[ $row != *"  ## "* ]] || continue
      echo "differs: $row"
      diff -U 9 --label docker --label kit "$PARITY_DIR/as-docker/$n" "$PARITY_DIR/as-kit/$n" | tail -n +4 || true
      head -n 2 "$PARITY_DIR/as-docker/err.$n" "$PARITY_DIR/as-kit/err.$n"
    fi
    wrong=$((wrong + 1))
  done < <(rows)
  echo "$n command lines, $wrong wrong"
  ((n >= 120))
  ((wrong == 0))
}
