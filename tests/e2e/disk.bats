# SPDX-License-Identifier: Apache-2.0
# A full disk: a clear word, nothing half made, and what frees space works.
load common

setup_file() {
  new_root
  mkdir "$KIT_ROOT"
  mount -t tmpfs -o size=24m tmpfs "$KIT_ROOT"
  export ARCHIVE=$BATS_FILE_TMPDIR/busybox.tar
  busybox_rootfs >"$ARCHIVE"
  kit import -c 'CMD ["sh"]' "$ARCHIVE" busybox
  # Unpacked, with networks and a root tag: the first run's work is another test's.
  kit run --rm busybox true
}
teardown_file() {
  rm -f "$KIT_ROOT/fill"
  remove_containers
  kit system prune -af
  umount -l "$KIT_ROOT"
  remove_root
}
teardown() {
  rm -f "$KIT_ROOT/fill"
  remove_containers
  [ -z "$(kit system check)" ]
}

remove_containers() {
  local ids
  ids=$(kit ps -aq --no-trunc)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}
free_kib() { df -k --output=avail "$KIT_ROOT" | tail -1; }
# leave KIB: fills the disk but for that much.
leave() {
  local used
  rm -f "$KIT_ROOT/fill"
  used=$(($(free_kib) - $1))
  ((used <= 0)) || fallocate -l "${used}K" "$KIT_ROOT/fill"
}

# What must not change when something fails.
world() {
  kit ps -aq --no-trunc
  kit images --format '{{.ID}} {{.Repository}}:{{.Tag}}'
  find "$KIT_ROOT/images/blobs" "$KIT_ROOT/containers" "$KIT_RUN_DIR" -mindepth 1 ! -type f | sort
  find "$KIT_ROOT/images" -type f | sort
}

# at_every_fill COMMAND...: with more and more space left, until it succeeds; each failure is one clear line and changes
# nothing.
at_every_fill() {
  local kib status before after
  for kib in 0 4 8 12 16 24 32 48 64 96 128 192 256 384 512 1024 2048 3072 4096 6144 8192 12288; do
    leave "$kib"
    before=$(world)
    status=0
    "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" </dev/null || status=$?
    if ((status == 0)); then
      echo "# $1 $2: succeeds with $kib KiB" >&3
      return 0
    fi
    after=$(world)
    echo "$kib KiB left: status $status, $(<"$BATS_TEST_TMPDIR/err")"
    # A helper's line may be followed by one that says what it was wanted for.
    [[ $(grep -v "see the message above" "$BATS_TEST_TMPDIR/err") == "kit: "*"no space left"* ]] || return 1
    [[ $(grep -vc "see the message above" "$BATS_TEST_TMPDIR/err") -eq 1 ]] || return 1
    diff <(echo "$before") <(echo "$after") || return 1
    [[ -z $(kit system check) ]] || return 1
  done
  return 1
}

@test "import on a full disk" {
  at_every_fill kit import -c 'ENV A=b' "$ARCHIVE" other
  rm "$KIT_ROOT/fill"
  [ "$(kit run --rm other sh -c 'echo $A')" = b ]
  kit rmi other
}

@test "load on a full disk" {
  mkdir "$BATS_TEST_TMPDIR/tree"
  head -c 1000000 /dev/urandom >"$BATS_TEST_TMPDIR/tree/noise"
  cp -a /bin/busybox "$BATS_TEST_TMPDIR/tree/"
  tar -C "$BATS_TEST_TMPDIR/tree" -c . | kit import - travels
  kit save -o "$BATS_TEST_TMPDIR/travels.tar" travels
  kit rmi travels
  at_every_fill kit load -i "$BATS_TEST_TMPDIR/travels.tar"
  rm "$KIT_ROOT/fill"
  [ "$(kit run --rm travels /busybox stat -c %s /noise)" -eq 1000000 ]
  kit rmi travels
  # An archive that does not fit is not there.
  leave 512
  fails_with 1 "no space left" kit save -o "$KIT_ROOT/busybox.tar" busybox
  [ ! -e "$KIT_ROOT/busybox.tar" ]
}

