#!/bin/sh
# SPDX-License-Identifier: MIT
# Ctrl-C writes a checkpoint and ends with 130; kill -9 at any moment leaves a checkpoint that opens; from
# either a resume goes on as if nothing had been.
#     interrupt.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2
# how many steps have their tokens in the trace follows from --steps, and these runs end before theirs
untraced='--set trace_tokens=0'

# start FOLDER OPTION...: a run in the background that would never end; $child, its output in $tmp/back.*
start()
{
    started=$1
    shift
    "$vkmoe" train "$config" --data "$text" --quiet --out "$started" --device ref --steps 1000000 $untraced "$@" \
        >"$tmp/back.out" 2>"$tmp/back.err" &
    child=$!
    children="$children $child"
}

# ended: its status in $status
ended()
{
    status=0
    wait "$child" 2>/dev/null || status=$?
}

lines() { [ -f "$1" ] && [ "$(grep -c '"loss"' "$1")" -ge "$2" ]; }
newest() { ls -d "$1"/checkpoint-???????? 2>/dev/null | tail -n 1; }
newest_step()
{
    [ -n "$(newest "$1")" ] || fail "no checkpoint is left: $(ls "$1")"
    sed -E 's/.*"step": ([0-9]+).*/\1/' "$(newest "$1")/state.json"
}
opens() { must on ref logits "$1" --ids 84,104,101 --out "$tmp/logits.npy"; }

# signal NAME: in the middle of training
signal()
{
    run=$tmp/run-$1
    start "$run" --set save_every=7
    wait_for 30 lines "$run/metrics.jsonl" 12
    kill -s "$1" $child
    ended
    [ $status = 130 ] || fail "SIG$1: exit status $status, wanted 130: $(cat "$tmp/back.err")"
    step=$(newest_step "$run")
    [ "$step" -ge 12 ] || fail "SIG$1: the checkpoint is of step $step, 12 steps were done before"
    grep -q "^interrupted at step $step; go on with --resume" "$tmp/back.out" || fail "SIG$1: $(cat "$tmp/back.out")"
    [ -z "$(ls -d "$run"/*.tmp* 2>/dev/null)" ] || fail "SIG$1: something half-written is left"
    opens "$run"
    most=$((step + 3))
    must train ref "$run" --resume --steps $most --set save_every=7 $untraced
    grep -q "^resumed at step $step " "$tmp/err" || fail "SIG$1: the resume does not start at step $step"
    must train ref "$tmp/whole" --steps $most --set save_every=7 $untraced
    same_run "$run" "$tmp/whole"
    rm -rf "$tmp/whole"
}

# Before the first step there is nothing to save, and nothing is left that hinders a start.
early()
{
    start "$tmp/early" --set seq_len=160 --set batch_size=64
    wait_for 30 test -f "$tmp/early/config.json"
    kill -s INT $child
    ended
    [ $status = 130 ] || fail "in the first step: exit status $status, wanted 130"
}

# Who presses twice does not want to wait: a step of these takes minutes. When the first step has begun
# nothing tells; where the first signal came before it, once more with more patience.
twice()
{
    for patience in 0.5 1 2 4 8; do
        rm -rf "$tmp/twice"
        start "$tmp/twice" --set seq_len=160 --set batch_size=64 --set gradient_accumulation_steps=400
        wait_for 30 test -f "$tmp/twice/metrics.jsonl"
        sleep $patience
        kill -s INT $child
        sleep 0.3
        kill -s INT $child 2>/dev/null || { ended; continue; }
        ended
        [ $status = 130 ] || fail "the second Ctrl-C: exit status $status, wanted 130"
        must train ref "$tmp/twice" --resume --steps 2
        return
    done
    fail 'the first Ctrl-C ended the step'
}

# Killed again and again while it saves after every step; each time the last checkpoint opens and goes on.
killed()
{
    run=$tmp/killed before=0
    for delay in 0 0.01 0.03 0 0.02 0.005 0.05 0.015; do
        [ $before = 0 ] && start "$run" --set save_every=1 || start "$run" --resume --set save_every=1
        wait_for 30 lines "$run/metrics.jsonl" $((before + 3))
        sleep $delay
        kill -s KILL $child
        ended
        [ $status = 137 ] || fail "it ended by itself with status $status: $(cat "$tmp/back.err")"
        opens "$run"
        after=$(newest_step "$run")
        [ "$after" -gt "$before" ] || fail "killed behind step $((before + 3)), but the checkpoint is of step $after"
        before=$after
    done
    most=$((before + 2))
    must train ref "$run" --resume --steps $most --set save_every=1 $untraced
    grep -q "^resumed at step $before " "$tmp/err" || fail "the resume does not start at step $before"
    must train ref "$tmp/whole" --steps $most --set save_every=1 $untraced
    same_run "$run" "$tmp/whole"
    [ -z "$(ls -d "$run"/*tmp* "$run"/*.old 2>/dev/null)" ] || fail 'something half-written is left'
    [ "$(ls -d "$run"/checkpoint-* | wc -l)" = 1 ] || fail 'more than one checkpoint is left'
}

case $case in
signal) signal INT; signal TERM; early; twice ;;
killed) killed ;;
*) fail "no case $case" ;;
esac
