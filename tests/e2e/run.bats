# SPDX-License-Identifier: Apache-2.0
load common

@test "a command runs in the image's own root file system" {
  run kit run --rm busybox cat /etc/group
  [ "$status" -eq 0 ]
  [ "${lines[2]}" = "extra:x:2000:guest" ]
}

@test "the image's command runs when none is given" {
  run kit run --rm -i busybox <<<'echo from the shell'
  [ "$output" = "from the shell" ]
}

@test "all exit codes come through" {
  local code
  for code in $(seq 0 255); do
    run "-$code" kit run --rm --network none busybox sh -c "exit $code"
  done
}

@test "a program that a signal ends gives 128 and the signal's number" {
  run kit run --rm --init busybox sh -c 'kill -15 $$'
  [ "$status" -eq 143 ]
  kit run -d --name killed busybox sleep 100
  kit kill killed
  [ "$(kit wait killed)" -eq 137 ]
  kit rm killed
}

@test "an absent command gives 127, one that cannot be executed 126, kit's own failure 125" {
  fails_with 127 nothing-here kit run --rm busybox nothing-here
  fails_with 127 /no/such kit run --rm busybox /no/such
  fails_with 126 /bin/text kit run --rm busybox /bin/text
  fails_with 126 /tmp kit run --rm busybox /tmp
  fails_with 125 "no such image" kit run --rm absent true
  [ -z "$(kit ps -aq)" ]
}

@test "stdout and stderr stay apart" {
  run --separate-stderr kit run --rm busybox sh -c 'echo out; echo err >&2'
  [ "$output" = out ]
  [ "$stderr" = err ]
}

@test "stdin of a pipe is passed on to its end, byte for byte" {
  head -c 3000000 /dev/urandom >"$BATS_TEST_TMPDIR/data"
  kit run --rm -i busybox cat <"$BATS_TEST_TMPDIR/data" >"$BATS_TEST_TMPDIR/copy"
  cmp "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/copy"
}

@test "without -i stdin is empty" {
  run kit run --rm busybox wc -c <<<"not for the container"
  [ "$output" -eq 0 ]
}

@test "environment: -e, --env-file, a bare name, HOME, HOSTNAME, PATH" {
  printf '# a comment\n\nFROM_FILE=a b\nOVER=file\n' >"$BATS_TEST_TMPDIR/env"
  PASSED=on run kit run --rm -e PASSED -e ABSENT -e OVER=option -e EMPTY= --env-file "$BATS_TEST_TMPDIR/env" busybox env
  [[ $output == *"FROM_FILE=a b"* ]]
  [[ $output == *"PASSED=on"* && $output == *"OVER=option"* && $output == *"EMPTY="* ]]
  [[ $output != *ABSENT* && $output != *"OVER=file"* ]]
  [[ $output == *"HOME=/root"* && $output == *"PATH=/usr/local/sbin"* && $output == *HOSTNAME=* ]]
}

@test "working directory, user and groups" {
  run kit run --rm -w /srv busybox pwd
  [ "$output" = /srv ]
  run kit run --rm -w /made/on/demand busybox pwd
  [ "$output" = /made/on/demand ]
  run kit run --rm -u guest busybox id
  [[ $output == "uid=1000(guest) gid=1000(guest) groups="*"2000(extra)"* ]]
  run kit run --rm -u 1234:4321 busybox sh -c 'id -u; id -g'
  [ "$output" = $'1234\n4321' ]
  fails_with 125 nobody-here kit run --rm -u nobody-here busybox true
}

@test "host name: given, or the id's first digits" {
  run kit run --rm -h box busybox sh -c 'hostname; grep -c box /etc/hosts'
  [ "$output" = $'box\n1' ]
  kit create --name named busybox hostname
  run kit start -a named
  [[ $(kit inspect -f '{{.Id}}' named) == "$output"* ]]
  [ "${#output}" -eq 12 ]
  kit rm named
}

@test "the entrypoint is replaced, and removed" {
  kit import -c 'ENTRYPOINT ["echo", "entry"]' -c 'CMD ["command"]' - entry < <(busybox_rootfs)
  [ "$(kit run --rm entry)" = "entry command" ]
  [ "$(kit run --rm entry words)" = "entry words" ]
  [ "$(kit run --rm --entrypoint cat entry /etc/hostname | wc -l)" -eq 1 ]
  [ "$(kit run --rm --entrypoint "" entry echo plain)" = plain ]
  kit rmi entry
}

@test "a read-only root file system, with a tmpfs that is not" {
  run kit run --rm --read-only --tmpfs /scratch:size=1m busybox sh -c 'echo x >/scratch/f && echo written; echo x >/f'
  [ "${lines[0]}" = written ]
  [[ $output == *"Read-only file system"* ]]
  run kit run --rm --tmpfs /scratch:size=64k busybox dd if=/dev/zero of=/scratch/f bs=1k count=128
  [[ $output == *"No space left"* ]]
}

@test "volumes: read and written, read only, made if absent, a file" {
  local data=$BATS_TEST_TMPDIR/data
  mkdir "$data"
  echo given >"$data/in"
  kit run --rm -v "$data:/data" busybox sh -c 'cat /data/in >/data/out'
  [ "$(cat "$data/out")" = given ]
  run kit run --rm -v "$data:/data:ro" busybox touch /data/no
  [ "$status" -ne 0 ]
  [ ! -e "$data/no" ]
  kit run --rm -v "$data/new:/data" busybox touch /data/file
  [ -f "$data/new/file" ]
  [ "$(kit run --rm -v "$data/in:/etc/single:ro" busybox cat /etc/single)" = given ]
}

@test "--cidfile holds the id, and is not overwritten" {
  local file=$BATS_TEST_TMPDIR/id
  kit run -d --name with-id --cidfile "$file" busybox sleep 100
  [ "$(cat "$file")" = "$(kit inspect -f '{{.Id}}' with-id)" ]
  kit rm -f with-id
  fails_with 125 "$file" kit run --rm --cidfile "$file" busybox true
  [ -z "$(kit ps -aq)" ]
}

@test "--init reaps and passes signals on" {
  run kit run --rm --init busybox sh -c '(sleep 0.1 &) ; sleep 0.3; ps | grep -c "[Z]ombie\|\[sleep\]"'
  [ "${lines[0]}" = 0 ]
}

@test "options after the image belong to the command" {
  run kit run --rm busybox echo --rm -it --name x -- y
  [ "$output" = "--rm -it --name x -- y" ]
}

@test "--rm leaves no container, without it one stays" {
  kit run --rm busybox true
  [ -z "$(kit ps -aq)" ]
  kit run --name stays busybox true
  [ "$(kit ps -a --format '{{.Names}} {{.Status}}' | cut -c1-17)" = "stays Exited (0) " ]
  kit rm stays
}
