# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
  kit network prune -f
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

@test "network create: a subnet of its own, its driver's options; rm takes all of it" {
  local links
  links=$(ip -o link | wc -l)
  kit network create --subnet 10.77.0.0/24 -o mtu=1400 --label tier=back made
  [ "$(kit network ls --format '{{.Driver}} {{.Subnet}} {{.Labels}}' --filter name=made)" = "bridge 10.77.0.0/24 tier=back" ]
  kit run -d --name one --network made --ip 10.77.0.9 --mac-address 02:11:22:33:44:55 busybox sleep 100
  kit run -d --name two --network made busybox sleep 100
  run kit exec one ip -o addr show eth0
  [[ $output == *"inet 10.77.0.9/24"* && $(kit exec one ip link show eth0) == *"mtu 1400"*02:11:22:33:44:55* ]]
  kit exec two ping -c 1 -W 2 10.77.0.9
  kit exec two ping -c 1 -W 2 10.77.0.1
  fails_with 1 "in use by one, two" kit network rm made
  fails_with 125 "in use" kit run --rm --network made --ip 10.77.0.9 busybox true
  fails_with 125 "its subnets (10.77.0.0/24)" kit run --rm --network made --ip 10.78.0.9 busybox true
  kit rm -f one two
  kit network rm made
  fails_with 1 "no such network: made" kit network rm made
  gone() { [ "$(ip -o link | wc -l)" -eq "$links" ]; }
  within 5 gone
}

@test "networks are drawn apart, and do not reach each other" {
  kit network create first
  kit network create second
  [ "$(kit network ls --format '{{.Subnet}}' | sort -u | grep -c /)" -eq 3 ]
  kit run -d --name one --network first busybox sleep 100
  kit run -d --name two --network second busybox sleep 100
  kit exec one ping -c 1 -W 2 "$(kit network inspect -f '{{json .IPAM.Config}}' first | jq -r '.[0].Gateway')"
  run ! kit exec one ping -c 1 -W 1 "$(address_of two)"
  # What a stopped container was made for stays.
  kit run --name third --network first busybox true
  kit rm -f one two
  [ "$(kit network prune -f)" = $'Deleted Networks:\nsecond' ]
}

@test "IPv6: an address of each kind, and both ways to the other" {
  kit network create --ipv6 both
  kit run -d --name one --network both busybox sleep 100
  kit run -d --name two --network both --ip6 "$(kit network inspect -f '{{json .IPAM.Config}}' both | jq -r '.[1].Subnet' | sed 's,::/64,::77,')" busybox sleep 100
  run kit exec two ip -6 -o addr show eth0 scope global
  [[ $output == *"::77/64"* ]]
  kit exec one ping -6 -c 1 -W 2 "$(awk '{sub("/.*", "", $4); print $4}' <<<"$output")"
  kit exec one ping -4 -c 1 -W 2 "$(address_of two)"
}

@test "internal: the others, and nobody else" {
  kit network create --internal inner
  kit run -d --name one --network inner busybox sleep 100
  kit run -d --name two --network inner busybox sleep 100
  kit exec one ping -c 1 -W 2 "$(address_of two)"
  kit run -d --name outer busybox sleep 100
  run ! kit exec one ping -c 1 -W 1 "$(address_of outer)"
}

@test "macvlan on a link of the host" {
  ip link add kit-parent type veth peer name kit-wire
  ip link set kit-parent up
  ip link set kit-wire up
  ip addr add 192.168.77.1/24 dev kit-wire
  kit network create -d macvlan --subnet 192.168.77.0/24 -o parent=kit-parent wire
  kit run --rm --network wire --ip 192.168.77.5 busybox ping -c 1 -W 2 192.168.77.1
  kit network rm wire
  ip link del kit-parent
}

@test "networks that cannot be: one line, nothing made" {
  local before
  before=$(kit network ls; ip -o link)
  kit network create --subnet 10.77.0.0/24 there
  fails_with 1 there kit network create there
  fails_with 1 "overlaps that of network there" kit network create --subnet 10.77.0.128/25 bad
  fails_with 1 "host bits" kit network create --subnet 10.78.0.1/24 bad
  fails_with 1 "in no subnet" kit network create --subnet 10.78.0.0/24 --gateway 10.79.0.1 bad
  fails_with 1 '"10.78.0"' kit network create --subnet 10.78.0/24 bad
  fails_with 1 "no network driver \"nonsense\"" kit network create -d nonsense bad
  fails_with 1 nonsense kit network create -o nonsense=1 bad
  fails_with 1 "parent" kit network create -d macvlan -o parent=kit-absent bad
  fails_with 1 "all there can be" kit network create -d host bad
  fails_with 1 "invalid network name" kit network create -- -bad
  ip link add kit-test-link type veth peer name kit-test-peer
  ip addr add 10.78.0.1/24 dev kit-test-link
  ip link set kit-test-link up
  fails_with 1 "overlaps" kit network create --subnet 10.78.0.0/24 bad
  ip link del kit-test-link
  fails_with 1 "pre-defined" kit network rm bridge
  fails_with 1 "no such network" kit network rm absent
  kit network rm -f absent there
  fails_with 125 "not a valid mac address" kit run --rm --mac-address 01:02 busybox true
  fails_with 125 "no interface of its own" kit run --rm --network host --ip 10.0.0.1 busybox true
  [ "$(kit network ls; ip -o link)" = "$before" ]
}
