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
  [[ $output == *"No such file"* && $output == *more ]]
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
