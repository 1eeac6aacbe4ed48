# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

@test "a prompt, line editing, the window's size, the exit code" {
  run converse <<'SCRIPT'
set stty_init "rows 33 columns 101"
spawn kit run --rm -it --name shell busybox sh
see "/ # "
send "echo onex\177 two\r"
see "one two"
see "/ # "
send "stty size; tty\r"
see "33 101"
see "/dev/pts/0"
see "/ # "
send "exit 23\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 23 ]
}

@test "a change of the window's size arrives" {
  run converse <<'SCRIPT'
set stty_init "rows 20 columns 80"
spawn kit run --rm -it busybox sh
see "/ # "
stty rows 44 columns 120 < $spawn_out(slave,name)
sleep 0.3
send "stty size\r"
see "44 120"
send "exit\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "Ctrl-C reaches the program, not kit" {
  run converse <<'SCRIPT'
spawn kit run --rm -it busybox sh
see "/ # "
send "sleep 100\r"
sleep 0.3
send "\003"
see "/ # "
send "echo still-\$((40 + 2))\r"
see "still-42"
send "exit\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "detach leaves it running; attach finds the same shell" {
  run converse <<'SCRIPT'
spawn kit run -it --name kept busybox sh
see "/ # "
send "marker=found\r"
see "/ # "
send "\020\021"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
  is_running kept
  run converse <<'SCRIPT'
spawn kit attach kept
send "\r"
see "/ # "
send "echo it-is-\$marker; exit 5\r"
see "it-is-found"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 5 ]
  within 5 is_exited kept
}

@test "other detach keys" {
  run converse <<'SCRIPT'
spawn kit run -it --name keys --detach-keys ctrl-a,d busybox sh
see "/ # "
send "\001d"
end
SCRIPT
  [ "$status" -eq 0 ]
  is_running keys
}

@test "exec with a terminal of its own" {
  kit run -d --name box busybox sleep 1000
  run converse <<'SCRIPT'
spawn kit exec -it box sh
see "/ # "
send "test -t 0 && echo is-\$((1 + 1))\r"
see "is-2"
send "exit 4\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 4 ]
}

@test "the terminal is as it was before" {
  run converse <<'SCRIPT'
spawn sh
send "before=\$(stty -g); kit run --rm -it busybox true; test \"\$before\" = \"\$(stty -g)\" && echo unch''anged\r"
see "unchanged"
send "exit 0\r"
end
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "-it without a terminal is refused, -t alone is not" {
  fails_with 1 "the input device is not a TTY" kit run --rm -it busybox true </dev/null
  run kit run --rm -t busybox sh -c 'test -t 1 && echo terminal' </dev/null
  [[ $output == terminal* ]]
}
