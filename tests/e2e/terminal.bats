# SPDX-License-Identifier: Apache-2.0
load common

teardown() {
  local ids
  ids=$(kit ps -aq)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || kit rm -f $ids
}

# A conversation through a real terminal; exits as the script says, 99 if an answer does not come.
converse() {
  local script=$BATS_TEST_TMPDIR/script
  {
    echo 'set timeout 10'
    echo 'expect_after { timeout { puts "\nno answer"; exit 99 } }'
    echo 'proc ended {} { expect eof; return [lindex [wait] 3] }'
    cat
  } >"$script"
  expect "$script"
}

@test "a prompt, line editing, the window's size, the exit code" {
  run converse <<'SCRIPT'
set stty_init "rows 33 columns 101"
spawn kit run --rm -it --name shell busybox sh
expect "/ # "
send "echo onex\177 two\r"
expect "one two"
expect "/ # "
send "stty size; tty\r"
expect "33 101"
expect "/dev/pts/0"
expect "/ # "
send "exit 23\r"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 23 ]
}

@test "a change of the window's size arrives" {
  run converse <<'SCRIPT'
set stty_init "rows 20 columns 80"
spawn kit run --rm -it busybox sh
expect "/ # "
stty rows 44 columns 120 < $spawn_out(slave,name)
sleep 0.3
send "stty size\r"
expect "44 120"
send "exit\r"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "Ctrl-C reaches the program, not kit" {
  run converse <<'SCRIPT'
spawn kit run --rm -it busybox sh
expect "/ # "
send "sleep 100\r"
sleep 0.3
send "\003"
expect "/ # "
send "echo still-\$((40 + 2))\r"
expect "still-42"
send "exit\r"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "detach leaves it running; attach finds the same shell" {
  run converse <<'SCRIPT'
spawn kit run -it --name kept busybox sh
expect "/ # "
send "marker=found\r"
expect "/ # "
send "\020\021"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
  is_running kept
  run converse <<'SCRIPT'
spawn kit attach kept
send "\r"
expect "/ # "
send "echo it-is-\$marker; exit 5\r"
expect "it-is-found"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 5 ]
  within 5 is_exited kept
}

@test "other detach keys" {
  run converse <<'SCRIPT'
spawn kit run -it --name keys --detach-keys ctrl-a,d busybox sh
expect "/ # "
send "\001d"
exit [ended]
SCRIPT
  [ "$status" -eq 0 ]
  is_running keys
}

@test "exec with a terminal of its own" {
  kit run -d --name box busybox sleep 1000
  run converse <<'SCRIPT'
spawn kit exec -it box sh
expect "/ # "
send "test -t 0 && echo is-\$((1 + 1))\r"
expect "is-2"
send "exit 4\r"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 4 ]
}

@test "the terminal is as it was before" {
  run converse <<'SCRIPT'
spawn sh
send "before=\$(stty -g); kit run --rm -it busybox true; test \"\$before\" = \"\$(stty -g)\" && echo unch''anged\r"
expect "unchanged"
send "exit 0\r"
exit [ended]
SCRIPT
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "-it without a terminal is refused, -t alone is not" {
  fails_with 125 terminal kit run --rm -it busybox true </dev/null
  run kit run --rm -t busybox sh -c 'test -t 1 && echo terminal' </dev/null
  [[ $output == terminal* ]]
}
