# SPDX-License-Identifier: Apache-2.0
load common

@test "import answers a digest, and images lists it" {
  run kit import - listed:1 < <(busybox_rootfs)
  [[ $output =~ ^sha256:[0-9a-f]{64}$ ]]
  run kit images
  [[ ${lines[0]} =~ ^REPOSITORY\ +TAG\ +IMAGE\ ID\ +CREATED\ +SIZE$ ]]
  kit images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep -Eq '^listed:1 [0-9.]+MB$'
  kit rmi listed:1
  [ -z "$(kit images --format '{{.Repository}}' | grep listed)" ]
}

@test "the same archive gives the same layer, compressed or not" {
  busybox_rootfs >"$BATS_TEST_TMPDIR/a.tar"
  gzip -k "$BATS_TEST_TMPDIR/a.tar"
  kit import "$BATS_TEST_TMPDIR/a.tar" plain
  kit import "$BATS_TEST_TMPDIR/a.tar.gz" packed
  [ "$(kit image inspect -f '{{json .RootFS}}' plain)" = "$(kit image inspect -f '{{json .RootFS}}' packed)" ]
  [ "$(kit run --rm packed echo runs)" = runs ]
  kit rmi plain packed
}

@test "import keeps modes, owners, links, sparse files and extended attributes" {
  local tree=$BATS_TEST_TMPDIR/tree
  mkdir -p "$tree/d"
  echo text >"$tree/f"
  chown 12:34 "$tree/f"
  chmod 4751 "$tree/f"
  ln "$tree/f" "$tree/hard"
  ln -s /d/../f "$tree/soft"
  touch -d 2001-02-03T04:05:06Z "$tree/d"
  mkfifo "$tree/fifo"
  cp /bin/busybox "$tree/busybox"
  setcap cap_net_raw=ep "$tree/busybox"
  tar -C "$tree" --xattrs --xattrs-include='*' -c . | kit import - kept
  run kit run --rm --entrypoint /busybox kept stat -c '%a %u %g %h' /f
  [ "$output" = "4751 12 34 2" ]
  run kit run --rm --entrypoint /busybox kept sh -c '/busybox stat -c %Y /d; /busybox readlink /soft; /busybox stat -c %F /fifo'
  [ "$output" = $'981173106\n/d/../f\nfifo' ]
  kit rmi kept
}

@test "a Dockerfile's lines become the image's configuration" {
  kit import -c 'ENV A=b' -c 'WORKDIR /srv' -c 'USER guest' -c 'CMD ["env"]' -c 'LABEL x=y' - configured < <(busybox_rootfs)
  run kit run --rm configured
  [[ $output == *A=b* ]]
  [ "$(kit run --rm configured sh -c 'pwd; id -un')" = $'/srv\nguest' ]
  [ "$(kit images -q --filter label=x=y | wc -l)" -eq 1 ]
  kit rmi configured
  fails_with 1 NONSENSE kit import -c 'NONSENSE x' - bad < <(busybox_rootfs)
}

@test "tag gives one more name; the last name takes the image" {
  kit tag busybox other:2
  [ "$(kit run --rm other:2 echo same)" = same ]
  run kit rmi other:2
  [[ $output == *"Untagged: other:2"* && $output != *Deleted* ]]
  kit run --rm busybox true
}

@test "an image in use is not removed" {
  busybox_rootfs | kit import - used
  kit create --name user used true
  fails_with 1 used kit rmi used
  kit rm user
  kit rmi used
}

@test "diff and commit: added, changed, deleted; the base image is as it was" {
  kit run --name worker busybox sh -c 'echo new >/added; echo more >>/etc/passwd; rm /etc/group; mkdir /dir; rm -r /srv'
  run kit diff worker
  [[ $output == *"A /added"* && $output == *"C /etc/passwd"* && $output == *"D /etc/group"* && $output == *"A /dir"* && $output == *"D /srv"* ]]
  run kit commit -m "by a test" -c 'CMD ["cat", "/added"]' worker changed
  [[ $output =~ ^sha256: ]]
  kit rm worker
  [ "$(kit run --rm changed)" = new ]
  run kit run --rm changed sh -c 'ls /etc/group; test -d /dir && tail -n 1 /etc/passwd'
  # Two pipes: which line comes first is open.
  [[ $output == *"No such file"* && $output == *more* ]]
  run kit run --rm busybox sh -c 'test ! -e /added && test -e /etc/group && test -d /srv'
  [ "$status" -eq 0 ]
  # And once more upon that: images stack.
  kit run --name again changed sh -c 'echo 2 >/second'
  kit commit again changed:2
  kit rm again
  [ "$(kit run --rm changed:2 cat /added /second)" = $'new\n2' ]
  kit rmi changed:2 changed
}

