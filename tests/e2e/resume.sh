#!/bin/sh
# SPDX-License-Identifier: MIT
# 10 steps and a resume to 20 equal 20 steps byte for byte: weights, moments, place in the data, metrics
# and the text that the model writes; and the same command twice gives the same bytes.
#     resume.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2

# round DEVICE OPTION...: once through, twice the same, and in two parts
round()
{
    device=$1
    shift
    must train "$device" "$tmp/whole" --steps 20 "$@"
    if [ $case != default_bf16 ]; then # opening a device takes seconds
        must train "$device" "$tmp/again" --steps 20 "$@"
        same_run "$tmp/whole" "$tmp/again"
    fi
    must train "$device" "$tmp/parts" --steps 10 "$@"
    ! cmp -s "$tmp/whole/model.safetensors" "$tmp/parts/model.safetensors" || fail 'steps 11 to 20 changed nothing'
    must train "$device" "$tmp/parts" --steps 20 --resume "$@"
    grep -q '^resumed at step 10 ' "$tmp/err" || fail 'it does not say from where it goes on'
    same_run "$tmp/whole" "$tmp/parts"
    grep -c '"loss"' "$tmp/parts/metrics.jsonl" | grep -qx 20 || fail 'metrics.jsonl has not each of the 20 steps once'
    for run in whole parts; do
        must on ref generate "$tmp/$run" --prompt 'The ' --max-tokens 40 --temperature 0.8 --seed 5
        mv "$tmp/out" "$tmp/$run.text"
    done
    [ -s "$tmp/whole.text" ] || fail 'no text was generated'
    same "$tmp/whole.text" "$tmp/parts.text"
    rm -rf "$tmp/whole" "$tmp/again" "$tmp/parts"
}

# A resume that changes nothing: the folder is whole already.
finished()
{
    must train ref "$tmp/a" --steps 10
    must train ref "$tmp/b" --steps 10
    must train ref "$tmp/b" --steps 10 --resume
    same "$tmp/a/model.safetensors" "$tmp/b/model.safetensors"
    must train ref "$tmp/c" --steps 10 --resume
    grep -q 'nothing to resume' "$tmp/err" || fail 'a resume of nothing must say so'
    same_run "$tmp/a" "$tmp/c"
    ! cmp -s "$tmp/a/model.safetensors" "$(checkpoint "$tmp/a")/optimizer.safetensors" || fail 'no moments'
    must train ref "$tmp/d" --steps 10 --seed 8
    ! cmp -s "$tmp/a/model.safetensors" "$tmp/d/model.safetensors" || fail 'the seed changes nothing'
}

case $case in
ref)
    round ref
    round ref --set gradient_accumulation_steps=3 --set eval_every=5 --set eval_batches=0
    round ref --set torch_dtype=bfloat16 --set gradient_accumulation_steps=2
    round ref --set torch_dtype=float16 --set save_every=3
    # 50 windows an epoch, 60 in the first ten steps: the resume begins in the second epoch, whose order is another
    round ref --set batch_size=6 --set save_every=1
    round ref --set tie_word_embeddings=false --set lr_scheduler_type=constant_with_decay --set warmup_steps=15
    finished ;;
default) round default --set gradient_accumulation_steps=3 ;;
default_bf16) round default --set torch_dtype=bfloat16 --set save_every=7 ;;
*) fail "no case $case" ;;
esac
