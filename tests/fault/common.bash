# SPDX-License-Identifier: Apache-2.0
# What the fault tests share: a root with an image and one container that must never notice; points at which a kit
# command is cut short; and what must hold after that.
load ../e2e/common

setup_file() {
  new_root
  import_busybox
  # Another layer than busybox's: the same one would be there already.
  busybox_rootfs >"$BATS_FILE_TMPDIR/rootfs.tar"
  echo other >"$BATS_FILE_TMPDIR/other"
  tar -rf "$BATS_FILE_TMPDIR/rootfs.tar" -C "$BATS_FILE_TMPDIR" ./other
  kit run -d --name bystander busybox sh -c 'while :; do echo alive; sleep 0.1; done' >/dev/null
  BYSTANDER=$(pid_of bystander)
  TAG=$(kit system info --format '{{.RootTag}}')
  export BYSTANDER TAG
  kit run --rm busybox true
  kit run --rm --storage vfs -v /volume busybox true
  within 10 settled
  inventory >"$BATS_FILE_TMPDIR/before"
}
teardown_file() { remove_root; }

# All that this root has on the host and on the disk, but for what lies in a driver's trash: its next caller deletes that.
inventory() {
  grep -F "${KIT_ROOT%/root}" /proc/self/mountinfo || true
  ip -o link show | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/'
  find /sys/fs/cgroup/*/"kit-$TAG" /sys/fs/cgroup/"kit-$TAG" -mindepth 1 -maxdepth 1 -type d 2>/dev/null || true
  pgrep -fl -- "$KIT_ROOT" | sort
  find "$KIT_ROOT" "$KIT_RUN_DIR" -mindepth 1 -maxdepth 4 -not -path '*/trash/*' -not -path '*/diff/*' -not -path '*/work/*' \
    -not -name 'kit.db*' | sort
  kit network inspect bridge
  kit network ls --no-trunc --format '{{.Name}} {{.Subnet}}'
  kit ps -a --no-trunc --format '{{.ID}} {{.State}}' | sort
  kit images --no-trunc --format '{{.Repository}} {{.ID}}' | sort
}

# Points COMMAND... passes, as KIT_FAULT names them, without system calls: for commands that end before their monitor, too.
points_of() {
  local list=$BATS_TEST_TMPDIR/points
  rm -f "$list"
  KIT_FAULT=list:$list "$@" >/dev/null 2>&1 </dev/null || true
  within 10 settled
  grep -v ':call@' "$list" | awk '!seen[$0]++'
}

# All points of a long test; of a short one every so many, others each day.
sampled() {
  if [[ -n ${KIT_TEST_LONG:-} ]]; then cat; else awk -v n="$1" -v day="$(date +%j)" 'NR % n == day % n'; fi
}

# Nothing runs but monitors of containers that run.
settled() { [[ $(pgrep -fc -- "$KIT_ROOT") -eq $(kit ps -q | wc -l) ]]; }

bystander_is_well() {
  kill -0 "$BYSTANDER" && [[ $(pid_of bystander) == "$BYSTANDER" ]] && kit exec bystander true || return 1
  local lines
  lines=$(kit logs bystander | wc -l)
  more() { (($(kit logs bystander | wc -l) > lines)); }
  within 5 more
}

# The next commands work at once, whatever was cut short; checks end clean; then what is left can be removed, and all is
# as it was. Prints what the check found, in a word.
comes_to_order() {
  local findings=0 code text deadline=$((SECONDS + 15)) id reference
  timeout 10 kit ps -a >/dev/null || { echo "ps fails"; return 1; }
  while :; do
    code=0
    text=$(timeout 20 kit system check 2>&1) || code=$?
    case $code in
      0) [[ -z $text ]] || { echo "exit 0, and says: $text"; return 1; }
        settled && break ;;
      1) findings=$((findings + $(wc -l <<<"$text"))); echo "$text" >>"$BATS_TEST_TMPDIR/findings" ;;
      *) echo "check ends with $code: $text"; return 1 ;;
    esac
    ((SECONDS < deadline)) || { echo "no order after 15 s: $text; $(pgrep -fl -- "$KIT_ROOT")"; return 1; }
    sleep 0.05
  done
  local listed
  listed=$(kit ps -a --filter name=victim --format '{{.State}}' | xargs)
  for id in $(kit ps -aq --no-trunc); do
    [[ $(kit inspect -f '{{.Name}}' "$id") == */bystander || $(kit inspect -f '{{.Name}}' "$id") == bystander ]] && continue
    timeout 20 kit rm -fv "$id" >/dev/null || { echo "rm -f fails"; return 1; }
  done
  for reference in $(kit images --no-trunc --format '{{.Repository}} {{.ID}}' | awk '$1 != "busybox" {print $2}'); do
    kit run --rm "$reference" true || { echo "image $reference does not run"; return 1; }
    kit rmi -f "$reference" >/dev/null || { echo "rmi fails"; return 1; }
  done
  kit volume prune -af >/dev/null || { echo "volume prune fails"; return 1; }
  kit network prune -f >/dev/null || { echo "network prune fails"; return 1; }
  # A command that could not be alone with the images leaves what it freed to the next check.
  as_before() { kit system check >/dev/null || true; inventory >"$BATS_TEST_TMPDIR/after"; diff "$BATS_FILE_TMPDIR/before" "$BATS_TEST_TMPDIR/after" >"$BATS_TEST_TMPDIR/left"; }
  within 10 as_before || { echo "left behind: $(cat "$BATS_TEST_TMPDIR/left")"; return 1; }
  bystander_is_well || { echo "the bystander noticed"; return 1; }
  local word=clean
  ((findings == 0)) || word="repaired $findings"
  echo "$word${listed:+, $listed}"
}

# cut_short NAME EVERY PREPARE COMMAND...: COMMAND is killed at each of its points, after PREPARE; prints the table.
cut_short() {
  local name=$1 every=$2 prepare=$3 failed=0 point outcome
  shift 3
  $prepare
  points_of "$@" >"$BATS_TEST_TMPDIR/all"
  comes_to_order >/dev/null
  sampled "$every" <"$BATS_TEST_TMPDIR/all" >"$BATS_TEST_TMPDIR/chosen"
  [[ -s $BATS_TEST_TMPDIR/chosen ]]
  while read -r point; do
    $prepare
    KIT_FAULT=$point=kill timeout 20 "$@" >"$BATS_TEST_TMPDIR/said" 2>&1 </dev/null || true
    outcome=$(comes_to_order) || { failed=$((failed + 1)); outcome="WRONG: $outcome"; }
    printf '# %-8s %-46s %s\n' "$name" "$point" "$outcome" >&3
  done <"$BATS_TEST_TMPDIR/chosen"
  ((failed == 0))
}

# What stands before the command that is tried.
nothing() { :; }
running() { kit run -d --name victim busybox sleep 1000 >/dev/null; }
changed() { kit run --name victim busybox sh -c 'echo more >/srv/more' >/dev/null; }
running_and_changed() { kit run -d --name victim busybox sh -c 'echo more >/srv/more; exec sleep 1000' >/dev/null; }

unpacked_elsewhere() { kit import "$BATS_FILE_TMPDIR/rootfs.tar" made >/dev/null; }
