#!/bin/sh
# SPDX-License-Identifier: MIT
# A streamed training run that is killed at random moments and instead of random calls on its files, on a disk that
# is full, that fails once, that reads and writes less than it is asked for: the last checkpoint opens, every checksum
# right, a resume goes on, and in the end all bytes are those of the run that nothing happened to.
#     train_store_crash.sh VKMOE FAULT_FILES.so CASE TIMES
. tests/e2e/lib.sh
faults=$2 case=$3 times=$4
size='--set num_hidden_layers=3 --set num_experts=16 --set seq_len=4 --set batch_size=1 --set save_every=2
    --set trace_mib=100000'
run=$tmp/run slots=5 prefetch=off

# with FAULT COMMAND...: it meets a disk with that fault; its status is kept
with()
{
    VKMOE_FAULT_FILES=$1 VKMOE_FAULT_PATH="$run"
    export VKMOE_FAULT_FILES VKMOE_FAULT_PATH
    shift
    status=0
    LD_PRELOAD="$faults" "$@" || status=$?
    unset VKMOE_FAULT_FILES VKMOE_FAULT_PATH
}

# Numbers from 0 to below N, the same ones every time.
random() { awk -v most="$1" -v count="$2" 'BEGIN { srand(17); while (count-- > 0) print int(rand() * most) }'; }

newest() { ls "$run" 2>/dev/null | sed -n 's/^checkpoint-0*\([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1; }

# whole: there is a checkpoint, not older than the last one seen, and each record of it is what was written
before=0
whole()
{
    after=$(newest)
    [ "${after:-0}" -ge "$before" ] || fail "the checkpoint of step $before is gone: $(ls "$run")"
    [ -n "$after" ] || return 0
    rm -rf "$tmp/checked"
    must on own unpack "$run" --out "$tmp/checked"
    before=$after
}

go_on() { train ref "$run" --resume --steps "$1" --expert-slots $slots --prefetch $prefetch $size --set save_total_limit=2; }

# finish: two steps more equal the run that nothing happened to
finish()
{
    most=$((before + 3))
    must go_on $most
    must train ref "$tmp/whole" --steps $most $size --set save_total_limit=2
    rm -rf "$tmp/unpacked"
    must on own unpack "$run" --out "$tmp/unpacked"
    for step in $(ls "$tmp/whole" | sed -n 's/^checkpoint-//p' | head -n 1); do rm -r "$tmp/whole/checkpoint-$step"; done
    same_run "$tmp/whole" "$tmp/unpacked"
    [ -z "$(find "$run" -name '*tmp*' -o -name '*.old')" ] || fail "left behind: $(find "$run" -name '*tmp*')"
    rm -rf "$tmp/whole"
}

# kill -9 from outside. The time they lie in grows while nothing is committed and shrinks otherwise, so that a busy
# machine gets somewhere too.
moment() # PART: of the longest time, in thousandths
{
    "$vkmoe" train "$config" --data "$text" --quiet --untuned --device ref --out "$run" --resume --steps 1000000 \
        --expert-slots $slots $size --set save_total_limit=2 >"$tmp/out" 2>"$tmp/err" &
    child=$!
    children=$child
    sleep "$(awk -v ms=$((most * $1 / 1000)) 'BEGIN { print ms / 1000 }')"
    kill -9 $child 2>/dev/null || :
    status=0
    wait $child 2>/dev/null || status=$?
    [ $status = 137 ] || fail "it ended by itself with status $status"
    killed=$((killed + 1)) was=$before
    whole
    [ "$before" -gt "$was" ] && most=$((most * 9 / 10)) || most=$((most * 11 / 10))
}

moments()
{
    most=400 killed=0
    for part in $(random 1000 "$times"); do moment "$part"; done
    while [ "$before" = 0 ] && [ $most -lt 60000 ]; do # too slow a machine for these
        most=$((most * 2))
        moment 1000
    done
    [ "$before" -gt 0 ] || fail "$killed times killed, never at a checkpoint"
    echo "killed $killed times, last checkpoint: step $before"
    finish
}

# Instead of a call: each of them stands between two states of the disk.
calls()
{
    with count train ref "$tmp/run" --steps 8 --expert-slots $slots $size --set save_total_limit=2
    all=$(sed -n 's/^files: \([0-9]*\) calls$/\1/p' "$tmp/err")
    [ "${all:-0}" -gt 50 ] || fail "the faults see ${all:-no} calls"
    rm -rf "$run"
    killed=0
    for call in $(random "$all" "$times"); do
        with "die:$call" go_on $((before + 7))
        [ $status = 137 ] && killed=$((killed + 1)) || [ $status = 0 ] || fail "status $status"
        whole
    done
    [ $killed -gt 0 ] && [ "$before" -gt 0 ] || fail "$killed times killed, step $before"
    echo "killed instead of a call $killed times of $all calls, last checkpoint: step $before"
    finish
}

# fails KIND REASON: the n-th call fails: one line with the reason, or none where it was not one that matters
fails()
{
    must go_on 4
    whole
    failed=0
    for call in $(random 400 "$times"); do
        with "$1:$call" go_on $((before + 5))
        case $status in
        0) : ;;
        1)
            failed=$((failed + 1))
            # plan.json has a line of its own, and the run goes on without it
            [ "$(grep '^error: ' "$tmp/err" | grep -vc '/plan\.json')" = 1 ] || fail 'not one line'
            grep '^error: ' "$tmp/err" | grep -q "$2" || fail "the line does not say: $2" ;;
        *) fail "status $status" ;;
        esac
        whole
    done
    [ $failed -gt 0 ] || fail "no call of $times failed"
    echo "$1: $failed of $times failed, last checkpoint: step $before"
    finish
}

