# SPDX-License-Identifier: Apache-2.0
# kill -9 at every point of a command: in kit, kit-image, the launcher, the child that becomes the container, and the
# monitor when it finishes one.
load common

@test "run" { cut_short run 14 nothing kit run --name victim busybox true; }
@test "run --rm" { cut_short run--rm 22 nothing kit run --rm --name victim busybox true; }
@test "run -d, whose monitor finishes it" { cut_short run-d 16 nothing kit run -d --name victim busybox true; }
@test "exec" { cut_short exec 5 running kit exec victim true; }
@test "stop" { cut_short stop 6 running kit stop -t 0 victim; }
@test "rm" { cut_short rm 6 changed kit rm victim; }
@test "rm -f" { cut_short rm-f 8 running kit rm -f victim; }
@test "commit" { cut_short commit 10 changed kit commit victim made; }
@test "commit of a running container" { cut_short commit-r 10 running_and_changed kit commit victim made; }
@test "unpack" { cut_short unpack 9 unpacked_elsewhere kit create --storage vfs --name victim made true; }
@test "rmi" { cut_short rmi 7 unpacked_elsewhere kit rmi made; }
@test "load" {
  changed
  kit commit victim made >/dev/null
  kit save -o "$BATS_FILE_TMPDIR/made.tar" made
  kit rm victim >/dev/null
  kit rmi made >/dev/null
  cut_short load 4 nothing kit load -q -i "$BATS_FILE_TMPDIR/made.tar"
}
@test "load of layers none of which is there: they are unpacked at once" {
  local layer
  kit import "$BATS_FILE_TMPDIR/rootfs.tar" made >/dev/null
  for layer in 1 2 3; do
    kit run --name victim made sh -c "echo $layer >/$layer; rm -f /$((layer - 1))"
    kit commit victim made >/dev/null
    kit rm victim >/dev/null
  done
  kit save -o "$BATS_FILE_TMPDIR/several.tar" made
  comes_to_order >/dev/null
  cut_short load-4 8 nothing kit load -q -i "$BATS_FILE_TMPDIR/several.tar"
}
@test "save over an older archive: that, or the new one" {
  local directory=$BATS_TEST_TMPDIR/saved
  whole() { [[ $(cat "$1") == old ]] || tar -t -f "$1" >/dev/null; }
  prepare() {
    unpacked_elsewhere
    [[ -d $directory ]] || mkdir "$directory"
    [[ ! -e $directory/file ]] || whole "$directory/file" || touch "$BATS_TEST_TMPDIR/half"
    echo old >"$directory/file"
  }
  cut_short save 1 prepare kit save -o "$directory/file" made
  whole "$directory/file"
  [ ! -e "$BATS_TEST_TMPDIR/half" ]
  [ "$(ls -A "$directory")" = file ]
}
@test "run --rm with volumes, one of them filled" {
  cut_short volumes 14 nothing kit run --rm --name victim -v vol:/etc -v /anonymous busybox true
}
@test "rm -v" {
  prepare() { kit create --name victim -v vol:/etc -v /anonymous busybox true >/dev/null; }
  cut_short rm-v 4 prepare kit rm -v victim
}
@test "volume rm" {
  prepare() { kit volume create vol >/dev/null; }
  cut_short volume 1 prepare kit volume rm vol
}
@test "update" { cut_short update 2 running kit update -m 32m victim; }
@test "restart" { cut_short restart 14 running kit restart -t 0 victim; }
@test "import" { cut_short import 10 nothing kit import "$BATS_FILE_TMPDIR/rootfs.tar" made; }
# Killed anywhere, the container is whole, by the one driver or by the other.
@test "container move" {
  cat >"$BATS_TEST_TMPDIR/move" <<'MOVE'
kit container move --storage vfs victim
unset KIT_FAULT
[[ $(kit diff victim) == $'C /srv\nA /srv/more' && $(kit export victim | tar -xO srv/more) == more ]] || echo "$(kit diff victim)" >"$1"
kit start victim || echo "does not start" >"$1"
MOVE
  prepare() { changed; kit image unpack --storage vfs busybox >/dev/null; }
  cut_short move 3 prepare bash "$BATS_TEST_TMPDIR/move" "$BATS_TEST_TMPDIR/wrong"
  [ ! -e "$BATS_TEST_TMPDIR/wrong" ] || { cat "$BATS_TEST_TMPDIR/wrong"; return 1; }
}
@test "image prune" {
  kit image prune --storage vfs >/dev/null
  inventory >"$BATS_FILE_TMPDIR/before"
  prepare() { unpacked_elsewhere; kit image unpack --storage vfs made >/dev/null; }
  cut_short prune 2 prepare kit image prune --storage vfs
}
@test "network create" { cut_short net-make 1 nothing kit network create victims; }
@test "network rm" {
  with_network() { kit network create victims >/dev/null; }
  cut_short net-rm 1 with_network kit network rm victims
}
