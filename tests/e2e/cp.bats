# SPDX-License-Identifier: Apache-2.0
# kit cp, by Docker's rules, and against a container that fights it.
load common

setup_file() {
  new_root
  import_busybox
  kit create --name still -v kept:/kept --tmpfs /scratch busybox true >/dev/null
  kit run -d --name live -v used:/kept busybox sleep 1000 >/dev/null
}

setup() {
  cd "$BATS_TEST_TMPDIR" || return
  mkdir -p dir/below
  echo one >dir/one
  echo two >dir/below/two
  ln -s one dir/link
  ln -s dir to-dir
  echo file >file
  chown 1234:4321 file
  chmod 4755 file
}

# Contents of a path in a container, whether it runs or not.
cat_in() { kit cp "$1:$2" - | tar -xO; }

@test "a file: to a new name, into a directory, over a file; back again" {
  local c
  for c in still live; do
    kit cp file "$c:/tmp/new"
    [ "$(cat_in $c /tmp/new)" = file ]
    kit cp file "$c:/tmp"
    kit cp file "$c:/tmp/"
    [ "$(cat_in $c /tmp/file)" = file ]
    echo other >other
    kit cp other "$c:/tmp/file"
    [ "$(cat_in $c /tmp/file)" = other ]
    kit cp "$c:/tmp/file" back
    [ "$(cat back)" = other ]
    mkdir -p into
    kit cp "$c:/tmp/file" into
    [ "$(cat into/file)" = other ]
    echo old >over
    kit cp "$c:/tmp/new" over
    [ "$(cat over)" = file ]
    rm -r back into over
  done
}

@test "a directory: made, copied into, and its content alone" {
  local c
  for c in still live; do
    kit cp dir "$c:/srv/made"
    kit cp dir "$c:/srv"
    kit cp dir/. "$c:/srv/content"
    mkdir "$c"
    kit cp "$c:/srv" "$c/out"
    [ "$(cd "$c/out" && find . | LC_ALL=C sort | tr '\n' ' ')" = "$(printf '%s ' . \
      ./content ./content/below ./content/below/two ./content/link ./content/one \
      ./dir ./dir/below ./dir/below/two ./dir/link ./dir/one \
      ./made ./made/below ./made/below/two ./made/link ./made/one)" ]
    [ "$(readlink "$c/out/dir/link")" = one ]
    kit cp "$c:/srv/dir" "$c/out"      # there already: its content is renewed
    kit cp "$c:/srv/dir/." "$c/again"
    diff -r dir "$c/again"
    kit cp dir/. "$c:/srv"
    [ "$(cat_in $c /srv/one)" = one ]
  done
}

@test "links: copied, or with -L what they lead to; a destination is followed" {
  local c
  for c in still live; do
    kit cp to-dir "$c:/tmp"
    [ "$(kit cp "$c:/tmp/to-dir" - | tar -tv | cut -c1)" = l ]
    kit cp -L to-dir "$c:/tmp/followed"
    [ "$(cat_in $c /tmp/followed/one)" = one ]
    kit cp dir "$c:/tmp/real"
    ln -sfn /tmp/real "$c.link"
    kit cp "$c.link" "$c:/tmp/by-link"
    kit cp file "$c:/tmp/by-link"
    [ "$(cat_in $c /tmp/real/file)" = file ]
    [ "$(kit cp -L "$c:/tmp/by-link" - | tar -t | head -n 1)" = by-link/ ]
    kit cp "$c:/tmp/by-link/." "$c.out"
    [ "$(cat "$c.out/file")" = file ]
  done
}

@test "owners and modes: kept in the container; on the host the caller's, unless -a" {
  local c
  for c in still live; do
    kit cp file "$c:/tmp/owned"
    [ "$(kit cp "$c:/tmp/owned" - | tar --numeric-owner -tv | cut -d' ' -f1,2)" = "-rwsr-xr-x 1234/4321" ]
    kit cp "$c:/tmp/owned" plain
    [ "$(stat -c '%u:%g %a' plain)" = "0:0 755" ]
    kit cp -a "$c:/tmp/owned" kept
    [ "$(stat -c '%u:%g %a' kept)" = "1234:4321 4755" ]
    touch -d 2001-02-03 dated
    kit cp dated "$c:/tmp/dated"
    kit cp "$c:/tmp/dated" dated.back
    [ "$(stat -c %Y dated.back)" = "$(stat -c %Y dated)" ]
    rm plain kept dated.back
  done
}

