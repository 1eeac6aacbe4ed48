# SPDX-License-Identifier: Apache-2.0
# What all e2e tests share: a kit root of their own per file, and the image `busybox`.
bats_require_minimum_version 1.5.0

: "${KIT_TEST_BIN:?is where kit was built}"
PATH="$KIT_TEST_BIN:$PATH"

# Short: a Unix socket's path may have 107 bytes.
new_root() {
  local directory
  directory=$(mktemp -d "${TMPDIR:-/tmp}/kit.XXXXXX")
  export KIT_ROOT=$directory/root KIT_RUN_DIR=$directory/run
}

# No container and no control group of the root is left.
empty_root() {
  local ids tag
  tag=$(kit system info --format '{{.RootTag}}')
  ids=$(kit ps -aq --no-trunc) || true
  # shellcheck disable=SC2086
  [[ -z $ids ]] || kit rm -f $ids >/dev/null || true
  # A root keeps its one group per hierarchy between runs; this root has had its last.
  gone() { [[ -z $(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -name "kit-$tag" ! -exec rmdir {} \; -print 2>/dev/null) ]]; }
  within 10 gone || true
}

remove_root() {
  [[ -n ${KIT_ROOT:-} ]] || return 0
  empty_root
  # A monitor may still be tidying the records.
  within 20 rm -rf "${KIT_ROOT%/root}"
}

# A root file system of Debian's busybox, as tar on stdout.
busybox_rootfs() {
  local rootfs applet
  rootfs=$(mktemp -d)
  chmod 755 "$rootfs"
  mkdir -p "$rootfs"/{bin,etc,proc,sys,dev,tmp,root,srv}
  chmod 1777 "$rootfs/tmp"
  cp /bin/busybox "$rootfs/bin/"
  for applet in $(/bin/busybox --list); do
    [[ $applet == busybox ]] || ln -s busybox "$rootfs/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n' >"$rootfs/etc/passwd"
  printf 'root:x:0:\nguest:x:1000:\nextra:x:2000:guest\n' >"$rootfs/etc/group"
  echo 'not a program' >"$rootfs/bin/text"
  tar -C "$rootfs" -c .
  rm -rf "$rootfs"
}

import_busybox() { busybox_rootfs | kit import -c 'CMD ["sh"]' - busybox >/dev/null; }

# What each file begins and ends with.
setup_file() {
  new_root
  import_busybox
}
teardown_file() { remove_root; }

# within SECONDS COMMAND...: until it succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

state_of() { kit inspect -f '{{.State.Status}}' "$1"; }
is_running() { [[ $(state_of "$1") == running ]]; }
is_exited() { [[ $(state_of "$1") == exited ]]; }
logs_contain() { [[ $(kit logs "$1" 2>&1) == *"$2"* ]]; }
pid_of() { kit inspect -f '{{.State.Pid}}' "$1"; }

# One clear line on stderr, and this exit code: fails_with CODE PATTERN COMMAND...
fails_with() {
  local code=$1 pattern=$2
  shift 2
  run "-$code" --separate-stderr "$@"
  # shellcheck disable=SC2154  # run sets them
  echo "stdout: $output, stderr: $stderr"
  [[ -z $output ]] || return 1
  [[ $stderr == "kit: "* && $stderr == *$pattern* ]] || return 1
  [[ $(grep -vc "^See 'kit" <<<"$stderr") -eq 1 ]]
}

# A conversation through a real terminal: an expect script on stdin, in which `see TEXT` waits for an answer and `end`
# exits as the program does; 99 if an answer does not come, 98 if the program has ended instead.
converse() {
  local script=$BATS_TEST_TMPDIR/script
  cat >"$script" <<'PROCEDURES'
set timeout 20
proc see {text} {
  global spawn_id
  expect -ex $text {} timeout { puts "\nno answer: $text"; exit 99 } eof { puts "\nended before: $text"; exit 98 }
}
proc end {} {
  global spawn_id
  expect eof {} timeout { puts "\nno end"; exit 99 }
  exit [lindex [wait] 3]
}
PROCEDURES
  cat >>"$script"
  expect -f "$script"
}
