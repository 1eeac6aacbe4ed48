# SPDX-License-Identifier: Apache-2.0
# Volumes and mounts: -v, --mount, --tmpfs, --volumes-from, --shm-size, kit volume.
load common

# An image with something to fill a volume with, and a VOLUME.
setup_file() {
  new_root
  import_busybox
  local tree=$BATS_FILE_TMPDIR/tree
  mkdir -p "$tree"
  busybox_rootfs | tar -x -C "$tree"
  mkdir -p "$tree"/data/below "$tree"/state "$tree"/real
  echo one >"$tree/data/one"
  echo two >"$tree/data/below/two"
  ln "$tree/data/one" "$tree/data/same"
  ln -s /etc/passwd "$tree/data/link"
  ln -s real "$tree/linked"
  echo real >"$tree/real/file"
  chown 1000:1000 "$tree/data"
  chmod 750 "$tree/data"
  tar -C "$tree" -c . | kit import -c 'CMD ["sh"]' - filled >/dev/null
  tar -C "$tree" -c . | kit import -c 'CMD ["sh"]' -c 'VOLUME /state /data' - declared >/dev/null
}

volumes() { kit volume ls -q | wc -l; }

@test "volumes are created, listed, inspected and removed, in Docker's words" {
  [ "$(kit volume create data --label tier=db)" = data ]
  [ "$(kit volume create data)" = data ]
  run -0 kit volume ls
  [ "${lines[0]}" = "DRIVER    VOLUME NAME" ]
  [ "${lines[1]}" = "local     data" ]
  [ "$(kit volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{json .Labels}}' data)" = \
    "data local local $KIT_ROOT/volumes/data/_data {\"tier\":\"db\"}" ]
  [ "$(kit inspect -f '{{.Name}}' --type volume data)" = data ]
  local drawn
  drawn=$(kit volume create)
  [ ${#drawn} -eq 64 ]
  [ "$(kit volume ls -q --filter label=tier)" = data ]
  [ "$(kit volume ls --filter name=at --format '{{.Name}}:{{.Driver}}')" = data:local ]
  run -0 kit volume rm data "$drawn"
  [ "$output" = "data"$'\n'"$drawn" ]
  fails_with 1 "no such volume: data" kit volume rm data
  run -1 kit volume inspect data
  run -0 kit volume rm -f data
  fails_with 1 "volume name" kit volume create a/b
  fails_with 1 "volume name" kit volume create x
  [ "$(volumes)" -eq 0 ]
  [ -z "$(ls -A "$KIT_ROOT/volumes")" ]
}

@test "a host path, a named and an anonymous volume; ro" {
  local host=$BATS_TEST_TMPDIR/host
  mkdir "$host"
  echo there >"$host/file"
  run kit run --rm -v "$host:/h:ro" -v named:/n -v /anonymous busybox sh -c \
    'cat /h/file; echo x >/n/kept; echo y >/anonymous/f; echo z >/h/no'
  [[ ${lines[0]} == there && $output == *"Read-only file system"* ]]
  [ "$(kit run --rm -v named:/m busybox cat /m/kept)" = x ]
  [ "$(cat "$KIT_ROOT/volumes/named/_data/kept")" = x ]
  [ "$(kit volume ls -q)" = named ]   # --rm took the anonymous one
  run kit run --rm -v named:/n:ro busybox touch /n/f
  [[ $output == *"Read-only file system"* ]]
  kit run --rm -v "$host/made/on/demand:/h" busybox touch /h/f
  [ -f "$host/made/on/demand/f" ]
  echo file >"$host/single"
  [ "$(kit run --rm -v "$host/single:/new/file" busybox cat /new/file)" = file ]
  kit volume rm named
}

@test "an empty volume is filled from the image: content, links, owner and mode; once" {
  run -0 kit run --rm -v full:/data filled sh -c 'cat /data/one /data/below/two; stat -c "%u %a" /data; echo new >/data/one'
  [ "$output" = $'one\ntwo\n1000 750' ]
  local data=$KIT_ROOT/volumes/full/_data
  [ "$(stat -c %i "$data/one")" = "$(stat -c %i "$data/same")" ]
  [ "$(readlink "$data/link")" = /etc/passwd ]
  [ "$(kit run --rm -v full:/data filled cat /data/one)" = new ]
  [ "$(ls -A "$KIT_ROOT/volumes/full")" = _data ]
  [ -z "$(kit run --rm -v empty:/data:nocopy filled ls /data)" ]
  [ "$(kit run --rm --mount source=full2,target=/data filled cat /data/below/two)" = two ]
  [ -z "$(kit run --rm --mount source=empty2,target=/data,volume-nocopy filled ls /data)" ]
  # A link in the image is followed, within the image.
  [ "$(kit run --rm -v through:/linked filled cat /linked/file)" = real ]
  # Filled by create, not by start.
  kit create --name made -v early:/data filled true
  [ -f "$KIT_ROOT/volumes/early/_data/one" ]
  kit rm made
  fails_with 1 "/etc/passwd" kit create -v bad:/etc/passwd busybox true
  [ -z "$(kit volume ls -q --filter name=bad)" ]
  [ ! -e "$KIT_ROOT/volumes/bad" ]
  kit volume rm full full2 empty empty2 through early
}

@test "many containers fill one volume at once: it is filled once and whole" {
  local i pids=()
  for i in $(seq 8); do
    kit run --rm -v shared:/data filled sh -c 'cat /data/below/two /data/one' >"$BATS_TEST_TMPDIR/out.$i" &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i"; done
  for i in $(seq 8); do [ "$(cat "$BATS_TEST_TMPDIR/out.$i")" = $'two\none' ]; done
  kit volume rm shared
}

@test "an image's volumes are made anonymous, unless something else is shown there" {
  kit run --name user declared sh -c 'echo x >/state/f; cat /data/one'
  [ "$(volumes)" -eq 2 ]
  [ "$(kit inspect -f '{{json .Mounts}}' user | jq -r '.[].Destination' | sort | tr '\n' ' ')" = "/data /state " ]
  kit rm user
  [ "$(volumes)" -eq 2 ]
  [ "$(kit volume ls -q --filter dangling=true | wc -l)" -eq 2 ]
  kit volume prune -f | grep -q "Total reclaimed space"
  [ "$(volumes)" -eq 0 ]
  kit create --name user -v mine:/state --tmpfs /data declared true
  [ "$(kit volume ls -q)" = mine ]
  kit rm -v user
  [ "$(kit volume ls -q)" = mine ]
  kit volume rm mine
  kit create --name user declared true
  [ "$(volumes)" -eq 2 ]
  kit rm -v user
  [ "$(volumes)" -eq 0 ]
}

@test "a volume in use is not removed; prune keeps those with a name, but for -a" {
  kit create --name holder -v used:/v -v /also busybox true
  fails_with 1 "holder" kit volume rm used
  [ -z "$(kit volume ls -q --filter dangling=true)" ]
  [ "$(kit ps -aq --filter volume=used | wc -l)" -eq 1 ]
  kit volume prune -af
  [ "$(volumes)" -eq 2 ]
  kit rm holder
  run -0 kit volume prune -f
  [[ $output == "Deleted Volumes:"* ]]
  [ "$(kit volume ls -q)" = used ]
  run -0 bash -c 'echo n | kit volume prune -a'
  [[ $output == "WARNING! "*"Are you sure you want to continue? [y/N] "* ]]
  [ "$(volumes)" -eq 1 ]
  run -0 bash -c 'echo y | kit volume prune -a'
  [ "$(volumes)" -eq 0 ]
}

@test "--volumes-from shows what another container shows, and keeps it" {
  local host=$BATS_TEST_TMPDIR/host
  mkdir "$host"
  kit create --name source -v /anonymous -v shared:/s -v "$host:/h" busybox true
  kit run --rm --volumes-from source busybox sh -c 'echo 1 >/anonymous/f; echo 2 >/s/f; echo 3 >/h/f'
  [ "$(volumes)" -eq 2 ]   # --rm of the other one took nothing that source still shows
  run kit run --rm --volumes-from source:ro busybox sh -c 'cat /anonymous/f /s/f /h/f; touch /s/g'
  [[ $output == $'1\n2\n3\n'*"Read-only file system"* ]]
  [ "$(kit run --rm --volumes-from source --tmpfs /s busybox ls /s | wc -l)" -eq 0 ]
  fails_with 125 "no such container: absent" kit run --rm --volumes-from absent busybox true
  fails_with 125 mode kit run --rm --volumes-from source:odd busybox true
  kit rm -v source
  [ "$(kit volume ls -q)" = shared ]
  kit volume rm shared
}

@test "--mount: bind, volume, tmpfs; mounts below one another, in any order" {
  local host=$BATS_TEST_TMPDIR/host
  mkdir -p "$host/below"
  echo host >"$host/file"
  [ "$(kit run --rm --mount "type=bind,source=$host,target=/h,readonly" busybox cat /h/file)" = host ]
  fails_with 125 "does not exist: $host/absent" kit run --rm --mount "type=bind,source=$host/absent,target=/h" busybox true
  run -0 kit run --rm --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1700 busybox sh -c 'stat -c %a /t; df -k /t | tail -n 1'
  [[ ${lines[0]} == 1700 && ${lines[1]} == *" 1024 "* ]]
  run -0 kit run --rm -v inner:/h/below -v "$host:/h" busybox sh -c 'echo v >/h/below/f; cat /h/file'
  [ "$output" = host ]
  [ ! -e "$host/below/f" ]
  [ "$(cat "$KIT_ROOT/volumes/inner/_data/f")" = v ]
  kit volume rm inner
}

@test "propagation: rslave lets in what the host mounts later, the default does not" {
  local host=$BATS_TEST_TMPDIR/host
  mkdir -p "$host/private" "$host/slave"
  mount -t tmpfs none "$host" && mount --make-shared "$host"
  mkdir "$host/sub"
  kit run -d --name slave -v "$host:/h:rslave" busybox sleep 60
  kit run -d --name private -v "$host:/h" busybox sleep 60
  mount -t tmpfs none "$host/sub"
  touch "$host/sub/seen"
  kit exec slave ls /h/sub >"$BATS_TEST_TMPDIR/slave"
  kit exec private ls /h/sub >"$BATS_TEST_TMPDIR/private"
  kit rm -f slave private
  umount "$host/sub"
  umount "$host"
  [ "$(cat "$BATS_TEST_TMPDIR/slave")" = seen ]
  [ ! -s "$BATS_TEST_TMPDIR/private" ]
}

@test "--shm-size, and something else at /dev/shm" {
  [[ $(kit run --rm --shm-size 1m busybox df -k /dev/shm | tail -n 1) == *" 1024 "* ]]
  [[ $(kit run --rm busybox df -k /dev/shm | tail -n 1) == *" 65536 "* ]]
  kit run --rm -v shm:/dev/shm busybox touch /dev/shm/f
  [ -f "$KIT_ROOT/volumes/shm/_data/f" ]
  kit volume rm shm
}

@test "inspect tells the mounts as Docker does" {
  kit create --name seen -v "/srv:/srv:ro,rslave" -v data:/data busybox true
  run -0 kit inspect -f '{{json .Mounts}}' seen
  [ "$(jq -c '.[0]' <<<"$output")" = \
    '{"Type":"bind","Source":"/srv","Destination":"/srv","Mode":"ro","RW":false,"Propagation":"rslave"}' ]
  [ "$(jq -c '.[1]' <<<"$output")" = \
    '{"Type":"volume","Name":"data","Source":"'"$KIT_ROOT"'/volumes/data/_data","Destination":"/data","Driver":"local","Mode":"","RW":true,"Propagation":""}' ]
  kit rm seen
  kit volume rm data
}

# The image is the attacker: its paths lead out of it, if they are followed on the host (CVE-2021-30465, 2017-1002101).
@test "a target that leads out of the image stays in the container" {
  local tree=$BATS_TEST_TMPDIR/evil outside=$BATS_TEST_TMPDIR/outside
  mkdir -p "$tree" "$outside"
  busybox_rootfs | tar -x -C "$tree"
  ln -s "$outside" "$tree/absolute"
  ln -s "../../../../../../../../../$outside" "$tree/relative"
  echo secret >"$outside/secret"
  tar -C "$tree" -c . | kit import - evil >/dev/null
  local path
  for path in absolute relative; do
    kit run --rm -v "v-$path:/$path" evil touch "/$path/f"
    [ -z "$(find "$KIT_ROOT/volumes/v-$path/_data" -name secret)" ]
    [ -f "$KIT_ROOT/volumes/v-$path/_data/f" ]
    kit run --rm -v "$BATS_TEST_TMPDIR:/$path/below" evil true
    [ "$(ls "$outside")" = secret ]
  done
  kit volume rm v-absolute v-relative
  kit rmi evil
}

@test "a command that is killed while it makes volumes leaves what system check finds, and the next one goes on" {
  local point
  for point in make_volumes:before make_volumes:after insert_named:after; do
    KIT_FAULT="$point=kill" run -137 kit create -v cut:/data -v /anonymous filled true
    run kit system check
    [ "$status" -le 1 ]
    run -0 kit system check
    # shellcheck disable=SC2046
    [ "$point" != insert_named:after ] || kit rm -v $(kit ps -aq)
    [ -z "$(kit ps -aq)" ]
    [ "$(kit run --rm -v cut:/data filled cat /data/below/two)" = two ]
    kit volume rm cut
  done
  # Copied, and moved in part.
  kit volume create half
  mkdir "$KIT_ROOT/volumes/half/copy"
  echo rest >"$KIT_ROOT/volumes/half/copy/rest"
  echo moved >"$KIT_ROOT/volumes/half/_data/moved"
  [ "$(kit run --rm -v half:/data filled cat /data/rest /data/moved)" = $'rest\nmoved' ]
  # Copied in part: not to be seen.
  kit volume create torn
  mkdir "$KIT_ROOT/volumes/torn/copy.tmp"
  echo part >"$KIT_ROOT/volumes/torn/copy.tmp/part"
  run -1 kit system check
  [[ $output == *"volume torn: filling it from an image was interrupted"* ]]
  [ "$(kit run --rm -v torn:/data filled ls /data)" = $'below\nlink\none\nsame' ]
  mkdir "$KIT_ROOT/volumes/stray"
  run -1 kit system check
  [[ $output == *"$KIT_ROOT/volumes/stray"* ]]
  [ ! -e "$KIT_ROOT/volumes/stray" ]
  run -0 kit system check
  kit volume rm half torn
}

@test "bad mounts: Docker's exit code, one line, nothing left" {
  local before
  before=$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" "$KIT_ROOT/volumes" -mindepth 1 -maxdepth 2 | sort)
  fails_with 125 relative/path kit run --rm -v relative/path:/x busybox true
  fails_with 125 absolute kit run --rm -v /x:x busybox true
  fails_with 125 "can't be '/'" kit run --rm -v /x:/ busybox true
  fails_with 125 "can't be '/'" kit run --rm -v / busybox true
  fails_with 125 "duplicate mount point: /x" kit run --rm -v /tmp:/x -v /srv:/x busybox true
  fails_with 125 "duplicate mount point: /x" kit run --rm -v /tmp:/x --tmpfs /x busybox true
  fails_with 125 "invalid mode: bogus" kit run --rm -v /tmp:/x:bogus busybox true
  fails_with 125 "source must not be empty" kit run --rm --mount type=bind,target=/x busybox true
  fails_with 125 "mount type unknown" kit run --rm --mount type=bogus,target=/x busybox true
  fails_with 125 "key=value" kit run --rm --mount foo busybox true
  fails_with 125 "unexpected key" kit run --rm --mount type=volume,source=aa,target=/x,foo=1 busybox true
  fails_with 125 absolute kit run --rm --tmpfs x busybox true
  fails_with 125 bogus kit run --rm --tmpfs /x:bogus=1 busybox true
  fails_with 125 size kit run --rm --shm-size lots busybox true
  [ "$(find "$KIT_ROOT/containers" "$KIT_ROOT/storage" "$KIT_ROOT/volumes" -mindepth 1 -maxdepth 2 | sort)" = "$before" ]
}
