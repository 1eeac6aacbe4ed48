# SPDX-License-Identifier: Apache-2.0
# What people do with files, in a container: a database, a repository that is built, packages. Once in a layer of its own,
# and once more over what was committed. The programs are the host's.

# Imports the image `workloads`.
import_workloads() {
  local rootfs=$BATS_TEST_TMPDIR/workloads package name version
  mkdir -p "$rootfs"/{usr,etc,tmp,proc,sys,dev,root,work}
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$rootfs/$name"; done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$rootfs/etc/passwd"
  echo 'root:x:0:' >"$rootfs/etc/group"
  for version in 1 2; do
    package=$rootfs/work/package-$version
    mkdir -p "$package/DEBIAN" "$package/opt/kit-files/d$version"
    printf 'Package: kit-files\nVersion: %s\nArchitecture: all\nMaintainer: kit <kit@localhost>\nDescription: files\n' \
      "$version" >"$package/DEBIAN/control"
    for name in $(seq 150); do echo "$version of $name" >"$package/opt/kit-files/$name"; done
    ln "$package/opt/kit-files/1" "$package/opt/kit-files/d$version/link"
    dpkg-deb --root-owner-group -Zgzip -b "$package" "$rootfs/work/$version.deb" >/dev/null
    rm -r "$package"
  done
  cat >"$rootfs/work/run" <<'RUN'
set -e
export HOME=/root PATH=/usr/sbin:/usr/bin GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
cd /work
turn=$1
# Two writers on one database with a write-ahead log.
insert="insert into t(text) with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) select hex(randomblob(50)) from n;"
[ "$turn" = 2 ] || echo "pragma journal_mode=wal; create table t(id integer primary key, text);" | sqlite3 db >/dev/null
for i in 1 2; do (for k in 1 2 3 4 5; do printf '.timeout 60000\n%s\n' "$insert"; done | sqlite3 db) & done
wait
[ "$(sqlite3 db 'pragma integrity_check')" = ok ]
[ "$(sqlite3 db 'select count(*) from t')" = $((10000 * turn)) ]
# A repository: made, cloned, built, packed; then pulled from, and built again.
if [ "$turn" = 1 ]; then
  git init -q origin
  for i in $(seq 40); do echo "int f$i(void) { return $i; }" >origin/f$i.c; done
  printf 'int f7(void);\n#include <stdio.h>\nint main(void) { printf("%%d\\n", f7()); return 0; }\n' >origin/main.c
  git -C origin add . && git -C origin commit -qm one
  git clone -q origin clone
  expected=7
else
  echo "int f7(void) { return 77; }" >origin/f7.c
  git -C origin commit -qam two
  git -C clone pull -q
  expected=77
fi
(cd clone && for file in main f7 f8; do gcc -c $file.c; done && gcc -o program main.o f7.o f8.o)
[ "$(clone/program)" = $expected ]
echo '*.o' >clone/.git/info/exclude; echo program >>clone/.git/info/exclude
[ -z "$(git -C clone status --porcelain)" ]
git -C clone gc -q && git -C clone fsck --strict 2>&1
# A package: unpacked, and over it its next version.
mkdir -p root/var/lib/dpkg/updates root/var/lib/dpkg/info
touch root/var/lib/dpkg/status
dpkg --root=/work/root --force-script-chrootless --log=/dev/null -i /work/$turn.deb >/dev/null 2>&1
[ "$(cat root/opt/kit-files/150)" = "$turn of 150" ]
[ "$(ls root/opt/kit-files | wc -l)" = 151 ]
[ root/opt/kit-files/1 -ef root/opt/kit-files/d$turn/link ]
[ -z "$(dpkg --root=/work/root --verify kit-files)" ]
RUN
  tar -C "$rootfs" -c . | kit import - workloads >/dev/null
}

# works DRIVER
works() {
  kit run --name "first-$1" --storage "$1" --network none -v /usr:/usr:ro workloads sh /work/run 1
  kit commit "first-$1" "worked-$1" >/dev/null
  kit run --name "second-$1" --storage "$1" --network none -v /usr:/usr:ro "worked-$1" sh /work/run 2
  kit rm "first-$1" "second-$1"
  kit rmi "worked-$1"
}
