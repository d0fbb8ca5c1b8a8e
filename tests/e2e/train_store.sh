#!/bin/sh
# SPDX-License-Identifier: MIT
# Training whose experts come and go between the device and a store in the run folder: losses, weights, moments,
# trace and text are those of the run whose experts stay, to the byte, for any number of slots and any policy, over
# a resume, from a packed or a new folder; eval, generate and logits read the store.
#     train_store.sh VKMOE CASE
. tests/e2e/lib.sh
refuse_on=ref
case=$2
# 32 experts of two layers, of which a step of four tokens takes at most 16
size='--set num_hidden_layers=3 --set num_experts=16 --set seq_len=4 --set batch_size=1'
all=32 some='16 5 1'
policies='lru lfu lfru least-stale'

# run DEVICE FOLDER STEPS OPTION...
run()
{
    run_device=$1 run_out=$2 run_steps=$3
    shift 3
    train "$run_device" "$run_out" --steps "$run_steps" $size "$@" || fail "train $run_out $*"
}

# like RESIDENT STORED: the same run, once its experts are out of the store
like()
{
    [ -e "$2/experts/segment-00000001.bin" ] || fail "$2: no store"
    ! grep -aqF experts "$2/model.safetensors" || fail "$2: experts beside the store"
    rm -rf "$tmp/unpacked"
    must on own unpack "$2" --out "$tmp/unpacked"
    same_run "$1" "$tmp/unpacked"
}

bytes_of() { cat "$1"/experts/segment-*.bin | wc -c; }

# Any number of slots, any policy.
bytes() # DEVICE OPTION...
{
    bytes_device=$1
    shift
    rm -rf "$tmp/whole"
    run "$bytes_device" "$tmp/whole" 10 "$@"
    for slots in $all $some; do
        rm -rf "$tmp/stored"
        for prefetch in off on; do
            rm -rf "$tmp/stored"
            run "$bytes_device" "$tmp/stored" 10 --expert-slots "$slots" --prefetch $prefetch "$@"
            like "$tmp/whole" "$tmp/stored"
        done
    done
}

policy()
{
    rm -rf "$tmp/whole"
    run ref "$tmp/whole" 10
    for policy in $policies; do
        rm -rf "$tmp/stored"
        run ref "$tmp/stored" 10 --expert-slots 16 --cache-policy "$policy" --prefetch on
        like "$tmp/whole" "$tmp/stored"
    done
    run ref "$tmp/budget" 10 --device-budget 1G
    like "$tmp/whole" "$tmp/budget"
}

# 5 + 5 = 10, streamed again without being told; several checkpoints, each of them whole; an evaluation between
resume()
{
    kept='--set save_every=2 --set save_total_limit=3 --set eval_every=3'
    run ref "$tmp/whole" 10 $kept
    run ref "$tmp/stored" 5 --expert-slots 16 $kept
    ! command -v python3 >"$tmp/err" || python3 - "$tmp/stored/metrics.jsonl" <<'END' || fail metrics.jsonl
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
rows = [r for r in rows if "loss" in r]
x = [r["experts"] for r in rows]
assert len(x) == 5 and all(e["slots"] == 16 for e in x), x
assert x[0]["misses"] > 0 and x[0]["hits"] + x[0]["misses"] <= 3 * 16, x[0]
assert all(e["hit_rate"] == round(e["hits"] / (e["hits"] + e["misses"]), 4) for e in x), x
assert sum(e["misses"] for e in x) * 3 * 12 * 16 * 12 <= sum(e["read_bytes"] for e in x), x
assert all(e["wait_ms"] >= 0 for e in x) and sum(e["load_ms"] for e in x) > 0, x
assert all(abs(e["load_gbps"] * e["load_ms"] / (e["read_bytes"] * 1e-6) - 1) < 0.01 for e in x), x
assert all(e["copy_peak_gbps"] > 0 for e in x), x
assert x[2]["written_bytes"] > 0, x # the checkpoint of step 2
speed = sorted(r["tokens_per_s"] for r in rows)
assert speed[-1] < 50 * speed[2], speed # each step has its own time, the last one too
assert all(r["host_peak_bytes"] >= r["host_bytes"] > 0 for r in rows)
assert all(r["device_peak_bytes"] > 0 for r in rows)
END
    run ref "$tmp/stored" 10 --resume $kept
    grep -q '^resumed at step 5 ' "$tmp/err" || fail 'it does not say from where it goes on'
    [ "$(ls -d "$tmp/stored"/checkpoint-* | wc -l)" = 3 ] || fail "checkpoints: $(ls "$tmp/stored")"
    for step in 6 8; do # an older one: as the newest of a copy
        rm -rf "$tmp/older"
        cp -r "$tmp/stored" "$tmp/older"
        rm -r "$tmp/older"/checkpoint-00000010 "$tmp/older/model.safetensors"
        [ $step = 8 ] || rm -r "$tmp/older"/checkpoint-00000008
        must on own unpack "$tmp/older" --out "$tmp/step-$step"
        for file in model optimizer; do
            same "$tmp/step-$step/checkpoint-0000000$step/$file.safetensors" \
                "$tmp/whole/checkpoint-0000000$step/$file.safetensors"
        done
    done
    # checkpoints that are not kept any more give their places back, bit by bit
    cp -r "$tmp/stored" "$tmp/fewer"
    run ref "$tmp/fewer" 16 --resume --set save_every=1 --set save_total_limit=1
    [ "$(bytes_of "$tmp/fewer")" -lt "$(bytes_of "$tmp/stored")" ] ||
        fail "a store of $(bytes_of "$tmp/stored") bytes is one of $(bytes_of "$tmp/fewer") once one checkpoint is kept of three"
    run ref "$tmp/older" 10 --resume --expert-slots 20 $kept # the store has what came later, too: reclaimed
    rm -r "$tmp/whole"/checkpoint-0000000?
    must on own unpack "$tmp/older" --out "$tmp/again"
    same_run "$tmp/whole" "$tmp/again"
    like "$tmp/whole" "$tmp/stored"
}

