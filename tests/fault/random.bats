# SPDX-License-Identifier: Apache-2.0
# kill -9 at moments nobody chose, while several commands run on one root. KIT_TEST_SEED repeats a run's choices, though
# not its moments.
load common

one_of() { local words=("$@"); echo "${words[RANDOM % $#]}"; }

# Commands as users mix them, each on one of three containers.
worker() { # SEED
  local name
  RANDOM=$1
  while [[ -e $BATS_TEST_TMPDIR/going-on ]]; do
    name=victim$((RANDOM % 3))
    case $(one_of run run-d rm exec stop commit rmi import unpack ps) in
      run) kit run --rm busybox true ;;
      run-d) kit run -d --name $name busybox sh -c 'echo more >/srv/more; exec sleep 1000' ;;
      rm) kit rm -f $name ;;
      exec) kit exec $name true ;;
      stop) kit stop -t 0 $name ;;
      commit) kit commit $name made ;;
      rmi) kit rmi made ;;
      import) kit import "$BATS_FILE_TMPDIR/rootfs.tar" made ;;
      unpack) kit run --rm --storage vfs made true ;;
      ps) kit ps -a ;;
    esac || true  # the container it is about may be gone
  done >/dev/null 2>&1 </dev/null
}

# kit's processes of this file, which has a network namespace of its own; but not the bystander's monitor.
victims() { pgrep --ns $$ --nslist net -x 'kit|kit-image|kit-monitor' | grep -vx "$WATCHED"; }

@test "random kills under load" {
  local kills=${KIT_TEST_LONG:+500} seed=${KIT_TEST_SEED:-$$} round killed done=0 jobs=() outcome list
  kills=${kills:-40}
  WATCHED=$(jq .monitor "$KIT_RUN_DIR/$TAG/containers/$(kit inspect -f '{{.Id}}' bystander)/state.json")
  RANDOM=$seed
  while ((done < kills)); do
    touch "$BATS_TEST_TMPDIR/going-on"
    jobs=()
    for round in 1 2 3; do
      worker $((seed + done + round)) &
      jobs+=($!)
    done
    for ((killed = 0; killed < 20; )); do
      sleep "0.0$((RANDOM % 9))"
      mapfile -t list < <(victims)
      ((${#list[@]})) || continue
      if kill -9 "$(one_of "${list[@]}")" 2>/dev/null; then killed=$((killed + 1)); fi
    done
    rm "$BATS_TEST_TMPDIR/going-on"
    wait "${jobs[@]}" || true
    done=$((done + killed))
    outcome=$(comes_to_order) || { echo "seed $seed, after $done kills: $outcome"; return 1; }
    printf '# random   %3d kills, seed %d: %s\n' "$done" "$seed" "$outcome" >&3
  done
}