@test "a device that comes out of a container is nobody's but the caller's" {
  kit exec live busybox mknod -m 666 /tmp/device c 1 3
  kit cp live:/tmp/device .
  [ "$(stat -c %F:%t:%T:%a device)" = "character special file:1:3:600" ]
  kit exec live rm /tmp/device
}

@test "tar streams: - both ways, hard links and holes included" {
  local c
  ln dir/one dir/hard
  truncate -s 8M dir/sparse
  echo end >>dir/sparse
  for c in still live; do
    tar -c dir | kit cp - "$c:/tmp"
    kit cp "$c:/tmp/dir" - >"$c.tar"
    mkdir "$c.out"
    tar -x -C "$c.out" -f "$c.tar"
    diff -r dir "$c.out/dir"
    [ "$(stat -c %i "$c.out/dir/one")" = "$(stat -c %i "$c.out/dir/hard")" ]
    tar -cz dir | kit cp - "$c:/root"
    [ "$(cat_in $c /root/dir/below/two)" = two ]
    fails_with 1 "must be a directory" kit cp - "$c:/etc/passwd" <"$c.tar"
    fails_with 1 "must be a directory" kit cp - "$c:/absent" <"$c.tar"
    fails_with 1 "archive" kit cp - "$c:/tmp" <<<junk
  done
  # A parent in the archive may be a link in the container.
  kit exec live ln -s /srv /tmp/to-srv
  mkdir to-srv && echo through >to-srv/f
  tar -c to-srv/f | kit cp - live:/tmp
  [ "$(kit exec live cat /srv/f)" = through ]
}

@test "volumes are copied to and from, of a container that does not run, too" {
  kit cp file still:/kept/
  [ -f "$KIT_ROOT/volumes/kept/_data/file" ]
  kit cp still:/kept/file back
  cmp file back
  kit cp file live:/kept/
  [ "$(kit exec live cat /kept/file)" = file ]
  ! grep -qF "$KIT_ROOT/containers" /proc/self/mountinfo
  # Of a container that was never started, below a target the image does not have.
  [[ $(kit diff still) != */kept* ]]
}

@test "what is read-only is not written to" {
  kit create --name ro --read-only -v kept:/kept:ro busybox true
  kit cp ro:/etc/passwd .
  fails_with 1 "ead-only" kit cp file ro:/tmp/f
  fails_with 1 "ead-only" kit cp file ro:/kept/f
  kit rm ro
  kit run -d --name ro --read-only busybox sleep 100
  fails_with 1 "ead-only" kit cp file ro:/tmp/f
  kit rm -f ro
}

@test "what cannot be copied: Docker's exit code, one line, nothing made" {
  local c
  for c in still live; do
    fails_with 1 "no such container path: $c:/absent" kit cp "$c:/absent" .
    fails_with 1 "absent" kit cp absent "$c:/tmp"
    fails_with 1 "no such container path: $c:/absent" kit cp file "$c:/absent/x"
    fails_with 1 "no such directory" kit cp file "$c:/absent/"
    fails_with 1 "cannot copy directory" kit cp dir "$c:/etc/passwd"
    fails_with 1 "cannot copy directory" kit cp "$c:/etc" file
    fails_with 1 "directory" kit cp "$c:/etc/passwd" absent/
    fails_with 1 "absent" kit cp "$c:/etc/passwd" absent/x
    fails_with 1 "not a directory" kit cp "$c:/etc/passwd/" out
    fails_with 1 "ot a directory" kit cp file "$c:/etc/passwd/x"
    fails_with 1 "not a directory" kit cp file/ "$c:/tmp/qq"
    kit cp dir "$c:/tmp/taken"
    mkdir -p other/taken
    echo x >other/taken/below
    fails_with 1 "cannot overwrite directory" kit cp other/taken "$c:/tmp"
  done
  fails_with 1 "no such container: absent" kit cp absent:/x .
  fails_with 1 "at least one container" kit cp file other
  fails_with 1 "between containers" kit cp live:/a still:/b
  fails_with 1 "exactly 2 arguments" kit cp live:/etc
  fails_with 1 "regular file" kit cp file live:/dev/null
  [ "$(kit exec live stat -c %t:%T /dev/null)" = 1:3 ]
  [ ! -e out ] && [ ! -e absent ]
}