# Ctrl-C: 130, a checkpoint, and on from there.
interrupt()
{
    many='--set trace_mib=100000'
    "$vkmoe" train "$config" --data "$text" --quiet --untuned --device ref --out "$tmp/stored" $size $many \
        --steps 1000000 --expert-slots 5 >"$tmp/back.out" 2>"$tmp/back.err" &
    children=$!
    wait_for 60 grep -qs '"step": 12,' "$tmp/stored/metrics.jsonl"
    kill -s INT "$children"
    status=0
    wait "$children" || status=$?
    [ $status = 130 ] || fail "exit status $status, wanted 130: $(cat "$tmp/back.err")"
    step=$(sed -n 's/^interrupted at step \([0-9]*\); .*/\1/p' "$tmp/back.out")
    [ "${step:-0}" -ge 12 ] || fail "interrupted at ${step:-no step}: $(cat "$tmp/back.out")"
    run ref "$tmp/stored" $((step + 3)) --resume $many
    grep -q "^resumed at step $step " "$tmp/err" || fail "the resume does not start at step $step"
    run ref "$tmp/whole" $((step + 3)) $many
    like "$tmp/whole" "$tmp/stored"
}

# What vkmoe init and vkmoe pack make is gone on with as it is.
folders()
{
    run ref "$tmp/whole" 10
    must on own init "$config" --out "$tmp/new" $size
    run ref "$tmp/new" 10 --resume --expert-slots 16
    like "$tmp/whole" "$tmp/new"
    run ref "$tmp/half" 5
    must on own pack "$tmp/half" --out "$tmp/packed"
    run ref "$tmp/packed" 10 --resume --expert-slots 16
    like "$tmp/whole" "$tmp/packed"
    must on own unpack "$tmp/packed" --out "$tmp/back" # and on without a store
    run ref "$tmp/whole" 12 --resume
    run ref "$tmp/back" 12 --resume
    same_run "$tmp/whole" "$tmp/back"
    # weights without a state: moments begin at zero
    must on own pack "$tmp/half/model.safetensors" --out "$tmp/tuned" || fail 'pack of a file'
    run ref "$tmp/tuned" 3 --resume
    must on own unpack "$tmp/tuned" --out "$tmp/tuned.safetensors"
    ! cmp -s "$tmp/tuned.safetensors" "$tmp/half/model.safetensors" || fail 'three steps changed nothing'
}