@test "a running container is committed, and runs on" {
  kit run -d --name live busybox sh -c 'echo before >/file; sleep 100'
  within 5 kit exec live test -s /file
  kit commit live snapshot
  is_running live
  [ "$(kit run --rm snapshot cat /file)" = before ]
  kit rm -f live
  kit rmi snapshot
}

@test "an archive that is cut off, or none at all, leaves nothing" {
  local blobs
  blobs=$(find "$KIT_ROOT/images" -type f | sort)
  busybox_rootfs | head -c 500000 >"$BATS_TEST_TMPDIR/cut.tar"
  fails_with 1 "" kit import "$BATS_TEST_TMPDIR/cut.tar" cut
  fails_with 1 "" kit import - text <<<"this is not an archive, though it has some length to it"
  fails_with 1 /no/such/file kit import /no/such/file x
  [ "$(find "$KIT_ROOT/images" -type f | sort)" = "$blobs" ]
  [ -z "$(kit images -q cut)" ]
}

@test "an archive cannot write outside its root" {
  local tree=$BATS_TEST_TMPDIR/evil
  mkdir -p "$tree"
  echo owned >"$tree/payload"
  tar -C "$tree" --transform='s,payload,../../../../../../tmp/kit-escaped,' -P -cf "$BATS_TEST_TMPDIR/evil.tar" payload
  run kit import "$BATS_TEST_TMPDIR/evil.tar" evil
  [ ! -e /tmp/kit-escaped ]
  [ "$status" -ne 0 ]
}

@test "the image directory is an OCI layout" {
  jq -e '.imageLayoutVersion == "1.0.0"' "$KIT_ROOT/images/oci-layout"
  jq -e '.manifests | length >= 1' "$KIT_ROOT/images/index.json"
  local blob
  for blob in "$KIT_ROOT"/images/blobs/sha256/*; do
    [ "$(sha256sum <"$blob" | cut -d' ' -f1)" = "${blob##*/}" ]
  done
}

# ---- images as archives -------------------------------------------------------------------------------