@test "to a full disk: an error, and what was there stays" {
  mkdir full
  mount -t tmpfs -o size=64k none full
  echo old >full/f
  head -c 1000000 /dev/urandom >big
  kit cp big live:/tmp/big
  fails_with 1 "o space" kit cp live:/tmp/big full/f
  [ "$(cat full/f)" = old ]
  fails_with 1 "o space" kit cp live:/tmp/big full/new
  [ "$(ls full)" = f ]
  umount full
  kit run -d --name small --tmpfs /small:size=64k busybox sleep 100
  fails_with 1 "o space" kit cp big small:/small/f
  [ -z "$(kit exec small ls -A /small)" ]
  kit rm -f small
}

@test "a container that is being copied from is not started, and a running one goes on" {
  kit create --name slow -v kept:/kept busybox true
  mkfifo gate
  kit cp - slow:/tmp <gate &
  local copier=$!
  exec 7>gate
  within 10 bash -c "! flock -n $KIT_ROOT/containers/$(kit inspect -f '{{.Id}}' slow) true"
  timeout 1 kit start slow && return 1
  [ "$(kit ps -aq --filter name=slow | wc -l)" -eq 1 ]   # looking at it does not wait
  tar -c file >&7
  exec 7>&-
  wait $copier
  kit start slow
  kit rm -f slow
}

# CVE-2018-15664, CVE-2019-14271: the copy must not leave the container, however its paths change under it.
@test "a container that swaps a directory for a link to the host while it is copied" {
  mkdir outside
  echo secret >outside/secret
  kit run -d --name evil busybox sh -c '
    mkdir -p /a/d /a/link.target; echo inner >/a/d/secret; echo inner >/a/d/f; ln -s '"$PWD"'/outside /a/l
    while :; do mv /a/d /a/x; mv /a/l /a/d; mv /a/d /a/l; mv /a/x /a/d; done'
  within 10 kit exec evil test -e /a/l || true
  local i copied=0 end=$((SECONDS + 3))
  for ((i = 0; i < 200 && SECONDS < end; i++)); do
    rm -rf got
    kit cp evil:/a/d/secret got 2>/dev/null && { [ "$(cat got)" = inner ] || return 1; }
    rm -rf tree
    if kit cp evil:/a/d tree 2>/dev/null; then
      copied=$((copied + 1))
      if [ -d tree ] && [ ! -L tree ]; then ! grep -rq '^secret' tree || return 1; fi
    fi
    kit cp file evil:/a/d/f 2>/dev/null || true
    kit cp dir evil:/a/d/made 2>/dev/null || true
    tar -c dir | kit cp - evil:/a/d 2>/dev/null || true
    [ "$(ls outside)" = secret ]
    [ "$(cat outside/secret)" = secret ]
  done
  [ "$copied" -gt 0 ]
  kit rm -f evil
}

@test "a hostile archive on stdin" {
  mkdir -p tree/a outside
  echo evil >tree/a/f
  tar -C tree -c --transform 's#^a/f#../../../../../../../../../'"${PWD#/}"'/outside/f#' a/f | fails_with 1 upwards kit cp - still:/tmp
  tar -C tree -cP --transform 's#^a/f#/absolute/f#' a/f | kit cp - still:/tmp
  [ "$(cat_in still /tmp/absolute/f)" = evil ]
  # A link first, then a file through it: it stays in the container.
  ln -s "$PWD/outside" tree/a/l
  { tar -C tree -c a/l; } >links.tar
  tar -C tree -rf links.tar --transform 's#^a/f#a/l/f#' a/f
  kit cp - still:/tmp <links.tar || true
  [ -z "$(ls outside)" ]
  head -c 700 links.tar | fails_with 1 "unpack archive" kit cp - still:/tmp
}

@test "an archive or a container that leads out of the host's directory" {
  mkdir victim out
  kit run -d --name links busybox sh -c "mkdir -p /t/d && ln -s $PWD/victim /t/d/up && sleep 1000"
  within 10 kit exec links test -L /t/d/up
  kit cp links:/t/d out
  [ "$(readlink out/d/up)" = "$PWD/victim" ]
  # Now the host has a link where the container has a directory.
  kit exec links sh -c 'rm /t/d/up && mkdir /t/d/up && echo evil >/t/d/up/f'
  fails_with 1 "cannot overwrite non-directory" kit cp links:/t/d out
  [ -z "$(ls victim)" ]
  kit rm -f links
}