# Logits, loss and text from the store are those of the files.
readers() # DEVICE
{
    ids=$(seq -s, 1 60)
    run "$1" "$tmp/stored" 6 --expert-slots 16
    must on own unpack "$tmp/stored" --out "$tmp/files"
    must on own init "$config" --out "$tmp/new" $size
    for from in files stored; do
        must on "$1" logits "$tmp/$from" --ids "$ids" --out "$tmp/$from.npy"
        must on "$1" eval "$tmp/$from" --data "$text" --json
        cp "$tmp/out" "$tmp/$from.json"
        must on "$1" generate "$tmp/$from" --prompt 'the Software' --max-tokens 12 --temperature 0
        cp "$tmp/out" "$tmp/$from.txt"
    done
    grep -q 'experts: 32 of 32 have a slot' "$tmp/err" || fail 'there is room for all'
    for kind in npy json txt; do same "$tmp/files.$kind" "$tmp/stored.$kind"; done
    for slots in 1 5 16; do
        for policy in $policies; do
            must on "$1" logits "$tmp/stored" --ids "$ids" --out "$tmp/some.npy" --expert-slots $slots \
                --cache-policy $policy
            same "$tmp/files.npy" "$tmp/some.npy"
            [ "$1" = ref ] || break
        done
    done
    must on "$1" logits "$tmp/new" --ids 1,2,3 --out "$tmp/new.npy" # never trained
    must on own unpack "$tmp/new" --out "$tmp/new-files"
    must on "$1" logits "$tmp/new-files" --ids 1,2,3 --out "$tmp/some.npy"
    same "$tmp/new.npy" "$tmp/some.npy"
}

# refused_train TEXT... -- OPTION...: and no store is left
refused_train()
{
    : >"$tmp/wanted"
    texts=
    while [ "$1" != -- ]; do
        texts="$texts '$1'"
        shift
    done
    shift
    eval "refused 1 $texts -- train \"\$config\" --data \"\$text\" --quiet --out \"\$tmp/none\" $size \"\$@\""
    [ ! -e "$tmp/none/experts" ] || fail "a store is left: $*"
}

refusals()
{
    run ref "$tmp/files" 3
    run ref "$tmp/stored" 3 --expert-slots 16
    refused 1 'vkmoe pack' "$tmp/files" model.safetensors -- train "$config" --data "$text" --quiet \
        --out "$tmp/files" $size --resume --steps 6 --expert-slots 16
    refused 1 "$tmp/stored" 'step 3' --resume -- train "$config" --data "$text" --quiet --out "$tmp/stored" $size
    refused 1 experts.json 'another config' '[13][16]' -- train "$config" --data "$text" --quiet --out "$tmp/stored" \
        $size --resume --steps 6 --set moe_intermediate_size=13
    head -c 900 "$text" >"$tmp/other.txt"
    refused 1 state.json 'other data' -- train "$config" --data "$tmp/other.txt" --quiet --out "$tmp/stored" $size \
        --resume --steps 6
    refused 2 --cache-policy 'found "mru"' 'lru, lfu, lfru or least-stale' -- train "$config" --cache-policy mru
    for budget in 0 -1 5Q; do
        refused 2 --device-budget "found \"$budget\"" -- train "$config" --device-budget $budget
    done
    refused 2 --expert-slots -- train "$config" --expert-slots 0
    refused_train 'no experts' -- --expert-slots 4 --set num_experts=0 --set num_experts_per_tok=0 --set mlp_only_layers=[]
    refused_train 'ema_decay' -- --expert-slots 4 --set ema_decay=0.9
    refused_train 'dense-exact' -- --expert-slots 4 --set expert_optimizer=dense-exact
    refused_train 'a device budget of' 'raise --device-budget' -- --device-budget 20K
    must train ref "$tmp/none" $size --steps 2 # what was refused is in nobody's way
    # its first checkpoint is there when its end fails, so its store stays; what is not ours stays anyway
    mkdir -p "$tmp/late/model.safetensors" "$tmp/late/experts"
    echo mine >"$tmp/late/experts/notes.txt"
    refused 1 model.safetensors rename -- train "$config" --data "$text" --quiet --out "$tmp/late" $size --steps 3 \
        --expert-slots 16
    rm -r "$tmp/late/model.safetensors"
    run ref "$tmp/late" 6 --resume
    [ -e "$tmp/late/experts/notes.txt" ] || fail 'what was no store is gone'
    # the refused did no harm
    run ref "$tmp/stored" 6 --resume
    run ref "$tmp/files" 6 --resume
    like "$tmp/files" "$tmp/stored"
    like "$tmp/files" "$tmp/late"
    # flipped bits, in each record: the first that is asked for is named
    cp -r "$tmp/stored" "$tmp/damaged"
    bytes=$(sed -n 's/.*"record_bytes": \([0-9]*\).*/\1/p' "$tmp"/damaged/checkpoint-*/experts.json)
    segment=$tmp/damaged/experts/segment-00000001.bin
    for at in $(seq 100 "$bytes" "$(wc -c <"$segment")"); do
        printf xyz | dd of="$segment" bs=1 seek="$at" conv=notrunc 2>"$tmp/err"
    done
    refused 1 segment-00000001.bin 'layer ' ', expert ' damaged -- logits "$tmp/damaged" --ids 1,2 --out "$tmp/none.npy"
    refused 1 segment-00000001.bin 'layer ' ', expert ' damaged -- train "$config" --data "$text" --quiet \
        --out "$tmp/damaged" $size --resume --steps 9
}

