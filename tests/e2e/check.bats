# SPDX-License-Identifier: Apache-2.0
# kit system check and prune: what they say, and their exit codes.
load common

@test "check of a root in order is silent, and exits 0" {
  kit run --rm busybox true
  run -0 kit system check
  [ -z "$output" ]
  run -0 kit system check --dry-run
  [ -z "$output" ]
}

@test "check --dry-run tells what check would do; check does it, once" {
  local stray
  stray=$KIT_ROOT/containers/$(printf 'a%.0s' {1..64})
  mkdir "$stray"
  run -1 kit system check --dry-run
  [[ $output == "directory $stray: "*"; to be removed" ]]
  [ -d "$stray" ]
  run -1 kit system check
  [[ $output == "directory $stray: "*"; removed" ]]
  [ ! -e "$stray" ]
  run -0 kit system check
}

@test "what only a person can mend: said with advice, exit 2" {
  kit create --name hollow busybox
  rm -r "$KIT_ROOT/storage/overlayfs/layers/$(kit inspect -f '{{.Id}}' hollow)"
  run -2 kit system check
  [[ $output == "container hollow "*"file system is gone"*"kit rm"* ]]
  kit rm hollow
  run -0 kit system check
}

@test "check leaves alone what another kit works on" {
  KIT_FAULT=insert_named:before@kit=slow:1500 kit create --name slow busybox &
  sleep 0.5
  run -0 kit system check
  wait $!
  kit rm slow
}

@test "prune --dry-run tells what prune would free, and frees nothing" {
  kit run --name old busybox sh -c 'dd if=/dev/zero of=/srv/big bs=1M count=3 2>/dev/null'
  local id
  id=$(kit inspect -f '{{.Id}}' old)
  run -0 kit system prune --dry-run
  [[ ${lines[0]} == "container $id" ]]
  [[ ${lines[1]} =~ ^Total\ to\ be\ reclaimed:\ 3\.[0-9]+MB$ ]]
  [ "$(kit ps -aq --no-trunc)" = "$id" ]
  local told=${lines[1]#*: }
  run -0 kit system prune -f
  [[ ${lines[1]} == "Total reclaimed: $told" ]]
  [ -z "$(kit ps -aq)" ]
  run -0 kit system prune --dry-run --all
  [[ $output == *"image busybox:latest"* ]]
  kit run --rm busybox true
}

@test "a malformed KIT_FAULT is refused" {
  KIT_FAULT=nonsense fails_with 1 KIT_FAULT kit ps
  KIT_FAULT=create_layer:before=errno:ENOSUCH fails_with 125 ENOSUCH kit run --rm busybox true
}
