# SPDX-License-Identifier: Apache-2.0
# Choosing a storage driver: recommend, config, move, unpack and prune by driver.
load common

# On a tmpfs: what is measured is not how the host's disk is today.
setup_file() {
  TMPDIR=/dev/shm new_root
  export KIT_CONFIG=${KIT_ROOT%/root}/kit.json
  echo '{}' >"$KIT_CONFIG"
  import_busybox
}

usable() { kit driver ls --format '{{.Family}} {{.Usable}} {{.Name}}' | sed -n 's/^storage yes //p' | sort; }

@test "recommend ranks the drivers that work, by figures that are shown, and says why the others are not ranked" {
  kit driver recommend --for build --json >"$BATS_TEST_TMPDIR/r"
  diff <(usable) <(jq -r '.Ranking[].Name' "$BATS_TEST_TMPDIR/r" | sort)
  jq -e '(.Ranking | map(.Score)) as $s | $s == ($s | sort) and $s[0] >= 1' "$BATS_TEST_TMPDIR/r"
  # The score can be computed from what is shown.
  jq -e '.Ranking | map(((.Figures | map(.Weight * (.Times | log)) | add) / (.Figures | map(.Weight) | add) | exp) - .Score | fabs < 0.001) | all' "$BATS_TEST_TMPDIR/r"
  jq -e '.NotRanked | length > 0 and all(.Reason != "")' "$BATS_TEST_TMPDIR/r"
  jq -e '.Ranking[] | select(.Name == "overlayfs") | .Differences | map(select(test("EXDEV"))) | length == 1' "$BATS_TEST_TMPDIR/r"
  # Kept: another purpose measures nothing, and leaves nothing.
  kit driver recommend --for density --json 2>"$BATS_TEST_TMPDIR/err" | jq -e --argjson at "$(jq .MeasuredNs "$BATS_TEST_TMPDIR/r")" '.MeasuredNs == $at'
  [ ! -s "$BATS_TEST_TMPDIR/err" ]
  [ ! -e "$KIT_ROOT/measure" ]
  run kit driver recommend
  [ "$status" -eq 0 ]
  [[ $output == *"1. "*"weight"*"Measured "* ]]
}

@test "figures of another host, and of a benchmark that was killed, are not believed" {
  jq '.Fingerprint.Kernel = "another"' "$KIT_ROOT/measured.json" >"$BATS_TEST_TMPDIR/m"
  cp "$BATS_TEST_TMPDIR/m" "$KIT_ROOT/measured.json"
  mkdir -p "$KIT_ROOT/measure/kit-bench.killed/drivers"
  kit driver recommend --json 2>"$BATS_TEST_TMPDIR/err" | jq -e '.Fingerprint.Kernel != "another"'
  grep -q Measuring "$BATS_TEST_TMPDIR/err"
  [ ! -e "$KIT_ROOT/measure" ]
  echo 'no JSON' >"$KIT_ROOT/measured.json"
  kit driver recommend --json 2>/dev/null | jq -e '.Ranking | length > 0'
}

@test "recommend refuses what it does not know" {
  fails_with 1 "no such purpose: nothing; there is anything, build" kit driver recommend --for nothing
}

@test "config set writes what works here, and refuses the rest by name" {
  kit config set storage vfs
  [ "$(kit config get storage)" = vfs ]
  kit config ls | grep -qx storage=vfs
  kit config set drivers.overlayfs.volatile true
  jq -e '.drivers.overlayfs.volatile == "true" and .storage == "vfs"' "$KIT_CONFIG"
  local before
  before=$(cat "$KIT_CONFIG")
  fails_with 1 'no storage driver "absent"' kit config set storage absent
  fails_with 1 "it does not work here: " kit config set storage aufs
  fails_with 1 "volatile=maybe" kit config set drivers.overlayfs.volatile maybe
  fails_with 1 "nonsense" kit config set drivers.overlayfs.nonsense 1
  fails_with 1 "no such driver: absent" kit config set drivers.absent.key 1
  fails_with 1 "no such setting: nonsense; there is root, " kit config set nonsense 1
  fails_with 1 "no such setting: nonsense" kit config get nonsense
  fails_with 1 "must be absolute" kit config set root relative
  [ "$(cat "$KIT_CONFIG")" = "$before" ]
  echo '{}' >"$KIT_CONFIG"
}

@test "another default hides nothing and loses nothing" {
  kit create --name old busybox sh -c 'cat /file' >/dev/null
  kit run --name kept busybox sh -c 'echo kept >/file'
  local images
  images=$(kit images -q)
  kit config set storage vfs
  [ "$(kit images -q)" = "$images" ]
  [ "$(kit inspect -f '{{.GraphDriver.Name}} {{.State.Status}}' kept)" = "overlayfs exited" ]
  [ "$(kit diff kept)" = "A /file" ]
  kit start kept
  kit commit kept kept:image >/dev/null
  # The image, made by one driver, runs on the other.
  [ "$(kit run --name new kept:image cat /file)" = kept ]
  [ "$(kit inspect -f '{{.GraphDriver.Name}}' new)" = vfs ]
  kit config set storage overlayfs
  kit start new
  kit rm old kept new >/dev/null
  kit rmi kept:image >/dev/null
  echo '{}' >"$KIT_CONFIG"
}