@test "run on a full disk" {
  at_every_fill kit run --rm busybox true
  at_every_fill kit create --name kept busybox true
  at_every_fill kit start kept
}

@test "the first run of an image on a full disk: unpacked whole or not at all" {
  mkdir "$BATS_TEST_TMPDIR/tree"
  head -c 1500000 /dev/urandom >"$BATS_TEST_TMPDIR/tree/noise"
  cp -a /bin/busybox "$BATS_TEST_TMPDIR/tree/"
  tar -C "$BATS_TEST_TMPDIR/tree" -c . | gzip | kit import - first
  # import unpacks in overlayfs at once.
  at_every_fill kit run --rm --storage vfs first /busybox true
  rm "$KIT_ROOT/fill"
  [ "$(kit run --rm --storage vfs first /busybox stat -c %s /noise)" -eq 1500000 ]
  kit rmi first
}

@test "commit on a full disk" {
  kit run --name worker busybox sh -c 'head -c 500000 /dev/urandom >/noise'
  at_every_fill kit commit worker changed
  rm "$KIT_ROOT/fill"
  [ "$(kit run --rm changed stat -c %s /noise)" -eq 500000 ]
  kit rm worker
  kit rmi changed
}

@test "a container writing to a full disk is told by the kernel; its end is recorded" {
  leave 512
  run kit run --name writer busybox sh -c 'cat /dev/zero >/zero'
  echo "$output"
  [[ $output == *"No space left on device"* ]]
  [ "$(state_of writer)" = exited ]
  [ "$(kit inspect -f '{{.State.ExitCode}}' writer)" -eq 1 ]
  kit rm writer
  [ "$(free_kib)" -gt 100 ]
}

@test "a log that a full disk cut says where, and is whole otherwise" {
  kit run -d --name talker -v "$BATS_TEST_TMPDIR:/go" busybox sh -c '
    seq 1 1000; while ! [ -e /go/full ]; do sleep 0.05; done
    seq 1001 9000; touch /go/said; while ! [ -e /go/free ]; do sleep 0.05; done; seq 9001 9010'
  within 10 logs_contain talker $'\n1000'
  leave 0
  touch "$BATS_TEST_TMPDIR/full"
  said() { [ -e "$BATS_TEST_TMPDIR/said" ]; }
  within 10 said
  sleep 0.3
  kit logs talker | head -n 1000 | cmp - <(seq 1 1000)
  seen_to_be_lost() { [ "$(kit inspect -f '{{.LogBytesLost}}' talker)" -gt 100000 ]; }
  within 5 seen_to_be_lost
  rm "$KIT_ROOT/fill"
  touch "$BATS_TEST_TMPDIR/free"
  within 10 is_exited talker
  kit logs talker 2>&1 | tail -n 10 | cmp - <(seq 9001 9010)
  kit logs talker 2>&1 >/dev/null | grep -x 'kit: [0-9]* bytes of the log are missing here: its disk was full'
  seen_to_be_lost
  [[ $(kit inspect -f '{{.State.Error}}' talker) == *"bytes of the log were lost"* ]]
}

@test "rm, rmi and prune work on a full disk, and free it" {
  local i
  for i in 1 2 3 4 5; do kit run --name "box$i" busybox sh -c 'head -c 100000 /dev/urandom >/noise'; done
  kit run -d --name service busybox sleep 1000
  kit import -c 'ENV X=y' "$ARCHIVE" twin
  leave 0
  [ "$(free_kib)" -eq 0 ]
  kit rm box1
  kit rm -f service
  kit rm box2 box3
  kit rmi twin
  kit system prune -f
  [ -z "$(kit ps -aq)" ]
  [ "$(free_kib)" -gt 400 ]
}
