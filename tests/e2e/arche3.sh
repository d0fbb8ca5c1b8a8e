#!/bin/sh
# SPDX-License-Identifier: MIT
# ARCHE3 at its full size (assets/arche3.json, 7.05e9 parameters): made, trained, killed, resumed, evaluated and asked for
# text within 5 GB of device and 5 GB of host memory, 3.5 GB of each for text; a cgroup or a limit on data enforces
# the sums. On a CPU driver both are the same memory: the engine's own account tells the device's, the resident set less
# that is the host's (what slots never held is in no resident set). Prints the table that assets/arche3.md holds.
# Not among the default tests: it takes an hour on a few cores, and 10 GB of memory and of disk.
#     meson test -C build --suite arche3        (or: tests/e2e/arche3.sh VKMOE [STEPS])
. tests/e2e/lib.sh
steps=${2:-20}
kill_at=$((steps / 2 + 2)) save_every=$((steps / 2))
device_most=5000000000 host_most=5000000000 text_most=3500000000
budget=4.6G text_budget=3.2G # GiB: a little less
preset=assets/arche3.json
run=$tmp/run
head -c 300 LICENSE >"$tmp/some.txt"
cp -r src "$tmp/text" # nothing that is written meanwhile

# ---- limits: limited BYTES COMMAND...: with at most so much memory; its peak resident set in $peak, its status in $status
memory_group

limited()
{
    limit=$1
    shift
    if [ -n "$group" ]; then
        echo "$limit" >"$limit_file"
        sh -c 'echo $$ >"$0" && exec "$@"' "$group/cgroup.procs" "$@" >"$tmp/out" 2>"$tmp/err" &
    else
        sh -c 'ulimit -d "$0" && exec "$@"' $((limit / 1024)) "$@" >"$tmp/out" 2>"$tmp/err" &
    fi
    child=$!
    children="$children $child"
    peak=0
}

watch() # until $child ends, or CONDITION... holds: then it is killed
{
    while kill -0 "$child" 2>/dev/null; do
        now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$child/status" 2>/dev/null || :)
        [ -z "$now" ] || peak=$((now * 1024))
        if [ $# -gt 0 ] && "$@"; then kill -9 "$child" 2>/dev/null || :; fi
        sleep 1
    done
    status=0
    wait "$child" || status=$?
    children=
    [ "$peak" -gt 0 ] || fail 'no VmHWM was read'
}

done_at_least() { [ -s "$run/metrics.jsonl" ] && grep -q "^{\"step\": $1," "$run/metrics.jsonl"; }
number() { sed -n "s/.*\"$1\": \([-0-9.e+]*\).*/\1/p" "$run/metrics.jsonl"; }
largest() { sort -n | tail -n 1; }
mean() { awk '{ sum += $1 } END { print sum / NR }'; }
least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -g | head -n 1)" = "$1" ]; }
at_most() { [ "$1" -le "$2" ] || fail "$3: $1 bytes, at most $2"; }
row() { printf '| %s | %s | %s | %s | %s |\n' "$@" >>"$tmp/table"; }
gb() { awk "BEGIN { printf \"%.2f GB\", $1 / 1e9 }"; }

train() # STEPS
{
    limited $((device_most + host_most)) "$vkmoe" train $preset --out "$run" --resume --steps "$1" --data "$tmp/text" --untuned \
        --device-budget $budget --set save_every=$save_every --set eval_every=1000000 \
        --set final_eval_batches=1 --log debug
}

# ---- made
must on own info $preset
grep -q '^vkmoe: 7047542785 parameters' "$tmp/out" || fail 'parameters'
began=$(date +%s)
must on own init $preset --out "$run"
took=$(($(date +%s) - began))
made=$(du -sk "$run" | cut -f 1)
[ "$made" -le 16384 ] || fail "init wrote $made KiB"
row init "$took s" - - "$made KiB on disk"

# ---- trained, and killed behind a checkpoint
began=$(date +%s)
train "$steps"
watch done_at_least "$kill_at"
[ "$status" = 137 ] || fail "training ended by itself with status $status"
device=$(number device_peak_bytes | largest)
at_most "$peak" $((device_most + host_most)) 'resident set of training'
at_most "$device" $device_most 'device memory of training'
at_most $((peak - device)) $host_most 'host memory of training'
first=$(number loss | head -n 3 | mean)
each=$(number tokens_per_s | awk '{ sum += 64 / $1 } END { printf "%.0f", sum / NR }')
row "train to step $kill_at, killed" "$(($(date +%s) - began)) s" "$(gb "$device")" "$(gb "$peak")" \
    "$each s a step"

# ---- resumed from the checkpoint
began=$(date +%s)
train "$steps"
watch
[ "$status" = 0 ] || fail "resumed training ended with status $status"
grep -q "resumed at step $save_every " "$tmp/err" || fail "it did not resume at step $save_every"
device=$(number device_peak_bytes | largest)
at_most "$peak" $((device_most + host_most)) 'resident set of the resumed training'
at_most "$device" $device_most 'device memory of the resumed training'
at_most $((peak - device)) $host_most 'host memory of the resumed training'
last=$(number loss | tail -n 3 | mean)
least "$last" "$(awk "BEGIN { print $first - 0.5 }")" || fail "loss: $first in the first steps, $last in the last"
row "resumed, to step $steps" "$(($(date +%s) - began)) s" "$(gb "$device")" "$(gb "$peak")" \
    "loss $first to $last"
row 'the run on disk' - - - "$(du -sm "$run" | cut -f 1) MiB"

# ---- read: eval and generate
reads() # NAME COMMAND...
{
    name=$1
    shift
    began=$(date +%s)
    limited $((2 * text_most)) "$vkmoe" "$@" --untuned --device-budget $text_budget --log debug
    watch
    [ "$status" = 0 ] || fail "$name ended with status $status"
    device=$(sed -n 's/^debug: memory: at most \([0-9]*\) bytes of the device.*/\1/p' "$tmp/err")
    at_most "$device" $text_most "device memory of $name"
    at_most $((peak - device)) $text_most "host memory of $name"
    row "$name" "$(($(date +%s) - began)) s" "$(gb "$device")" "$(gb "$peak")" "$(tail -n 1 "$tmp/out")"
}
reads eval eval "$run" --data "$tmp/some.txt" --json
reads generate generate "$run" --prompt 'static bool ' --max-tokens 16

# ---- what exists but is not touched costs nothing
must on own bench --untuned --filter touched --json "$tmp/touched.json"
grep -oE '"(cpu|memory)_of_first":[0-9.e+]*' "$tmp/touched.json" >"$tmp/ratios"
awk -F : '$2 > 1.15 { bad = 1 } END { exit bad || NR != 6 }' "$tmp/ratios" ||
    fail "cost follows what exists: $(tr '\n' ' ' <"$tmp/ratios")"

echo "limits by ${group:-ulimit -d}"
echo '| ARCHE3, 64 tokens a step | time | device | resident set, device and all | |'
echo '|---|---|---|---|---|'
cat "$tmp/table"
