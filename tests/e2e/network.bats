# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

address_of() { kit inspect -f '{{.NetworkSettings.IPAddress}}' "$1"; }

@test "a container on the bridge has an address, a route, and reaches its gateway" {
  kit run -d --name box busybox sleep 100
  run kit exec box ip -4 -o address show eth0
  [[ $output == *"inet $(address_of box)/"* ]]
  local gateway
  gateway=$(kit inspect -f '{{.NetworkSettings.Gateway}}' box)
  [[ $(kit exec box ip route) == *"default via $gateway dev eth0"* ]]
  kit exec box ping -c 1 -W 2 "$gateway"
  ping -c 1 -W 2 "$(address_of box)"
}

@test "containers of one network reach each other, by different addresses" {
  kit run -d --name server busybox sh -c 'while :; do echo served | nc -l -p 80; done'
  kit run -d --name other busybox sleep 100
  [ "$(address_of server)" != "$(address_of other)" ]
  asked() { [ "$(kit exec other nc -w 2 "$(address_of server)" 80 </dev/null)" = served ]; }
  within 5 asked
}

@test "a container's own link is all it sees; the host's links are not there" {
  run kit run --rm busybox ls /sys/class/net
  [ "$(echo $output)" = "eth0 lo" ]
}

@test "none: lo alone, and up" {
  run kit run --rm --network none busybox sh -c 'ls /sys/class/net; ping -c 1 127.0.0.1 >/dev/null && echo alive'
  [ "$output" = $'lo\nalive' ]
}

@test "host: the caller's own network" {
  ip link add kit-test-link type veth peer name kit-test-peer
  run kit run --rm --network host busybox ip link show kit-test-link
  ip link del kit-test-link
  [ "$status" -eq 0 ]
}

@test "addresses are given back, links go with their container" {
  kit run --rm busybox true
  local before after
  before=$(ip -o link | wc -l)
  kit run --rm busybox true
  gone() { after=$(ip -o link | wc -l); [ "$after" -eq "$before" ]; }
  within 5 gone
}

@test "network ls and inspect" {
  run kit network ls --format '{{.Name}} {{.Driver}}'
  [[ $output == *"bridge bridge"* && $output == *"host host"* && $output == *"none none"* ]]
  kit run -d --name seen busybox sleep 100
  kit network inspect bridge | jq -e '.[0].Containers | to_entries | .[0].value | .Name == "seen" and (.IPv4Address | test("/"))'
  fails_with 1 absent kit network inspect -f '{{.Id}}' absent
  fails_with 125 absent kit run --rm --network absent busybox true
}

@test "hosts, resolv.conf and hostname are the container's own" {
  run kit run --rm -h named busybox sh -c 'cat /etc/hosts; cat /etc/hostname; test -r /etc/resolv.conf'
  [ "$status" -eq 0 ]
  [[ $output == *localhost* && ${lines[-1]} == named ]]
}
