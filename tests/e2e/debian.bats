# SPDX-License-Identifier: Apache-2.0
# A real distribution: debootstrap's smallest Debian, from the mirror this host is configured with.
load common

cache=${XDG_CACHE_HOME:-/var/cache}/kit-tests
release=bookworm

mirror() {
  { sed -nE 's/^deb +(\[[^]]*\] +)?(https?:\/\/[^ ]+) +'"$release"' .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    awk '/^URIs:/ {uri = $2} /^Suites:/ && / '"$release"'( |$)/ {print uri}' /etc/apt/sources.list.d/*.sources; } 2>/dev/null | head -n 1
}

setup_file() {
  new_root
  if [ ! -f "$cache/$release.tar" ]; then
    local url work
    url=$(mirror)
    [ -n "$url" ] || skip "no mirror of $release in /etc/apt"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/debootstrap.XXXXXX")
    # This file runs without a network; the host's is the caller's.
    nsenter --net="/proc/$KIT_TEST_CALLER/ns/net" debootstrap --variant=minbase "$release" "$work/rootfs" "$url" >"$work/log" 2>&1 ||
      { tail -n 5 "$work/log"; rm -rf "$work"; return 1; }
    rm -rf "$work"/rootfs/var/cache/apt/archives/*.deb
    tar -C "$work/rootfs" -cf "$work/tar" .
    mv "$work/tar" "$cache/$release.tar"
    rm -rf "$work"
  fi
  kit import -c 'CMD ["bash"]' - debian:12 <"$cache/$release.tar" >/dev/null
}

@test "it is Debian, whole" {
  run kit run --rm debian:12 sh -c 'cat /etc/os-release; dpkg -l | wc -l'
  [ "$status" -eq 0 ]
  [[ $output == *'VERSION_ID="12"'* ]]
  [ "${lines[-1]}" -gt 60 ]
}

@test "dpkg finds every file as it was packed" {
  run kit run --rm debian:12 dpkg --verify
  [ "$status" -eq 0 ]
  [ -z "$(grep -v ' c ' <<<"$output")" ]
}

@test "bash in a terminal: prompt, history, Ctrl-C, size, exit code" {
  run converse <<'SCRIPT'
set stty_init "rows 40 columns 111"
spawn kit run --rm -it -h box debian:12 bash --norc
see "# "
send "echo first-\$((20 + 1))\r"
see "first-21"
see "# "
send "\033\[A"
see "echo first"
send "\001\013stty size\r"
see "40 111"
see "# "
send "sleep 60\r"
sleep 0.3
send "\003"
see "# "
send "exit 7\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 7 ]
}

@test "a service: run -d, logs -f, exec, stop" {
  kit run -d --name service debian:12 bash -c 'trap "echo stopping; exit 0" TERM; for ((i = 0; ; ++i)); do echo "beat $i"; sleep 0.1; done'
  timeout 20 kit logs -f service >"$BATS_TEST_TMPDIR/log" &
  within 5 grep -q 'beat 3' "$BATS_TEST_TMPDIR/log"
  [[ $(kit exec service bash -c 'ps 2>/dev/null || ls /proc') == *1* ]]
  kit stop service
  wait
  [ "$(tail -n 1 "$BATS_TEST_TMPDIR/log")" = stopping ]
  [ "$(kit wait service)" -eq 0 ]
  kit rm service
}

@test "a package installed from a local .deb is there in the committed image, and not in the base" {
  local build=$BATS_TEST_TMPDIR/hello
  mkdir -p "$build/DEBIAN" "$build/usr/bin"
  printf 'Package: kit-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: kit <kit@localhost>\nDescription: says hello\n' >"$build/DEBIAN/control"
  printf '#!/bin/sh\necho hello from the package\n' >"$build/usr/bin/kit-hello"
  printf '#!/bin/sh\nadduser --version >/dev/null 2>&1; echo configured >/etc/kit-hello\n' >"$build/DEBIAN/postinst"
  chmod 755 "$build/usr/bin/kit-hello" "$build/DEBIAN/postinst"
  dpkg-deb --root-owner-group -Zgzip -b "$build" "$BATS_TEST_TMPDIR/kit-hello.deb" >/dev/null
  kit run --name installer -v "$BATS_TEST_TMPDIR/kit-hello.deb:/tmp/kit-hello.deb:ro" debian:12 dpkg -i /tmp/kit-hello.deb
  kit commit installer debian:hello >/dev/null
  kit rm installer
  [ "$(kit run --rm debian:hello kit-hello)" = "hello from the package" ]
  [ "$(kit run --rm debian:hello dpkg-query -W -f '${Status}' kit-hello)" = "install ok installed" ]
  run -127 kit run --rm debian:12 kit-hello
}

@test "the same under vfs" {
  [ "$(kit run --rm --storage vfs debian:12 bash -c 'dpkg -l | wc -l')" = "$(kit run --rm debian:12 bash -c 'dpkg -l | wc -l')" ]
}
