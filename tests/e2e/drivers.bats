# SPDX-License-Identifier: Apache-2.0
load common

@test "any container may take any storage driver, without importing again" {
  local driver
  for driver in overlayfs vfs overlayfs; do
    [ "$(kit run --rm --storage "$driver" busybox sh -c 'echo written >/file; cat /file')" = written ]
  done
  # One image, each layer unpacked once for each driver that was asked for it.
  [ "$(kit images -q | wc -l)" -eq 1 ]
}

@test "containers and images are all there after the default changes" {
  kit create --name of-overlayfs busybox cat /etc/hostname
  echo '{"storage": "vfs"}' >"$BATS_TEST_TMPDIR/kit.json"
  export KIT_CONFIG=$BATS_TEST_TMPDIR/kit.json
  kit run --name of-vfs busybox true
  [ "$(kit ps -a --format '{{.Names}} {{.Storage}}' | sort)" = $'of-overlayfs overlayfs\nof-vfs vfs' ]
  kit start -a of-overlayfs
  kit images -q busybox | grep -q .
  kit rm of-overlayfs of-vfs
}

@test "a change made under one driver is committed and run under another" {
  kit run --name maker --storage vfs busybox sh -c 'echo moved >/file; rm /etc/group'
  kit diff maker | sort >"$BATS_TEST_TMPDIR/vfs"
  kit run --name maker2 --storage overlayfs busybox sh -c 'echo moved >/file; rm /etc/group'
  kit diff maker2 | sort | diff "$BATS_TEST_TMPDIR/vfs" -
  kit commit maker moved
  [ "$(kit run --rm --storage overlayfs moved sh -c 'cat /file; ls /etc/group 2>/dev/null')" = moved ]
  kit rm maker maker2
  kit rmi moved
}

@test "an option of storage that the driver cannot meet is refused by name, and nothing is left" {
  fails_with 125 "vfs cannot limit the size" kit run --rm --storage vfs --storage-opt size=8m busybox true
  fails_with 125 "speed" kit run --rm --storage vfs --storage-opt speed=high busybox true
  fails_with 125 "KEY=VALUE" kit run --rm --storage-opt size busybox true
  fails_with 125 "1x" kit run --rm --storage vfs --storage-opt size=1x busybox true
  [ "$(kit run --rm --storage vfs --storage-opt size=0 busybox echo none)" = none ]
  [ "$(kit run --rm --storage overlayfs --storage-opt volatile=true busybox echo unsynced)" = unsynced ]
  [ -z "$(kit ps -aq)" ]
}

@test "driver ls and probe say what works here" {
  run kit driver ls
  [[ ${lines[0]} =~ ^NAME\ +FAMILY\ +USABLE\ +VERSION\ +REASON$ ]]
  local name
  for name in overlayfs vfs bridge host none native; do
    kit driver ls --format '{{.Name}} {{.Usable}}' | grep -qx "$name yes"
  done
  run kit driver probe overlayfs
  [ "$status" -eq 0 ]
  [[ ${lines[0]} = "storage overlayfs: usable" ]]
  kit driver probe --format json | jq -e 'map(select(.Name == "native")) | .[0].Usable'
  kit driver probe --json | jq -e '
    map(select(.Name == "overlayfs"))[0] |
    .Facts["backing file system"] and (.Facts["most layers"] == "500") and (.Differences | map(select(test("EXDEV"))) | length == 1)'
  # What does not work says why and what helps.
  kit driver probe --json | jq -e 'map(select(.Usable | not)) | all(.Reason != "" and .Remedy != "")'
  fails_with 1 "no such driver" kit driver probe absent
}

@test "a driver that is not there is named, with those that are" {
  fails_with 125 overlayfs kit run --rm --storage absent busybox true
  fails_with 125 absent kit run --rm --isolation absent busybox true
  [ -z "$(kit ps -aq)" ]
}

@test "plugins that cannot be trusted or loaded are refused, each with its reason" {
  local dir=$BATS_FILE_TMPDIR/plugins
  mkdir "$dir"
  echo "this is text" >"$dir/kit-storage-text.so"
  fails_with 125 kit-storage-text.so env KIT_PLUGIN_PATH="$dir" kit run --rm --storage text busybox true
  cp "$KIT_TEST_BIN/kit-storage-vfs.so" "$dir/kit-storage-vfs.so"
  chmod 666 "$dir/kit-storage-vfs.so"
  fails_with 125 kit-storage-vfs.so env KIT_PLUGIN_PATH="$dir" kit run --rm --storage vfs busybox true
  cp "$KIT_TEST_BIN/kit-storage-vfs.so" "$dir/kit-storage-other.so"
  fails_with 125 other env KIT_PLUGIN_PATH="$dir" kit run --rm --storage other busybox true
  KIT_PLUGIN_PATH="$dir" run kit plugin ls --format '{{.Name}} {{.Refused}}'
  [[ $output == *"text "?* ]]
  [ -z "$(kit ps -aq)" ]
}

@test "plugin check runs the suite on a plugin and fails for one that is none" {
  run kit plugin check none
  [ "$status" -eq 0 ]
  [[ ${lines[-1]} =~ ^network\ none\ .*:\ [0-9]+\ passed,\ 0\ failed,\ [0-9]+\ skipped$ ]]
  echo text >"$BATS_TEST_TMPDIR/kit-storage-text.so"
  fails_with 1 kit-storage-text.so kit plugin check "$BATS_TEST_TMPDIR/kit-storage-text.so"
  fails_with 1 "no such plugin" kit plugin check absent
}
