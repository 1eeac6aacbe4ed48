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
  within 10 is_exited kept
  kit commit kept kept:image >/dev/null
  # The image, made by one driver, runs on the other.
  [ "$(kit run --name new kept:image cat /file)" = kept ]
  [ "$(kit inspect -f '{{.GraphDriver.Name}}' new)" = vfs ]
  kit config set storage overlayfs
  kit start new
  within 10 is_exited new
  kit rm old kept new >/dev/null
  kit rmi kept:image >/dev/null
  echo '{}' >"$KIT_CONFIG"
}

# Every kind of change there is, in the container $1 of the image `linked`.
change_everything() {
  kit run --name "$1" "${@:2}" linked sh -c '
    echo changed >/srv/file; echo new >/srv/new; rm /srv/gone; rm -r /srv/tree; mkdir /srv/tree; echo other >/srv/tree/only
    rm -r /srv/becomes-file; echo file >/srv/becomes-file; rm /srv/becomes-directory; mkdir /srv/becomes-directory
    echo below >/srv/becomes-directory/below; ln -s /nowhere /srv/link; mkfifo /srv/fifo; chmod 4711 /srv/mode; chown 1000:2000 /srv/owner
    chmod 700 /srv/directory; touch -d "2001-02-03 04:05:06" /srv/directory /srv/time /opt
    ln /srv/one /srv/three; echo again >>/srv/alone; truncate -s 3M /srv/sparse
    echo odd >"/srv/a
b"'
}

@test "a container moved to another driver and back is identical, to the last link and nanosecond" {
  local rootfs=$BATS_TEST_TMPDIR/rootfs name
  mkdir "$rootfs"
  kit create --name base busybox true >/dev/null
  kit export base | tar -C "$rootfs" -x
  mkdir -p "$rootfs"/srv/{tree/deep,becomes-file/x,directory} "$rootfs/opt/far"
  for name in file gone tree/a tree/deep/b becomes-directory mode owner time one alone sparse directory/kept; do
    echo "$name" >"$rootfs/srv/$name"
  done
  ln "$rootfs/srv/one" "$rootfs/srv/two"
  ln "$rootfs/srv/alone" "$rootfs/opt/far/alone"
  setfattr -n user.kit -v value "$rootfs/srv/directory"
  tar --xattrs -C "$rootfs" -c . | kit import -c 'CMD ["sh"]' - linked >/dev/null
  kit rm base >/dev/null
  local driver before changes storages
  mapfile -t storages < <(usable)
  change_everything moves --storage overlayfs
  # The same tree gives the same bytes: modes, owners, times, attributes, links and content are in them.
  before=$(kit export moves | sha256sum)
  changes=$(kit diff moves)
  [[ $changes == *"D /srv/gone"* && $changes == *"A /srv/three"* ]]
  for driver in "${storages[@]}" overlayfs; do
    kit container move --storage "$driver" moves
    [ "$(kit inspect -f '{{.GraphDriver.Name}}' moves)" = "$driver" ]
    [ "$(kit export moves | sha256sum)" = "$before" ]
    diff <(echo "$changes") <(kit diff moves)
    [ -z "$(kit system check)" ]
  done
  kit export moves | tar -tv | grep -q 'srv/three link to .*srv/one'
  # It runs where it came to.
  kit container move --storage vfs moves
  kit start moves
  within 10 is_exited moves
  kit rm moves >/dev/null
}

@test "what cannot be moved is refused, and stays as it is" {
  kit run -d --name runs busybox sleep 1000 >/dev/null
  fails_with 1 "cannot move container runs: it is running; stop it first" kit container move --storage vfs runs
  kit create --name stays busybox true >/dev/null
  fails_with 1 'no storage driver "absent"' kit container move --storage absent stays
  fails_with 1 "cannot move container stays to aufs: it does not work here" kit container move --storage aufs stays
  kit create --name asks --storage-opt volatile=true busybox true
  fails_with 1 volatile kit container move --storage vfs asks
  kit start asks
  kit rm asks
  fails_with 1 "--storage is needed" kit container move stays
  fails_with 1 "no such container: absent" kit container move --storage vfs absent
  [ "$(kit inspect -f '{{.GraphDriver.Name}}' stays)" = overlayfs ]
  # A layer that somebody took away by hand: told, and nothing made of it.
  local id
  id=$(kit create --name broken busybox true)
  rm -r "$KIT_ROOT/storage/overlayfs/layers/$id"
  fails_with 1 "not in $KIT_ROOT/storage/overlayfs" kit container move --storage vfs broken
  [ "$(kit inspect -f '{{.GraphDriver.Name}}' broken)" = overlayfs ]
  [ ! -e "$KIT_ROOT/storage/vfs/layers/$id" ]
  kit rm broken >/dev/null
  # Where it is already: nothing to do.
  kit container move --storage overlayfs stays
  kit rm -f runs stays >/dev/null
  [ -z "$(kit system check)" ]
}

@test "image unpack works ahead, image prune frees what nobody stands on, and the images stay" {
  layers() { find "$KIT_ROOT/storage/$1/layers" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
  kit image unpack --storage vfs busybox linked
  [ "$(layers vfs)" -ge 2 ]
  kit create --name user --storage vfs busybox true >/dev/null
  local used
  used=$(layers vfs)
  run kit image prune --storage vfs --dry-run
  [[ $output =~ ^"Total reclaimable space: "[1-9] ]]
  [ "$(layers vfs)" -eq "$used" ]
  kit image prune --storage vfs
  # The container's own and its image's are left.
  [ "$(layers vfs)" -eq 2 ]
  [ "$(kit image prune --storage vfs)" = "Total reclaimed space: 0B" ]
  kit start user
  within 10 is_exited user
  kit rm -f user >/dev/null
  kit image prune --storage vfs
  [ "$(layers vfs)" -eq 0 ]
  [ -z "$(kit system check)" ]
  kit images --format '{{.Repository}}' | grep -qx linked
  [ "$(kit run --rm --storage vfs linked cat /srv/file)" = file ]
  fails_with 1 'no storage driver "absent"' kit image prune --storage absent
  fails_with 1 "have no meaning with it" kit image prune --storage vfs --all
  fails_with 1 "--dry-run is for --storage" kit image prune --dry-run
  fails_with 1 "no such image: absent" kit image unpack absent
}
