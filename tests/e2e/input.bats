# SPDX-License-Identifier: Apache-2.0
load common

# One clear line, the right exit code, nothing left behind.
@test "bad input" {
  kit create --name taken busybox true
  local before
  before=$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" -mindepth 1 -maxdepth 2 | sort)
  fails_with 125 "no such image" kit run --rm absent:1 true
  fails_with 125 taken kit run --name taken busybox true
  fails_with 125 "bad name" kit run --name "bad name" busybox true
  fails_with 125 invalid kit run --rm UPPER/case true
  fails_with 125 "invalid reference" kit run --rm 'busybox:bad tag' true
  fails_with 125 "unknown flag: --bogus" kit run --bogus busybox true
  fails_with 125 "flag needs an argument" kit run --name
  fails_with 1 "requires at least 1 argument" kit run
  fails_with 125 rel/ative kit run --rm -v rel/ative:/x busybox true
  fails_with 125 size kit run --rm -m lots busybox true
  fails_with 125 NOSUCH kit run --rm --cap-add NOSUCH busybox true
  fails_with 125 nosuch kit run --rm --stop-signal nosuch busybox true
  fails_with 125 /no/such/file kit run --rm --env-file /no/such/file busybox true
  fails_with 1 "no such container" kit exec absent true
  fails_with 1 "no such container" kit start absent
  fails_with 1 "no such container" kit stop absent
  fails_with 1 "no such container" kit logs absent
  fails_with 1 "no such image" kit rmi absent
  fails_with 1 "not a kit command" kit nonsense
  fails_with 1 "not a kit command" kit image nonsense
  fails_with 1 "accepts no arguments" kit ps extra
  fails_with 1 "format" kit ps -a --format '{{.Nope}}'
  fails_with 1 "running" kit kill taken
  [ "$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" -mindepth 1 -maxdepth 2 | sort)" = "$before" ]
  [ "$(kit ps -aq | wc -l)" -eq 1 ]
  kit rm taken
}

@test "a usage error names where help is" {
  run --separate-stderr kit run --bogus busybox
  [[ $stderr == *"See 'kit run --help'."* ]]
}

@test "each verb has help with an example or a description, and touches nothing" {
  local words verb
  while read -r verb; do
    read -ra words <<<"$verb"
    run env KIT_ROOT=/nonexistent/a KIT_RUN_DIR=/nonexistent/b kit "${words[@]}" --help
    [ "$status" -eq 0 ] || { echo "$verb: $output"; return 1; }
    [[ $output == *"Usage:  kit $verb"* ]] || { echo "$verb: $output"; return 1; }
  done < <(kit --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\( [a-z]*\)\?\)  .*/\1/p')
}

@test "a root that cannot be written is named" {
  mkdir "$BATS_TEST_TMPDIR/ro"
  mount -t tmpfs -o ro none "$BATS_TEST_TMPDIR/ro"
  fails_with 125 "$BATS_TEST_TMPDIR/ro" kit --root "$BATS_TEST_TMPDIR/ro/kit" run --rm busybox true
  umount "$BATS_TEST_TMPDIR/ro"
}

@test "a configuration file: unknown members and bad JSON are named" {
  echo '{"storge": "vfs"}' >"$BATS_TEST_TMPDIR/kit.json"
  fails_with 1 storge kit --config "$BATS_TEST_TMPDIR/kit.json" ps
  echo '{' >"$BATS_TEST_TMPDIR/kit.json"
  fails_with 1 kit.json kit --config "$BATS_TEST_TMPDIR/kit.json" ps
  fails_with 1 /no/such kit --config /no/such ps
}

@test "output that cannot be written is an error" {
  run bash -c 'kit ps >/dev/full'
  [ "$status" -ne 0 ]
}

@test "completion offers verbs, options and names" {
  kit create --name completes busybox true
  [[ $(kit internal complete 1 kit ru) == *run* ]]
  [[ $(kit internal complete 2 kit image "") == *import* ]]
  [[ $(kit internal complete 2 kit run --) == *--memory* ]]
  [[ $(kit internal complete 2 kit start "") == *completes* ]]
  [[ $(kit internal complete 2 kit run "") == *busybox* ]]
  [[ $(kit internal complete 2 kit commit --) == *--author* ]]
  bash -n <(kit completion bash)
  kit rm completes
}
