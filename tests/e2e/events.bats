# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

actions() { kit events --until 0s --filter container="$1" --format '{{.Action}}' | tr '\n' ' '; }

@test "what happened to a container, in its order, in three forms" {
  kit run --name one busybox false || true
  kit rename one two
  kit start two
  within 5 is_exited two
  local id
  id=$(kit inspect -f '{{.Id}}' two)
  [ "$(actions "$id")" = "create start die rename start die " ]
  kit events --until 0s --filter event=die | head -n 1 | grep -qE "^20[^ ]+Z container die $id \(exitCode=1, image=busybox, name=one\)\$"
  kit events --until 0s --filter event=die --format json | head -n 1 |
    jq -e --arg id "$id" '.Type == "container" and .Action == "die" and .status == "die" and .id == $id and .from == "busybox"
      and .Actor.ID == $id and .Actor.Attributes.exitCode == "1" and .timeNano > .time'
  [ "$(kit events --until 0s --filter event=die --filter image=busybox --format '{{.Actor.Attributes.exitCode}}')" = $'1\n1' ]
  [ -z "$(kit events --until 0s --since 1m --filter type=network)" ]
  fails_with 1 "colour" kit events --filter colour=red
}

@test "live: each event once, soon, until it is to end" {
  kit events --filter event=start --filter event=die --filter event=kill --filter event=stop \
    --format '{{.Action}} {{.Actor.Attributes.name}}' --until "$(date -u -d '+4 seconds' +%FT%TZ)" --since 0s >"$BATS_TEST_TMPDIR/seen" &
  local watcher=$!
  kit run -d --name live busybox sleep 1000
  started() { [ "$(cat "$BATS_TEST_TMPDIR/seen")" = "start live" ]; }
  within 2 started
  kit stop -t 0 live
  wait "$watcher"
  [ "$(sort "$BATS_TEST_TMPDIR/seen" | tr '\n' ' ')" = "die live start live stop live " ]
}
