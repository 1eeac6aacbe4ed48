# SPDX-License-Identifier: Apache-2.0
# One root is one place, whatever it is called; two roots are two, whatever they share.
load common

teardown() {
  local ids
  ids=$(kit ps -aq --no-trunc)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

address_of() { kit inspect -f '{{.NetworkSettings.IPAddress}}' "$1"; }

@test "two roots may share a run directory: neither sees or touches the other's containers" {
  local first=$KIT_ROOT second=$BATS_TEST_TMPDIR/second
  kit run -d --name same busybox sleep 1000
  export KIT_ROOT=$second
  import_busybox
  [ -z "$(kit ps -aq)" ]
  kit run -d --name same busybox sleep 1000
  [ -z "$(kit system check)" ]
  [ "$(address_of same)" != "$(KIT_ROOT=$first address_of same)" ]
  KIT_ROOT=$first kit exec same true
  [ -z "$(KIT_ROOT=$first kit system check)" ]
  KIT_ROOT=$first kit rm -f same
  is_running same
  kit exec same true
  kit rm -f same
  kit system prune -af >/dev/null
  export KIT_ROOT=$first
  [ -z "$(kit system check)" ]
}

@test "two roots do not get one subnet" {
  local first=$KIT_ROOT
  kit run -d --name first busybox sleep 1000
  kit network inspect bridge | jq '{subnet: .[0].IPAM.Config[0].Subnet}' >"$BATS_TEST_TMPDIR/kit.json"
  export KIT_ROOT=$BATS_TEST_TMPDIR/second
  KIT_CONFIG=$BATS_TEST_TMPDIR/kit.json import_busybox
  KIT_CONFIG=$BATS_TEST_TMPDIR/kit.json fails_with 125 overlaps kit run --rm busybox true
  kit system prune -af >/dev/null
  export KIT_ROOT=$first
  kit exec first true
}

# Starts, lists and stops containers of one root by $1 and $2, its two names, at once.
use_both_names() {
  local name jobs=()
  KIT_ROOT=$1 kit run -d --name shared busybox sleep 1000
  [ "$(KIT_ROOT=$2 kit exec shared hostname)" = "$(KIT_ROOT=$1 kit inspect -f '{{.Config.Hostname}}' shared)" ]
  for _ in 1 2 3 4; do
    for name in "$1" "$2"; do
      KIT_ROOT=$name kit run -d busybox sleep 1000 >/dev/null &
      jobs+=($!)
    done
  done
  wait "${jobs[@]}" || return 1
  [ "$(KIT_ROOT=$1 kit ps -q | wc -l)" -eq 9 ]
  # shellcheck disable=SC2046
  KIT_ROOT=$2 kit inspect -f '{{.NetworkSettings.IPAddress}}' $(KIT_ROOT=$1 kit ps -q) | sort >"$BATS_TEST_TMPDIR/addresses"
  [ "$(uniq <"$BATS_TEST_TMPDIR/addresses" | wc -l)" -eq 9 ]
  [ -z "$(KIT_ROOT=$2 kit system check)" ]
  # shellcheck disable=SC2046
  KIT_ROOT=$2 kit rm -f $(KIT_ROOT=$1 kit ps -q) >/dev/null
  [ -z "$(KIT_ROOT=$1 kit ps -aq)" ]
}

@test "one root by a symbolic link is the same root" {
  ln -s "$KIT_ROOT" "$BATS_TEST_TMPDIR/link"
  use_both_names "$KIT_ROOT" "$BATS_TEST_TMPDIR/link"
  [ "$(KIT_ROOT=$BATS_TEST_TMPDIR/link kit system info --format '{{.Root}}')" = "$KIT_ROOT" ]
}

@test "one root by a bind mount is the same root" {
  mkdir "$BATS_TEST_TMPDIR/bound"
  export -f use_both_names
  # shellcheck disable=SC2016
  unshare --mount bash -ec 'mount --bind "$1" "$2"; use_both_names "$1" "$2"' bash "$KIT_ROOT" "$BATS_TEST_TMPDIR/bound"
}

@test "another run directory is refused while containers run, and taken afterwards" {
  kit run -d --name here busybox sleep 1000
  fails_with 1 "--run-dir $KIT_RUN_DIR" kit --run-dir "$BATS_TEST_TMPDIR/run" ps
  fails_with 125 "container here" kit --run-dir "$BATS_TEST_TMPDIR/run" run --rm busybox true
  kit exec here true
  kit stop -t 0 here
  [ "$(kit --run-dir "$BATS_TEST_TMPDIR/run" run --rm busybox echo there)" = there ]
  kit rm here
}

@test "a copy of a root whose containers run is refused" {
  kit run -d --name original busybox sleep 1000
  cp -a "$KIT_ROOT" "$BATS_TEST_TMPDIR/copy"
  fails_with 1 "copy of its root" kit --root "$BATS_TEST_TMPDIR/copy" rm -f original
  is_running original
}

in_pid_namespace=(unshare --pid --fork --kill-child --mount-proc)

@test "another pid namespace is refused while containers run, and taken afterwards" {
  kit run -d --name outside busybox sleep 1000
  fails_with 1 "another pid namespace" "${in_pid_namespace[@]}" kit ps
  fails_with 125 "another pid namespace" "${in_pid_namespace[@]}" kit run --rm busybox true
  kit exec outside true
  kit stop -t 0 outside
  [ "$("${in_pid_namespace[@]}" kit run --rm busybox echo inside)" = inside ]
  [ "$(kit run --rm busybox echo outside)" = outside ]
}

@test "containers of a pid namespace that is gone are gone with it" {
  "${in_pid_namespace[@]}" bash -c 'kit run -d --name lost busybox sleep 1000; exec sleep 1000' >"$BATS_TEST_TMPDIR/id" 3>&- &
  local namespace=$!
  started() { [[ -s $BATS_TEST_TMPDIR/id ]]; }
  within 10 started
  fails_with 1 "another pid namespace" kit ps
  kill -9 "$namespace"
  wait "$namespace" || true
  within 5 kit ps
  [ "$(state_of lost)" = exited ]
  kit start lost
  is_running lost
}
