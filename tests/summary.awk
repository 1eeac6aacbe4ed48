# SPDX-License-Identifier: Apache-2.0
# Sums up what ctest -V printed: a program counts as one test, a .bats file as one for each of its tests. Names what was
# skipped, with the reason, what failed, and what passed only when tried again, alone; the last line is the sum. Exit 1
# if anything failed. Of a test that was run again, only the last run counts.
#
# Before that, what conformance suites said of each driver ("checked: NAME: ..."), in one table: all presets together.
#
# -v broken=N: presets that did not build. -v left=TEXT: what the tests left on the host.

function reason_of(text) { sub(/^skipped: */, "", text); return text }
function skip(t, text) { skips[t, ++skipped[t]] = text }
function enlist(t) { if (!(t in seen)) { seen[t] = 1; order[++tests] = t } }
function fail(t, text) { failures[t, ++failed[t]] = text }

# "checked: vfs, erased: 60 passed, 14 skipped, 0 failed; 14x vfs does not model reports_changes here"
function check(t, text,    form, numbers, parts, n, i) {
  sub(/^ ?checked: /, "", text)
  n = split(text, parts, "; ")
  match(parts[1], /: [0-9]+ passed,/)
  form = substr(parts[1], 1, RSTART - 1)
  split(substr(parts[1], RSTART + 2), numbers, /[^0-9]+/)
  checked[t, ++checks[t]] = form
  for (i = 1; i <= 3; i++) counts[t, checks[t], i] = numbers[i]
  reasons[t, checks[t]] = ""
  for (i = 2; i <= n; i++) reasons[t, checks[t]] = reasons[t, checks[t]] (i > 2 ? "; " : "") parts[i]
}

FNR == 1 { preset = FILENAME; sub(/.*\//, "", preset); sub(/\.log$/, "", preset) }

# Output of test N: "N: text".
/^[0-9]+: / {
  t = preset SUBSEP $1 + 0
  text = substr($0, length($1) + 2)
  if (text ~ /^ ?Test command: /) {
    if (t in seen) again[t] = 1
    enlist(t)
    passed[t] = failed[t] = skipped[t] = tap[t] = checks[t] = 0; said[t] = ""
  } else if (text ~ /^ ?(not )?ok [0-9]+ /) {
    sub(/^ /, "", text)
    tap[t] = 1
    if (text ~ /^not ok/) fail(t, preset ": " text)
    else if (match(text, / # skip/)) {
      reason = substr(text, RSTART + 7); sub(/^ *\(?/, "", reason); sub(/\)$/, "", reason)
      name = substr(text, 1, RSTART - 1); sub(/^ok [0-9]+ /, "", name)
      skip(t, preset ": " name ": " reason)
    } else passed[t]++
  } else if (text ~ /^ ?checked: /) {
    check(t, text)
  } else if (text ~ /[^ ]/) { sub(/^ /, "", text); said[t] = text }
  next
}

# " 3/12 Test  #7: unit/fd ......   Passed    0.01 sec"
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
  match($0, /#[0-9]+/); t = preset SUBSEP substr($0, RSTART + 1, RLENGTH - 1) + 0
  name = $0; sub(/^[^:]*: /, "", name); sub(/ .*/, "", name); names[t] = preset ": " name
  enlist(t)
  if ($0 ~ /\*\*\*Skipped/) skip(t, names[t] ": " reason_of(said[t]))
  else if ($0 ~ / Passed +[0-9.]+ sec/) { if (!tap[t]) passed[t]++ }
  else if (!failed[t]) fail(t, names[t] " " substr($0, index($0, "***") + 3))
}

END {
  for (k = 1; k <= tests; k++) {
    t = order[k]
    suite = names[t]; sub(/^.*\//, "", suite)
    for (i = 1; i <= checks[t]; i++) {
      row = suite SUBSEP checked[t, i]
      if (!(row in table)) { table[row] = 1; rows[++lines] = row }
      for (j = 1; j <= 3; j++) sum[row, j] += counts[t, i, j]
      if (reasons[t, i] != "") why[row] = reasons[t, i]
    }
  }
  if (lines) printf "%-18s %-26s %7s %7s %7s\n", "suite", "driver", "passed", "skipped", "failed"
  for (k = 1; k <= lines; k++) {
    split(rows[k], parts, SUBSEP)
    printf "%-18s %-26s %7d %7d %7d  %s\n", parts[1], parts[2], sum[rows[k], 1], sum[rows[k], 2], sum[rows[k], 3], why[rows[k]]
  }
  for (k = 1; k <= tests; k++) {
    t = order[k]
    for (i = 1; i <= skipped[t]; i++) print "skipped " skips[t, i]
    for (i = 1; i <= failed[t]; i++) print "failed  " failures[t, i]
    if ((t in again) && !failed[t]) print "again   " names[t] ": passed when tried alone"
    all_passed += passed[t]; all_failed += failed[t]; all_skipped += skipped[t]
  }
  if (broken) { all_failed += broken; print "failed  " broken " preset(s) did not build" }
  if (left != "") { all_failed++; print "failed  left on the host:"; print left }
  printf "%d passed, %d failed, %d skipped\n", all_passed, all_failed, all_skipped
  exit all_failed > 0
}
