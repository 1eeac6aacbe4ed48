# SPDX-License-Identifier: Apache-2.0
# Images go to other tools and come from them. umoci and skopeo are asked for; podman and Docker take part where they are
# installed, each with directories of its own.
load common

setup_file() {
  new_root
  import_busybox
  start_docker
}

teardown_file() {
  stop_docker
  remove_root
}

# ---- Docker, in this file's network namespace -------------------------------------------------------

start_docker() {
  export DOCKER_DIR=${KIT_ROOT%/root}/docker DOCKER_CONFIG=${KIT_ROOT%/root}/docker/config
  mkdir -p "$DOCKER_CONFIG"
  if ! command -v dockerd docker >/dev/null; then
    export NO_DOCKER="dockerd is not installed"
    return
  fi
  # It ends with this file's process, however that ends.
  setpriv --pdeathsig TERM dockerd --data-root "$DOCKER_DIR/data" --exec-root "$DOCKER_DIR/run" \
    --pidfile "$DOCKER_DIR/pid" --host "unix://$DOCKER_DIR/socket" --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false --storage-driver vfs --cgroup-parent "kit-travel-$$" --userland-proxy=false \
    >"$DOCKER_DIR/log" 2>&1 3>&- 4>&- </dev/null &
  echo $! >"$DOCKER_DIR/started"
  export DOCKER_GROUP=kit-travel-$$
  if ! within 30 docker version; then
    NO_DOCKER="dockerd does not start: $(grep -m 1 -E 'level=(fatal|error)|failed to' "$DOCKER_DIR/log")"
    export NO_DOCKER
  fi >/dev/null 2>&1
}

stop_docker() {
  [[ -s $DOCKER_DIR/started ]] || return 0
  local pid
  pid=$(<"$DOCKER_DIR/started")
  kill "$pid" 2>/dev/null || true
  within 20 gone "$pid" || kill -9 "$pid"
  awk -v below="$DOCKER_DIR/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
  find /sys/fs/cgroup -depth -type d -path "*/$DOCKER_GROUP*" -exec rmdir {} + 2>/dev/null || true
}

gone() { ! kill -0 "$1" 2>/dev/null; }

docker() { command docker --host "unix://$DOCKER_DIR/socket" "$@"; }

needs_docker() { [[ -z ${NO_DOCKER:-} ]] || skip "$NO_DOCKER"; }

needs_podman() { command -v podman >/dev/null || skip "podman is not installed"; }

# Its locks, too, stay in a directory of the test's.
podman() {
  printf '[engine]\nlock_type = "file"\n' >"$BATS_TEST_TMPDIR/containers.conf"
  CONTAINERS_CONF=$BATS_TEST_TMPDIR/containers.conf TMPDIR=$BATS_TEST_TMPDIR command podman --root "$BATS_TEST_TMPDIR/podman" --runroot "$BATS_TEST_TMPDIR/podman-run" \
    --tmpdir "$BATS_TEST_TMPDIR/podman-tmp" --storage-driver vfs --cgroup-manager cgroupfs --events-backend none "$@"
}

skopeo() { command skopeo --insecure-policy "$@" 3>&-; }

# ---- trees --------------------------------------------------------------------------------------------

# One of everything that an image can hold, in DIRECTORY, which has a busybox already.
furnish() {
  (
    cd "$1" || exit
    mkdir -p old/deep turns sticky set
    mkdir -p dev proc sys etc tmp
    : >etc/hostname && : >etc/hosts && : >etc/resolv.conf
    echo text >file && chown 12:34 file && chmod 4751 file
    echo two >one-name && ln one-name other-name
    ln -s ../nowhere soft && chown -h 5:6 soft
    chmod 1777 sticky && chmod 2750 set && chown 0:4242 set
    mknod null c 1 3 && mknod disk b 7 200 && mkfifo fifo && chmod 640 fifo
    cp bin/busybox capable && setcap cap_net_raw=ep capable
    setfattr -n trusted.kit -v $'a\nb' set && setfattr -n user.kit -v on file
    truncate -s 20M sparse && printf middle | dd of=sparse bs=1 seek=10M conv=notrunc status=none
    echo latin >"$(printf 'latin-\351')"
    echo deep >old/deep/file && echo file >turns/file && echo gone >gone && echo stays >old/deep/other
    mkdir -p "$(printf '%0120d/%0120d' 1 2)"
    echo long >"$(printf '%0120d/%0120d/%0120d' 1 2 3)"
    find . -depth -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +
  )
}

