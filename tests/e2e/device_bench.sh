#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/device-bench: the tar runs by itself in another folder, writes its results, keeps its time,
# and says what failed.
#     device_bench.sh BUILD
set -eu
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAIL: $*"; cat "$folder/output" 2>/dev/null; exit 1; }

"$top/tools/device-bench" pack "$folder/all.tar" "$build" >"$folder/output" || fail 'pack'
grep -q '^glibc GLIBC_2' "$folder/output" || fail 'no version of glibc'
mkdir "$folder/there"
tar xf "$folder/all.tar" -C "$folder/there"
cd "$folder/there"
bench=vkmoe-device/tools/device-bench

# device ref: what must work anywhere
export DEVICE_BENCH_DEVICE=ref DEVICE_BENCH_PARTS='device|gradients of operations'
"$bench" run results >"$folder/output" 2>&1 || fail 'run'
grep -q '^== device: ok' results/summary.txt || fail 'part device'
grep -q '^== gradients of operations: ok' results/summary.txt || fail 'part gradients of operations'
grep -q '==== gradients of operations' results/log.txt || fail 'no log'
! grep -q '^== checks' results/summary.txt || fail 'a part ran that was not asked for'

# out of time: every part says so, nothing fails
DEVICE_BENCH_PARTS=. DEVICE_BENCH_SECONDS=0 "$bench" run late >"$folder/output" 2>&1 || fail 'run out of time'
[ "$(grep -c 'no time left' late/summary.txt)" -ge 10 ] || fail 'parts without time'

# a part that fails is named, the next one runs, and so does the status
printf '#!/bin/sh\nexit 3\n' >vkmoe-device/bin/grad_operations
status=0
"$bench" run broken >"$folder/output" 2>&1 || status=$?
[ $status = 1 ] || fail "status $status of a broken part"
grep -q '^== failed: gradients of operations' broken/summary.txt || fail 'the broken part is not named'

# another machine's binaries
sed -i 's/^machine .*/machine s390x/' vkmoe-device/MANIFEST
! "$bench" run other >"$folder/output" 2>&1 || fail 'ran on another machine'
grep -q 'packed for s390x' "$folder/output" || fail 'does not say for which machine'
echo ok