# The disk is full while experts come before they are asked for.
guesses()
{
    slots=18 prefetch=on
    must go_on 4
    whole
    for call in $(random 300 "$times"); do
        with "full:$call" go_on $((before + 5))
        [ $status = 0 ] || [ $status = 1 ] || fail "status $status"
        grep -q '^error: .*no space left' "$tmp/err" || [ $status = 0 ] || fail 'no reason'
        whole
    done
    finish
}

# Less than asked for, or interrupted, all the time.
short()
{
    with short go_on 7
    [ $status = 0 ] || fail "status $status"
    whole
    with short go_on 11
    [ $status = 0 ] || fail "status $status"
    whole
    finish
}

# A real disk that is full: as many megabytes as the first checkpoints take, then no more; then there is room.
disk()
{
    mkdir "$tmp/disk"
    mount -t tmpfs -o size=420k tmpfs "$tmp/disk" 2>"$tmp/err" || { echo 'nothing can be mounted here'; return 0; }
    trap 'umount "$tmp/disk"; clean' EXIT
    run=$tmp/disk/run status=0
    train ref "$run" --steps 1000000 --expert-slots $slots $size --set save_total_limit=0 || status=$?
    [ $status = 1 ] || fail "a full disk: status $status"
    [ "$(grep -c '^error: ' "$tmp/err")" = 1 ] || fail 'not one line'
    grep -q '^error: .*no space left' "$tmp/err" || fail 'it does not say why'
    whole
    [ "$before" -gt 1 ] || fail 'full before the first checkpoint'
    mount -o remount,size=8m "$tmp/disk"
    finish
    mount -o remount,ro "$tmp/disk"
    must on ref logits "$run" --ids 1,2,3 --out "$tmp/ro.npy" # reading needs no right to write
    refuse_on=ref
    refused 1 'ead-only' -- train "$config" --data "$text" --quiet --out "$run" --resume --steps 1000 $size
}

case $case in
moments) moments ;;
calls) calls ;;
full) fails full 'no space left' ;;
bad) fails bad 'rror' ;;
guesses) guesses ;;
short) short ;;
disk) disk ;;
*) fail "no case $case" ;;
esac