# What is done to it, by the busybox inside: additions, changes, deletions, one kind for another.
read -r -d '' changes <<'SCRIPT' || true
rm -r /old /gone
rm -r /turns && echo file >/turns
mkdir /old && echo new >/old/new
rm /soft && mkdir /soft && echo in >/soft/in
echo more >>/file && chown 99:98 /file && chmod 2711 /file
mkdir -p /added/deep && echo x >/added/deep/x && ln /added/deep/x /added/link && ln -s deep /added/soft
chmod 700 /set
mkfifo /added/fifo && mknod /added/null c 1 3
rm /null
touch -h -d '2002-03-04 05:06:07' /added/deep/x /added/soft /added/fifo /added/null /added/deep /added /turns /old/new \
  /old /soft/in /soft /file /set /
SCRIPT

# Names, types, modes, owners, times, links, attributes and content, as one number.
tree_sum() {
  tar -C "$1" --sort=name --numeric-owner --format=pax --xattrs --xattrs-include='*' -c . \
    --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime | sha256sum
}

same_tree() {
  [[ $(tree_sum "$1") == "$(tree_sum "$2")" ]] && return
  diff <(tar -C "$1" --sort=name --numeric-owner --xattrs --xattrs-include='*' -c . | tar -tv --full-time --numeric-owner --xattrs) \
    <(tar -C "$2" --sort=name --numeric-owner --xattrs --xattrs-include='*' -c . | tar -tv --full-time --numeric-owner --xattrs) || true
  return 1
}

unpack_to() { mkdir -p "$1" && tar -C "$1" -xp --numeric-owner --xattrs --xattrs-include='*'; }

busybox_tree() {
  mkdir -p "$1"
  busybox_rootfs | tar -C "$1" -x
}

# layout TAG TREE: an OCI layout of one image, made by umoci.
umoci_layout() {
  local layout=$1 tag=$2
  umoci init --layout "$layout"
  umoci new --image "$layout:$tag"
  umoci unpack --image "$layout:$tag" "$BATS_TEST_TMPDIR/bundle"
  busybox_tree "$BATS_TEST_TMPDIR/bundle/rootfs"
}

blob_of() { echo "$1/blobs/${2/://}"; }

# Of the image last listed in a docker-archive's directory: the names in its topmost layer, without slashes at the end.
top_layer_names() {
  tar -t -f "$1/$(jq -r '.[-1].Layers[-1]' "$1/manifest.json")" | sed -E 's,^\./,,; s,/$,,' | grep . | sort
}

# ---- from others ----------------------------------------------------------------------------------------

@test "an OCI layout made by umoci loads and runs, and gives the same tree; whiteouts come along" {
  local layout=$BATS_TEST_TMPDIR/made bundle=$BATS_TEST_TMPDIR/bundle
  umoci_layout "$layout" base
  furnish "$bundle/rootfs"
  umoci repack --image "$layout:base" "$bundle"
  umoci config --image "$layout:base" --config.cmd /bin/sh --config.env A=b
  rm -rf "$bundle"
  umoci unpack --image "$layout:base" "$bundle"
  chroot "$bundle/rootfs" /bin/sh -ec "$changes"
  setfattr -x trusted.kit "$bundle/rootfs/set"
  umoci repack --image "$layout:top" "$bundle"

  run kit load -i "$layout"
  [ "$output" = $'Loaded image: made:base\nLoaded image: made:top' ]
  # shellcheck disable=SC2016  # the shell inside expands it
  [ "$(kit run --rm --network none made:top sh -c 'cat /turns; echo $A')" = $'file\nb' ]
  kit create --name reader made:top
  kit export reader | unpack_to "$BATS_TEST_TMPDIR/seen"
  same_tree "$bundle/rootfs" "$BATS_TEST_TMPDIR/seen"
  kit rm reader
  kit rmi made:base made:top
}

