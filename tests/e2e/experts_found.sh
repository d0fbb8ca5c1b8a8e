#!/bin/sh
# SPDX-License-Identifier: MIT
# A model whose experts do not fit trains and generates without a flag: the device's budget is found, its experts come and
# go, and the losses are those of a run that holds them all. A memory cgroup makes the machine, and so the device, small.
#     experts_found.sh VKMOE
. tests/e2e/lib.sh
memory_group
[ -n "$group" ] || skip 'no memory cgroup can be made here'

within() # LIMIT COMMAND...
{
    echo "$1" >"$limit_file"
    shift
    (sh -c 'echo $PPID' >"$group/cgroup.procs" && "$@")
}

train() # FOLDER
{
    "$vkmoe" train assets/tiny.json --data LICENSE --out "$1" --steps 2 --untuned --set num_local_experts=64 \
        --set intermediate_size=512 --set batch_size=1 --set seq_len=16 --set expert_optimizer=per-expert
}

# 805 MB of weights, gradients and moments; 202 MB of weights
train "$tmp/whole" >"$tmp/out" 2>"$tmp/err" || fail 'the resident run'
! grep -q 'come and go' "$tmp/err" || fail 'streamed without need'
within 734003200 train "$tmp/part" >"$tmp/out" 2>"$tmp/err" || fail 'the run of 700 MiB'
grep -q 'the training keeps 0.75 GiB, the device has 0.60 GiB: its experts come and go' "$tmp/err" || fail 'no word of it'
losses() { sed -n 's/^{"step": \([0-9]*\), "loss": \([^,]*\),.*/\1 \2/p' "$1/metrics.jsonl"; }
losses "$tmp/whole" >"$tmp/wanted"
losses "$tmp/part" >"$tmp/found"
[ "$(wc -l <"$tmp/wanted")" = 2 ] && cmp -s "$tmp/wanted" "$tmp/found" || fail "losses $(cat "$tmp/found")"

text() { "$vkmoe" generate "$tmp/whole" --untuned --prompt 'Permission is' --max-tokens 8 --temperature 0; }
text >"$tmp/wanted" 2>"$tmp/err" || fail 'generating with all experts'
! grep -q 'come and go' "$tmp/err" || fail 'streamed without need'
within 304087040 text >"$tmp/out" 2>"$tmp/err" || fail 'generating in 290 MiB'
grep -q 'the weights take 0.19 GiB, the device has 0.25 GiB: its experts come and go' "$tmp/err" || fail 'no word of it'
cmp -s "$tmp/wanted" "$tmp/out" || fail 'another text'
