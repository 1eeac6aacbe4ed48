# SPDX-License-Identifier: Apache-2.0
# Sums up what ctest -V printed: a program counts as one test, a .bats file as one for each of its tests. Names what was
# skipped, with the reason, and what failed; the last line is the sum. Exit 1 if anything failed.
#
# -v broken=N: presets that did not build. -v left=TEXT: what the tests left on the host.

function reason_of(text) { sub(/^skipped: */, "", text); return text }

FNR == 1 { preset = FILENAME; sub(/.*\//, "", preset); sub(/\.log$/, "", preset); delete said; delete tap }

# Output of test N: "N: text".
/^[0-9]+: / {
  n = $1 + 0
  text = substr($0, length($1) + 2)
  if (text ~ /^(not )?ok [0-9]+ /) {
    tap[n]++
    if (text ~ /^not ok/) { tap_failed[preset, n]++; failures[++failed] = preset ": " text }
    else if (match(text, / # skip/)) {
      reason = substr(text, RSTART + 7); sub(/^ *\(?/, "", reason); sub(/\)$/, "", reason)
      name = substr(text, 1, RSTART - 1); sub(/^ok [0-9]+ /, "", name)
      skips[++skipped] = preset ": " name ": " reason
    } else passed++
  } else if (text ~ /[^ ]/) said[n] = text
  next
}

# " 3/12 Test  #7: unit/fd ......   Passed    0.01 sec"
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
  match($0, /#[0-9]+/); n = substr($0, RSTART + 1, RLENGTH - 1) + 0
  name = $0; sub(/^[^:]*: /, "", name); sub(/ .*/, "", name)
  if ($0 ~ /\*\*\*Skipped/) skips[++skipped] = preset ": " name ": " reason_of(said[n])
  else if ($0 ~ / Passed +[0-9.]+ sec/) { if (!(n in tap)) passed++ }
  else if (!((preset, n) in tap_failed)) { failures[++failed] = preset ": " name " " substr($0, index($0, "***") + 3) }
}

END {
  for (i = 1; i <= skipped; i++) print "skipped " skips[i]
  for (i = 1; i <= failed; i++) print "failed  " failures[i]
  if (broken) { failed += broken; print "failed  " broken " preset(s) did not build" }
  if (left != "") { failed++; print "failed  left on the host:"; print left }
  printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
  exit failed > 0
}
