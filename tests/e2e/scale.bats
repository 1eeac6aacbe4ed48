# SPDX-License-Identifier: Apache-2.0
# Ten thousand containers and five hundred images in the records; records of other versions. What it takes: bench/scale.
load common

bench=$BATS_TEST_DIRNAME/../../bench

@test "among 10000 containers and 500 images everything is found" {
  kit run --name template -l kind=template busybox true
  kit tag busybox first:1
  "$bench/fill-records" "$KIT_ROOT" 10000 500
  kit run -d --name service busybox sleep 1000
  [ "$(kit ps --format '{{.Names}}')" = service ]
  [ "$(kit ps -aq | wc -l)" -eq 10002 ]
  [ "$(kit ps -aq --filter name=many-77 | wc -l)" -ge 1 ]
  [ "$(kit ps -lq)" = "$(kit inspect -f '{{.Id}}' service | cut -c1-12)" ]
  [ "$(kit inspect -f '{{.Name}}' many-9999)" = /many-9999 ]
  local id
  id=$(kit inspect -f '{{.Id}}' many-5000)
  [ "$(kit inspect -f '{{.Name}}' "${id:0:16}")" = /many-5000 ]
  [ "$(kit images -q | wc -l)" -eq 502 ]
  kit images --format '{{.Repository}}:{{.Tag}}' many:444 | grep -x many:444
  [ "$(kit run --rm many:321 echo from many)" = "from many" ]
  kit rmi many:321
  kit rm -f service
  kit rm template
  [ "$(kit ps -aq | wc -l)" -eq 10000 ]
}

@test "records of a newer kit are refused, and left as they are" {
  local root=$BATS_TEST_TMPDIR/newer before
  kit --root "$root" ps
  sqlite3 "$root/kit.db" "PRAGMA user_version = 99"
  before=$(sqlite3 "$root/kit.db" .dump | sha256sum)
  fails_with 1 "version 99" kit --root "$root" ps
  fails_with 125 "version 99" kit --root "$root" run --rm busybox true
  [ "$(sqlite3 "$root/kit.db" .dump | sha256sum)" = "$before" ]
}

@test "records of an older kit are brought up to date, and a copy is kept" {
  local root=$BATS_TEST_TMPDIR/older
  mkdir "$root"
  sqlite3 "$root/kit.db" <"$BATS_TEST_DIRNAME/../unit/fixtures/records-v1.sql"
  [ "$(sqlite3 "$root/kit.db" 'PRAGMA user_version')" -eq 1 ]
  local names
  names=$(sqlite3 "$root/kit.db" 'SELECT name FROM containers ORDER BY name')
  [ -n "$names" ]
  [ "$(kit --root "$root" ps -a --format '{{.Names}}' | sort)" = "$names" ]
  [ "$(sqlite3 "$root/kit.db" 'PRAGMA user_version')" -gt 1 ]
  [ "$(sqlite3 "$root/kit.db.v1" 'PRAGMA user_version')" -eq 1 ]
  [ "$(sqlite3 "$root/kit.db.v1" 'SELECT name FROM containers ORDER BY name')" = "$names" ]
}
