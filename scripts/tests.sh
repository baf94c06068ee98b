#!/usr/bin/env bash
# Runs pytest: scripts/tests.sh PYTEST [OPTION ...]. A test that failed beside others is no verdict on a machine that
# others share: it is run once more, alone. What fails again fails; what passes then is named, for it is a fault of the
# test or of what it tests.
set -uo pipefail
"$@"
code=$?
((code == 1)) || exit "$code"
echo "Once more, alone: what failed."
"$@" --numprocesses=0 --last-failed --last-failed-no-failures=none || exit
echo "Failed once beside others and passed alone: see FAILED above. It wants mending."
