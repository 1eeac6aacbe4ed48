# SPDX-License-Identifier: Apache-2.0
# A person at a terminal: commands typed into a shell, one after the other, and what they look at.
load common

# An expect script on stdin, within a shell: `ask COMMAND TEXT` types a command, sees TEXT, and waits for its end; "=0="
# stands for success.
talk() {
  { cat <<'PROCEDURES'
proc ask {command text} {
  global spawn_id
  send "$command; echo =\$?=\r"
  # What was typed comes back first.
  expect -ex {=$?=} {} timeout { puts "\nno echo: $command"; exit 99 }
  see $text
  if {$text ne "=0="} { expect -re {=([0-9]+)=} {} timeout { puts "\nno end: $command"; exit 99 } }
  see "ready>"
}
spawn env PS1=ready> PROMPT_COMMAND= bash --norc --noprofile
stty columns 200
see "ready>"
PROCEDURES
    cat
    printf 'send "exit 0\\r"\nend\n'
  } | converse
}

@test "a day with volumes, files, a shell, limits, figures, a commit" {
  echo from the host >"$BATS_TEST_TMPDIR/note"
  run talk <<EXPECT
ask "kit volume create work" "work"
ask "kit run -d --name day -v work:/work -m 64m busybox sleep 1000" "=0="
ask "kit ps" "sleep 1000"
ask "kit cp $BATS_TEST_TMPDIR/note day:/work/" "=0="
ask "kit exec day cat /work/note" "from the host"
send "kit exec -it day sh\r"
see "/ # "
send "stty size; echo more >>/work/note; echo b\"\"ye\r"
see "bye"
send "exit 5\r"
see "ready>"
ask "echo code \\\$?" "code 5"
ask "kit cp day:/work/note - | tar -xO" "more"
ask "kit top day" "sleep 1000"
ask "kit update -m 128m day" "day"
ask "kit stats --no-stream day" "128MiB"
ask "kit diff day" "=0="
ask "kit rename day night" "=0="
ask "kit commit -m changed night evening" "sha256:"
ask "kit history evening" "changed"
ask "kit inspect -f '{{.Name}} {{range .Mounts}}{{.Name}}{{end}}' night" "/night work"
ask "kit restart -t 0 night" "night"
ask "kit pause night" "night"
ask "kit ps --filter status=paused --format '{{.Status}}'" "(Paused)"
ask "kit unpause night" "night"
send "kit volume prune\r"
see "Are you sure you want to continue? "
send "n\r"
see "ready>"
ask "kit volume rm work" "in use by night"
ask "kit stop -t 0 night" "night"
ask "kit rm night" "night"
ask "kit volume rm work" "work"
ask "kit rmi evening" "Untagged: evening"
EXPECT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "a shell in a container: its terminal, detaching, attaching, the end" {
  run talk <<'EXPECT'
send "kit run -it --name shell busybox sh\r"
see "/ # "
send "echo one; hostname -f >/dev/null; tty\r"
see "/dev/pts/0"
send "\020\021"
see "ready>"
ask "kit ps --format '{{.Names}} {{.State}}'" "shell running"
send "kit attach shell\r"
send "echo a\"\"gain\r"
see "again"
send "exit 3\r"
see "ready>"
ask "kit inspect -f '{{.State.ExitCode}}' shell" "3"
send "kit start -ai shell\r"
see "/ # "
send "echo b\"\"ack\r"
see "back"
send "exit\r"
see "ready>"
ask "kit rm -v shell" "shell"
EXPECT
  echo "$output"
  [ "$status" -eq 0 ]
}