@test "a hostile layer among good ones: refused, and nothing of the others is kept" {
  local layout=$BATS_TEST_TMPDIR/layout at=$BATS_TEST_TMPDIR before
  store() { find "$KIT_ROOT/images/blobs" "$KIT_ROOT"/storage/*/{new,layers} -mindepth 1 -maxdepth 2 | sort; }
  before=$(store)
  mkdir "$at/tree"
  echo more >"$at/tree/file"
  busybox_rootfs >"$at/good.tar"
  tar -C "$at/tree" -cf "$at/more.tar" file
  tar -C "$at/tree" --transform='s,file,usr/.wh...,' -cf "$at/evil.tar" file
  umoci init --layout "$layout"
  umoci new --image "$layout:1"
  for layer in good more evil more; do umoci raw add-layer --image "$layout:1" "$at/$layer.tar"; done
  fails_with 1 "usr/.wh..." kit load -q -i "$layout"
  [ "$(store)" = "$before" ]
}

@test "a docker-archive made by skopeo loads and runs, from a file and from a pipe" {
  local layout=$BATS_TEST_TMPDIR/layout archive=$BATS_TEST_TMPDIR/archive.tar
  umoci_layout "$layout" 1
  umoci repack --image "$layout:1" "$BATS_TEST_TMPDIR/bundle"
  umoci config --image "$layout:1" --config.cmd /bin/sh
  skopeo copy -q "oci:$layout:1" "docker-archive:$archive:from/skopeo:2"
  run kit load -q -i "$archive"
  [ "$output" = "Loaded image: from/skopeo:2" ]
  [ "$(kit run --rm --network none from/skopeo:2 echo runs)" = runs ]
  kit rmi from/skopeo:2
  run kit load < <(gzip -c "$archive")
  [ "$output" = "Loaded image: from/skopeo:2" ]
  [ "$(kit run --rm --network none from/skopeo:2 echo runs)" = runs ]
  kit rmi from/skopeo:2
}

@test "layers of each compression are one tree" {
  local base=$BATS_TEST_TMPDIR/busybox.tar how
  kit save -o "$base" busybox
  for how in gzip zstd; do
    skopeo copy -q --dest-compress --dest-compress-format $how "oci-archive:$base:latest" "oci:$BATS_TEST_TMPDIR/$how:1"
    kit load -i "$BATS_TEST_TMPDIR/$how"
    [ "$(kit image inspect -f '{{json .RootFS}}' $how:1)" = "$(kit image inspect -f '{{json .RootFS}}' busybox)" ]
    # The blob is another, the unpacked layer the same; another driver unpacks the blob itself.
    [ "$(kit run --rm --network none --storage vfs $how:1 echo runs)" = runs ]
    kit rmi $how:1
  done
}

@test "of an image for several platforms the host's is taken" {
  local layout=$BATS_TEST_TMPDIR/many foreign index manifest
  mkdir "$layout"
  kit save busybox | tar -C "$layout" -x
  manifest=$(jq -c '.manifests[0] | del(.annotations)' "$layout/index.json")
  foreign=$(jq -c '.platform.architecture = "s390x" | .digest = "sha256:" + "0" * 64' <<<"$manifest")
  index=$(jq -cn --argjson a "$foreign" --argjson b "$manifest" '{schemaVersion: 2, manifests: [$a, $b]}')
  local digest
  digest=$(printf %s "$index" | sha256sum | cut -d' ' -f1)
  printf %s "$index" >"$layout/blobs/sha256/$digest"
  jq -cn --arg d "sha256:$digest" --argjson s "${#index}" '{schemaVersion: 2, manifests: [{digest: $d, size: $s,
    mediaType: "application/vnd.oci.image.index.v1+json",
    annotations: {"org.opencontainers.image.ref.name": "example.org/many:1"}}]}' >"$layout/index.json"
  run kit load -i "$layout"
  [ "$output" = "Loaded image: example.org/many:1" ]
  [ "$(kit run --rm --network none example.org/many:1 echo ours)" = ours ]
  kit rmi example.org/many:1
}

# ---- to others ------------------------------------------------------------------------------------------

@test "what is saved is unpacked by umoci to an identical tree" {
  local tree=$BATS_TEST_TMPDIR/tree saved=$BATS_TEST_TMPDIR/saved
  busybox_tree "$tree"
  furnish "$tree"
  tar -C "$tree" --xattrs --xattrs-include='*' --format=pax -cS . | kit import - everything:1
  kit run --network none --name changer everything:1 sh -ec "$changes"
  kit commit changer everything:2
  kit rm changer
  chroot "$tree" /bin/sh -ec "$changes"

  mkdir "$saved"
  kit save everything:2 | tar -C "$saved" -x
  umoci unpack --image "$saved:2" "$BATS_TEST_TMPDIR/bundle"
  same_tree "$tree" "$BATS_TEST_TMPDIR/bundle/rootfs"
  # And back: the same image, by digest.
  local digest
  digest=$(kit images --no-trunc -q everything:2)
  kit rmi everything:1 everything:2
  kit load -i "$saved" -q
  [ "$(kit images --no-trunc -q everything:2)" = "$digest" ]
  kit create --name reader everything:2 true
  kit export reader | unpack_to "$BATS_TEST_TMPDIR/seen"
  same_tree "$tree" "$BATS_TEST_TMPDIR/seen"
  kit rm reader
  kit rmi everything:2
}

@test "a committed image's documents are right, as skopeo and umoci read them" {
  local archive=$BATS_TEST_TMPDIR/a.tar layout=$BATS_TEST_TMPDIR/layout
  kit run --network none --name author -e A=b -w /tmp -u 1000 --label l=m busybox sh -c 'echo 1 >/tmp/one'
  kit commit -a me -m why -c 'EXPOSE 80' author authored:1
  kit rm author
  kit save -o "$archive" authored:1
  run -0 skopeo inspect --config "oci-archive:$archive:1"
  jq -e '.author == "me" and .history[1].comment == "why" and .history[1].created_by == "sh -c echo 1 >/tmp/one"
    and (.history | length) == 2 and (.rootfs.diff_ids | length) == 2 and .os == "linux"
    and .config == {Cmd: ["sh", "-c", "echo 1 >/tmp/one"], Env: ["A=b"], ExposedPorts: {"80/tcp": {}},
                    Labels: {l: "m"}, User: "1000", WorkingDir: "/tmp"}' <<<"$output"
  # Copying checks each digest, and that of each layer unpacked.
  skopeo copy -q "oci-archive:$archive:1" "oci:$layout:1"
  skopeo copy -q "docker-archive:$archive" "dir:$BATS_TEST_TMPDIR/dir"
  [ "$(umoci stat --image "$layout:1" --json | jq '.history | length')" -eq 2 ]
  kit rmi authored:1
}

@test "podman loads what is saved, and what podman saves loads" {
  needs_podman
  local format
  kit tag busybox to/podman:1
  kit save -o "$BATS_TEST_TMPDIR/one.tar" to/podman:1
  podman load -q -i "$BATS_TEST_TMPDIR/one.tar"
  podman image exists to/podman:1
  [ "$(podman image inspect to/podman:1 | jq -c '.[0].RootFS.Layers')" = "$(kit image inspect busybox | jq -c '.[0].RootFS.Layers')" ]
  kit rmi to/podman:1
  for format in docker-archive oci-archive; do
    podman save -q --format "$format" -o "$BATS_TEST_TMPDIR/$format.tar" to/podman:1
    run -0 kit load -i "$BATS_TEST_TMPDIR/$format.tar"
    [[ $output == "Loaded image: "*to/podman:1 ]]
    [ "$(kit run --rm --network none "${output#Loaded image: }" echo back)" = back ]
    kit rmi "${output#Loaded image: }"
  done
}

@test "Docker loads what is saved and runs it, and what Docker saves loads" {
  needs_docker
  kit tag busybox to/docker:1
  kit save busybox to/docker:1 | docker load
  [ "$(docker run --rm --network none to/docker:1 echo runs)" = runs ]
  [ "$(docker image inspect -f '{{json .RootFS.Layers}}' busybox)" = "$(kit image inspect busybox | jq -c '.[0].RootFS.Layers')" ]
  kit rmi to/docker:1
  docker save to/docker:1 | kit load
  [ "$(kit run --rm --network none to/docker:1 echo back)" = back ]
  kit rmi to/docker:1
}

@test "kit and Docker commit the same changes as the same entries" {
  needs_docker
  local tree=$BATS_TEST_TMPDIR/tree
  busybox_tree "$tree"
  furnish "$tree"
  # Docker saves no layer with a sparse file, and of extended attributes it keeps capabilities only.
  rm "$tree/sparse"
  setfattr -x user.kit "$tree/file"
  setfattr -x trusted.kit "$tree/set"
  tar -C "$tree" --xattrs --xattrs-include='*' --format=pax -c . | kit import - common:1
  kit save common:1 | docker load
  kit run --network none --name changer common:1 sh -ec "$changes"
  kit commit changer common:kit
  docker run --network none --name changer common:1 sh -ec "$changes"
  docker commit changer common:docker
  mkdir "$BATS_TEST_TMPDIR/kit" "$BATS_TEST_TMPDIR/docker"
  kit save common:kit | tar -C "$BATS_TEST_TMPDIR/kit" -x
  docker save common:docker | tar -C "$BATS_TEST_TMPDIR/docker" -x
  diff <(top_layer_names "$BATS_TEST_TMPDIR/docker") <(top_layer_names "$BATS_TEST_TMPDIR/kit")
  docker rm changer
  # And Docker's layer makes the same tree of kit's image.
  docker save common:docker | kit load
  kit create --name ours common:kit true
  kit create --name theirs common:docker true
  kit export ours | unpack_to "$BATS_TEST_TMPDIR/ours"
  kit export theirs | unpack_to "$BATS_TEST_TMPDIR/theirs"
  # Its layers do not have the root itself.
  touch -d @0 "$BATS_TEST_TMPDIR/ours" "$BATS_TEST_TMPDIR/theirs"
  same_tree "$BATS_TEST_TMPDIR/ours" "$BATS_TEST_TMPDIR/theirs"
  kit rm changer ours theirs
  kit rmi common:1 common:kit common:docker
}

@test "a hundred commits on top of each other start, run, and survive being saved and loaded" {
  local n
  kit tag busybox tower:0
  for ((n = 1; n <= 100; ++n)); do
    kit run --network none --name mason "tower:$((n - 1))" sh -c "echo $n >/floor-$n; echo $n >/top; rm -f /floor-$((n - 10))"
    kit commit mason "tower:$n" >/dev/null
    kit rm mason >/dev/null
  done
  look() { kit run --rm --network none tower:100 sh -c 'cat /top; ls / | grep -c floor-'; }
  [ "$(look)" = $'100\n10' ]
  kit save -o "$BATS_TEST_TMPDIR/tower.tar" tower:100
  local names
  names=$(kit images --format '{{.Repository}}:{{.Tag}}' | grep '^tower:')
  # shellcheck disable=SC2086
  kit rmi $names >/dev/null
  kit load -q -i "$BATS_TEST_TMPDIR/tower.tar"
  [ "$(look)" = $'100\n10' ]
  skopeo copy -q "oci-archive:$BATS_TEST_TMPDIR/tower.tar:100" "dir:$BATS_TEST_TMPDIR/dir"
  kit rmi tower:100
}

@test "nothing is left that no image needs" {
  [ "$(kit images -q | wc -l)" -eq 1 ]
  [ "$(find "$KIT_ROOT/images/blobs" -type f | wc -l)" -eq 3 ]
  kit system check
}