# What a failed load must leave as it was: blobs, layers (whatever driver; those half made, too) and images.
store_state() {
  find "$KIT_ROOT/images/blobs" "$KIT_ROOT"/storage/*/{new,layers} -mindepth 1 -maxdepth 2 | sort
  kit images -a --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'
}

blobs() { find "$KIT_ROOT/images/blobs" -type f | wc -l; }

# layout DIRECTORY LAYER [SIZE [CONFIG]]: an OCI layout of the image `made:1` by hand, with a layer's size and a
# configuration as asked for.
layout() {
  local layer diff_id size=${3:-$(stat -c %s "$2")} manifest config=${4:-}
  mkdir -p "$1/blobs/sha256"
  put() { local d; d=$(sha256sum <"$1" | cut -d' ' -f1) && cp "$1" "$2/blobs/sha256/$d" && echo "sha256:$d"; }
  layer=$(put "$2" "$1")
  diff_id=${DIFF_ID:-sha256:$(zcat -f "$2" | sha256sum | cut -d' ' -f1)}
  [[ -n $config ]] ||
    config=$(jq -cn --arg d "$diff_id" '{os: "linux", architecture: "'"$(dpkg --print-architecture)"'", rootfs: {type: "layers", diff_ids: [$d]}}')
  printf %s "$config" >"$1/document"
  config=$(put "$1/document" "$1")
  jq -cn --arg l "$layer" --argjson ls "$size" --arg c "$config" --argjson cs "$(stat -c %s "$1/document")" \
    '{schemaVersion: 2, config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $c, size: $cs},
      layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $l, size: $ls}]}' >"$1/document"
  manifest=$(put "$1/document" "$1")
  jq -cn --arg m "$manifest" --argjson ms "$(stat -c %s "$1/document")" '{schemaVersion: 2, manifests: [{digest: $m,
    size: $ms, mediaType: "application/vnd.oci.image.manifest.v1+json",
    annotations: {"org.opencontainers.image.ref.name": "made:1"}}]}' >"$1/index.json"
  rm "$1/document"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
}

@test "an image saved and loaded is the same, by digest; loading it twice changes nothing" {
  local digest before count
  before=$(blobs)
  busybox_rootfs | kit import -m unlike -c 'LABEL a=b' - saved
  kit tag saved example.org/saved:1
  digest=$(kit images --no-trunc -q saved)
  kit save saved example.org/saved:1 >"$BATS_TEST_TMPDIR/both.tar"
  kit save saved example.org/saved:1 | cmp - "$BATS_TEST_TMPDIR/both.tar"
  tar -t -f "$BATS_TEST_TMPDIR/both.tar" | grep -qx manifest.json
  run tar -t -f <(kit save --format oci saved)
  [[ $output != *manifest.json* && $output == *index.json* ]]
  count=$(blobs)
  run kit load <"$BATS_TEST_TMPDIR/both.tar"
  [ "$output" = $'Loaded image: saved:latest\nLoaded image: example.org/saved:1' ]
  [ "$(blobs)" -eq "$count" ]
  kit rmi saved example.org/saved:1
  [ "$(blobs)" -eq "$before" ]
  kit image load -q -i "$BATS_TEST_TMPDIR/both.tar"
  [ "$(blobs)" -eq "$count" ]
  [ "$(kit images --no-trunc -q saved)" = "$digest" ]
  kit rmi saved example.org/saved:1
}

@test "a name without a tag saves all its tags; an id saves no name" {
  kit tag busybox family:1
  kit tag busybox family:2
  kit save family | tar -xO -f - manifest.json | jq -e '.[0].RepoTags == ["family:1", "family:2"] or .[0].RepoTags == ["family:2", "family:1"]'
  kit save family:1 | tar -xO -f - manifest.json | jq -e '.[0].RepoTags == ["family:1"]'
  kit save "$(kit images -q --no-trunc family:1)" | tar -xO -f - manifest.json | jq -e '.[0].RepoTags == null'
  run kit load < <(kit save "$(kit images -q family:1)")
  [ "$output" = "Loaded image ID: $(kit images -q --no-trunc family:1)" ]
  kit rmi family:1 family:2
}

@test "an archive in the making is no archive yet, and terminals are refused" {
  local file=$BATS_TEST_TMPDIR/in/file.tar
  mkdir "${file%/*}"
  echo old >"$file"
  fails_with 1 "no such image: absent" kit save -o "$file" absent
  [ "$(cat "$file")" = old ]
  [ "$(ls -A "${file%/*}")" = file.tar ]
  kit save -o "$file" busybox
  tar -t -f "$file" >/dev/null
  run -1 converse <<'SCRIPT'
spawn kit save busybox
see "stdout is a terminal"
end
SCRIPT
  run -1 converse <<'SCRIPT'
spawn kit load
see "stdin is a terminal"
end
SCRIPT
}

@test "progress is shown to a terminal only" {
  kit save -o "$BATS_TEST_TMPDIR/a.tar" busybox
  # What is done at once need not be told.
  export KIT_FAULT=read_images:before@image=slow:400
  run -0 --separate-stderr kit load -i "$BATS_TEST_TMPDIR/a.tar"
  [ -z "$stderr" ]
  run -0 converse <<SCRIPT
spawn kit load -i $BATS_TEST_TMPDIR/a.tar
see "Loading "
see "Loaded image: busybox:latest"
end
SCRIPT
  run -0 converse <<SCRIPT
spawn kit load -q -i $BATS_TEST_TMPDIR/a.tar
see "Loaded image: busybox:latest"
end
SCRIPT
  [[ $output != *Loading* ]]
}

@test "hostile images are refused in one line, and the store is as it was" {
  local before good=$BATS_TEST_TMPDIR/good.tar evil=$BATS_TEST_TMPDIR/evil.tar at=$BATS_TEST_TMPDIR
  busybox_rootfs >"$good"
  mkdir "$at/tree"
  echo owned >"$at/tree/payload"
  tar -C "$at/tree" --transform='s,payload,../../../../tmp/kit-escaped,' -P -cf "$evil" payload
  before=$(store_state)
  refused() {
    fails_with 1 "$2" kit load -q -i "$1"
    [ "$(store_state)" = "$before" ]
    # As an archive, too, from a pipe.
    tar -C "$1" -cf "$1.tar" .
    fails_with 1 "$2" kit load <"$1.tar"
    [ "$(store_state)" = "$before" ]
  }
  layout "$at/escape" "$evil"
  refused "$at/escape" "leads upwards"
  [ ! -e /tmp/kit-escaped ]
  head -c 500000 "$good" >"$at/cut"
  layout "$at/truncated" "$at/cut"
  refused "$at/truncated" Truncated
  echo "this is no archive, but it is long enough to be looked at" >"$at/text"
  layout "$at/no-archive" "$at/text"
  refused "$at/no-archive" "unpack archive"
  layout "$at/size" "$good" 17
  refused "$at/size" "17 are announced"
  layout "$at/config" "$good" "" "no JSON"
  refused "$at/config" "parse image config"
  DIFF_ID=sha256:$(printf '%064d' 7) layout "$at/diff-id" "$good"
  refused "$at/diff-id" "the image says sha256:00"
  layout "$at/digest" "$good"
  local blob
  blob=$(find "$at/digest/blobs" -size +1000k)
  printf x | dd of="$blob" bs=1 seek=1000000 conv=notrunc status=none
  refused "$at/digest" "its bytes have the digest"
  # A name that talks to the terminal, and one of two lines.
  tar -C "$at/tree" --transform=$'s,payload,../\e[2Jcleared\nkit: all is well,' -P -cf "$evil" payload
  layout "$at/terminal" "$evil"
  refused "$at/terminal" '../?x1b?2Jcleared?x0akit: all is well'
  # A layer that claims to be one already unpacked, and is not.
  DIFF_ID=$(kit image inspect busybox | jq -r '.[0].RootFS.Layers[0]') layout "$at/liar" "$evil"
  refused "$at/liar" "the image says"
  head -c 1000000 "$at/size.tar" >"$at/cut.tar"
  fails_with 1 "" kit load <"$at/cut.tar"
  [ "$(store_state)" = "$before" ]
  # What all of these were made from is fine.
  layout "$at/fine" "$good"
  [ "$(kit load -i "$at/fine")" = "Loaded image: made:1" ]
  [ "$(kit run --rm --network none made:1 /bin/sh -c 'echo runs')" = runs ]
  kit rmi made:1
}

@test "an image's device nodes open nothing" {
  local tree=$BATS_TEST_TMPDIR/tree
  mkdir "$tree"
  busybox_rootfs | tar -C "$tree" -x
  mknod "$tree/disk" b 7 0
  mknod "$tree/memory" c 1 1
  mknod "$tree/zero" c 1 5
  tar -C "$tree" -c . | kit import - nodes
  run kit run --rm --network none nodes sh -c 'for n in /disk /memory; do head -c 1 $n; done; head -c 1 /zero | wc -c'
  [[ $output == *"/disk: Operation not permitted"* && $output == *"/memory: Operation not permitted"* ]]
  [[ $output == *1* ]]
  kit rmi nodes
}

@test "removing an image frees exactly what nothing else uses" {
  local base layers
  layers() { find "$KIT_ROOT/storage/overlayfs/layers" -mindepth 1 -maxdepth 1 | wc -l; }
  base=$(blobs) layers=$(layers)
  kit run --network none --name writer busybox sh -c 'echo 1 >/one'
  kit commit writer shared:1
  # A layer, a configuration, a manifest.
  [ "$(blobs)" -eq $((base + 3)) ]
  kit rm writer
  kit run --network none --name writer shared:1 sh -c 'echo 2 >/two'
  kit commit writer shared:2
  kit rm writer
  [ "$(blobs)" -eq $((base + 6)) ]
  kit run --rm --network none shared:2 true
  [ "$(layers)" -eq $((layers + 2)) ]
  # Its layer is shared:2's, too.
  kit rmi shared:1
  [ "$(blobs)" -eq $((base + 4)) ]
  [ "$(layers)" -eq $((layers + 2)) ]
  [ "$(kit run --rm --network none shared:2 cat /one /two)" = $'1\n2' ]
  # In use: the name goes, nothing else.
  kit create --name user shared:2 true
  kit rmi -f shared:2
  [ "$(blobs)" -eq $((base + 4)) ]
  kit rm user
  kit rmi "$(kit images -q --no-trunc --filter dangling=true)"
  [ "$(blobs)" -eq "$base" ]
  [ "$(layers)" -eq "$layers" ]
}

@test "a commit keeps how the container was run, and makes no layer of no changes" {
  kit create --name still -e A=b -w /tmp --entrypoint /bin/echo busybox unchanged
  kit commit still still:1
  kit rm still
  [ "$(kit run --rm --network none still:1)" = unchanged ]
  kit image inspect still:1 | jq -e '.[0].RootFS.Layers | length == 1'
  kit image inspect still:1 | jq -e '.[0].Config | .Env == ["A=b"] and .WorkingDir == "/tmp"'
  kit rmi still:1
}

@test "a load that is interrupted or killed leaves nothing behind" {
  local before fifo=$BATS_TEST_TMPDIR/fifo signal pid writer
  busybox_rootfs >"$BATS_TEST_TMPDIR/rootfs"
  layout "$BATS_TEST_TMPDIR/layout" "$BATS_TEST_TMPDIR/rootfs"
  tar -C "$BATS_TEST_TMPDIR/layout" -cf "$BATS_TEST_TMPDIR/image.tar" .
  before=$(store_state)
  mkfifo "$fifo"
  for signal in TERM KILL; do
    # Everything but the end: each blob is stored, and the reader waits.
    { head -c -1024 "$BATS_TEST_TMPDIR/image.tar"; sleep 20; } >"$fifo" 3>&- &
    writer=$!
    kit load <"$fifo" 3>&- &
    pid=$!
    stored() { [[ $(store_state) != "$before" ]]; }
    within 10 stored
    kill -$signal $pid
    wait $pid || true
    kill $writer || true  # it may have lost its reader already
    wait $writer || true
    # Who is told to end tidies up; after who is killed, the check does.
    [[ $signal == TERM ]] || kit system check || true
    [ "$(store_state)" = "$before" ]
  done
}

@test "a terminal is told how far an unpacking is, at a load and at a first run; nothing else is" {
  local saved=$BATS_TEST_TMPDIR/saved.tar layer
  busybox_rootfs | kit import - fresh
  for layer in 1 2 3; do
    kit run --name layered --network none fresh sh -c "echo $layer >/$layer; rm -f /$((layer - 1))"
    kit commit layered fresh
    kit rm layered
  done
  kit save -o "$saved" fresh
  kit rmi fresh
  kit system prune -f
  export KIT_FAULT=unpack_layer:before@image,0=slow:400
  run -0 --separate-stderr kit load -i "$saved"
  [[ -z $stderr && $output == "Loaded image: fresh:latest" ]]
  kit rmi fresh
  converse <<EXPECT
spawn -noecho kit load -i $saved
see "Unpacking "
see "Loaded image: fresh"
end
EXPECT
  run -0 --separate-stderr kit run --rm --network none --storage vfs fresh cat /3
  [[ -z $stderr && $output == 3 ]]
  kit rmi fresh
  kit load -q -i "$saved"
  converse <<EXPECT
spawn -noecho kit run --rm --network none --storage vfs fresh ls -d /3
see "Unpacking "
see "/3"
end
EXPECT
  kit rmi fresh
}

@test "twenty first runs at once of an image not yet unpacked" {
  local n pids=()
  busybox_rootfs | kit import - fresh
  for ((n = 0; n < 20; ++n)); do
    kit run --rm --network none --storage vfs fresh sh -c 'test -x /bin/busybox && echo right' >"$BATS_TEST_TMPDIR/$n" 3>&- &
    pids+=($!)
  done
  for n in "${pids[@]}"; do wait "$n"; done
  [ "$(cat "$BATS_TEST_TMPDIR"/* | grep -cx right)" -eq 20 ]
  kit rmi fresh
  kit system check
}