# They were, by what the run said and by its metrics.
budgets_kept()
{
    grep -q "^host memory: .* of a budget of ${host%M}.0 MiB" "$tmp/err" || fail 'what came of it'
    ! grep -q '^warn' "$tmp/err" || fail 'the budget was not kept'
    # memory comes in blocks, the smallest of 64 KiB, and one slot is tried first with all else on the device
    bytes=$(sed -n 's/.*"device_peak_bytes": \([0-9]*\), "host_peak_bytes": \([0-9]*\).*/\1 \2/p' "$tmp/none/metrics.jsonl" |
        tail -n 1)
    awk -v device="${device%K}" -v host="${host%M}" -v peaks="$bytes" 'BEGIN { split(peaks, peak)
        exit !(peak[1] <= (device + 128) * 1024 && peak[2] <= device * 1024 + host * 1048576) }' ||
        fail "peaks $bytes, budgets $device $host"
}

# Budgets of both memories: refused before the start by a line that says what would do; what it says does, and is
# kept, as metrics.jsonl shows. A device that has no memory of its own: the process stays under both together.
budgets() # DEVICE
{
    refuse_on=$1
    set -- train "$config" --data "$text" --quiet --out "$tmp/none" $size --steps 6
    refused 1 'a device budget of 0.0 MiB' 'raise --device-budget' -- "$@" --device-budget 10K
    if [ $refuse_on = ref ]; then
        device=170K
    else
        refused 1 'a device budget of 0.2 MiB: at least' 'raise --device-budget' -- "$@" --device-budget 170K
        device=$(sed -n 's/.*: at least \([0-9.]*\) MiB.*/\1/p' "$tmp/err" | awk '{ print int(($1 + 0.1) * 1024) "K" }')
    fi
    refused 1 'a host budget of 1.0 MiB' 'raise --host-budget' -- "$@" --device-budget "$device" --host-budget 1M
    host=$(sed -n 's/.*: at least \([0-9.]*\) MiB.*/\1/p' "$tmp/err" | awk '{ print int($1 + 4) "M" }')
    [ ! -e "$tmp/none/experts" ] || fail 'a store is left'
    must on $refuse_on "$@" --device-budget "$device" --host-budget "$host"
    [ -n "${ASAN_OPTIONS-}" ] || budgets_kept # a sanitizer's memory is in no account
    run $refuse_on "$tmp/whole" 6
    like "$tmp/whole" "$tmp/none"
}

case $case in
budgets_ref) budgets ref ;;
budgets_default) budgets default ;;
ref) bytes ref && bytes ref --set torch_dtype=bfloat16 && policy ;;
default) some='16 3' && bytes default ;;
default_bf16) some=5 && bytes default --set torch_dtype=bfloat16 ;;
cheap) # matrices of 12,288 elements: in codes
    size="$size --set torch_dtype=bfloat16 --set master_weights=false --set optim=adamw_8bit --set hidden_size=64"
    bytes ref
    rm -rf "$tmp/whole"
    folders
    some=5
    bytes default
    refused_train 'adamw and adamw_8bit' -- --expert-slots 4 --set master_weights=true --set optim=sgd ;;
resume) resume ;;
interrupt) interrupt ;;
folders) folders ;;
readers_ref) readers ref ;;
readers_default) readers default ;;
refusals) refusals ;;
*) fail "no case $case" ;;
esac
