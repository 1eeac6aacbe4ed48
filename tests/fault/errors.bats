# SPDX-License-Identifier: Apache-2.0
# Steps and system calls that fail: one clear line, and nothing to repair.
load common

# COMMAND fails with one line, or, where its caller can do without, not at all; the check finds nothing.
fails_cleanly() { # FAULT COMMAND...
  local fault=$1 code=0 outcome
  shift
  KIT_FAULT=$fault timeout 20 "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" </dev/null || code=$?
  [[ $code -ne 124 && $code -lt 128 ]] || { echo "exit $code: $(cat "$BATS_TEST_TMPDIR/err")"; return 1; }
  [[ $code -eq 0 ]] || grep -q '^kit: ' "$BATS_TEST_TMPDIR/err" || { echo "exit $code without a word"; return 1; }
  outcome=$(comes_to_order) || { echo "$outcome"; return 1; }
  [[ $outcome == clean* ]] || { echo "$outcome: $(cat "$BATS_TEST_TMPDIR/findings")"; return 1; }
  echo "exit $code, $outcome"
}

each() { # NAME COMMAND...: with the faults on stdin
  local name=$1 fault outcome failed=0
  shift
  while read -r fault; do
    outcome=$(fails_cleanly "$fault" "$@") || { failed=$((failed + 1)); outcome="WRONG: $outcome"; }
    printf '# %-8s %-60s %s\n' "$name" "$fault" "$outcome" >&3
  done
  ((failed == 0))
}

faults_of() { # EVERY ERRNO COMMAND...: the steps of a command, each to fail before it begins
  local every=$1 errno=$2
  shift 2
  points_of "$@" | grep ':before@' | grep -v become_monitor | sampled "$every" | sed "s/\$/=errno:$errno/"
}

@test "steps of run fail" {
  faults_of 12 ENOSPC kit run --rm --name victim busybox true >"$BATS_TEST_TMPDIR/faults"
  each run kit run --rm --name victim busybox true <"$BATS_TEST_TMPDIR/faults"
}

@test "steps of import fail" {
  faults_of 8 EIO kit import "$BATS_FILE_TMPDIR/rootfs.tar" made >"$BATS_TEST_TMPDIR/faults"
  kit rmi made
  each import kit import "$BATS_FILE_TMPDIR/rootfs.tar" made <"$BATS_TEST_TMPDIR/faults"
}

@test "system calls of run fail" {
  each call kit run --rm --name victim busybox true <<'FAULTS'
openat:call@kit,9=errno:EMFILE
openat:call@launcher,3=errno:ENOMEM
read:call@launcher,5=errno:EIO
write:call@kit,2=errno:ENOSPC
write:call@launcher,1=errno:ENOSPC
mkdir:call@kit,7=errno:ENOSPC
mkdir:call@launcher,2=errno:EPERM
rename:call@launcher,1=errno:ENOSPC
flock:call@kit,2=errno:ENOLCK
pipe2:call@launcher,1=errno:EMFILE
socketpair:call@kit,1=errno:EMFILE
fork:call@kit,1=errno:EAGAIN
clone3:call@launcher,1=errno:ENOMEM
fsopen:call@launcher,1=errno:EPERM
fsmount:call@launcher,1=errno:ENOMEM
move_mount:call@child,3=errno:EPERM
FAULTS
}

@test "interrupted system calls are made again" {
  local call
  for call in openat read write flock openat2; do
    [ "$(KIT_FAULT="$call:call,2=errno:EINTR" kit run --rm -v "$BATS_TEST_TMPDIR:/srv" busybox echo hello)" = hello ]
  done
}
