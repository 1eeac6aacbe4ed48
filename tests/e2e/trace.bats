# SPDX-License-Identifier: Apache-2.0
load common

@test "run --trace FILE: Chrome trace JSON with a row for each process" {
  local file=$BATS_TEST_TMPDIR/trace.json
  [ "$(kit run --rm --trace "$file" busybox echo hello)" = hello ]
  names() { jq -r --arg of "$1" '(.traceEvents | map(select(.ph == "M" and .args.name == $of).pid)[0]) as $row
    | .traceEvents[] | select(.ph == "X" and .pid == $row).name' "$file"; }
  [[ $(names kit) == create*find_image*create_layer*start*fork_launcher_in_kit*record_start*stream*conclude*finish* ]]
  [[ $(names launcher) == *create_in_launcher*clone_child_in_parent*attach_network_in_launcher*start_in_launcher* ]]
  [[ $(names child) == *make_mounts_in_child*enter_rootfs_in_child* ]]
  # A step begins within the one it is part of, and ends there.
  jq -e '[.traceEvents[] | select(.ph == "X") | select(.ts < 0 or .dur < 0)] == []' "$file"
  jq -e '[.traceEvents[] | select(.pid == 1 and .ph == "X")] as $steps
    | ($steps[] | select(.name == "start")) as $whole
    | $steps[] | select(.name == "write_bundle")
    | .ts >= $whole.ts and .ts + .dur <= $whole.ts + $whole.dur' "$file"
}

@test "run --trace -: a table on stderr, after the program's own words" {
  run --separate-stderr kit run --rm --trace - busybox sh -c 'echo out; echo err >&2; exit 3'
  [ "$status" -eq 3 ]
  [ "$output" = out ]
  [ "${stderr_lines[0]}" = err ]
  [[ ${stderr_lines[1]} == PROCESS*BEGIN*STEP ]]
  [[ $stderr == *make_mounts_in_child* ]]
}

@test "run --trace: what failed is traced, too; a file that cannot be made fails before the container" {
  fails_with 125 /no/such/trace kit run --rm --trace /no/such/trace busybox true
  run -127 kit run --rm --trace "$BATS_TEST_TMPDIR/failed.json" busybox /no/such/program
  jq -e '[.traceEvents[] | select(.name == "create_in_launcher")] | length == 1' "$BATS_TEST_TMPDIR/failed.json"
  [ -z "$(kit ps -aq)" ]
}
