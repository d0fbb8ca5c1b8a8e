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
    if [ $case = ref ] || [ $case = routers_ref ] || [ $case = default ]; then # opening a device takes seconds
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

# The mean of the weights: kept over a resume (same_run), begun where it was asked for, and taken by --weights.
# Snapshots of three steps are their mean; of one step it is the weights.
averages()
{
    round ref --set ema_decay=0.9 --set torch_dtype=bfloat16
    round ref --set swa_every=3 --set average_start=0.7
    train ref "$tmp/av" --steps 12 --set swa_every=4 --set save_total_limit=0 --set save_every=4
    same "$tmp/av/checkpoint-00000004/model.safetensors" "$tmp/av/checkpoint-00000004/average.safetensors"
    must on ref eval "$tmp/av" --data "$text" --json
    mv "$tmp/out" "$tmp/model.json"
    must on ref eval "$tmp/av" --data "$text" --json --weights average
    ! cmp -s "$tmp/out" "$tmp/model.json" || fail '--weights average changes nothing'
    mkdir "$tmp/mean"
    cp "$tmp/av/config.json" "$tmp/av/tokenizer.json" "$tmp/mean"
    cp "$tmp/av/checkpoint-00000012/average.safetensors" "$tmp/mean/model.safetensors"
    mv "$tmp/out" "$tmp/average.json"
    must on ref eval "$tmp/mean" --data "$text" --json
    same "$tmp/out" "$tmp/average.json"
    must on ref generate "$tmp/av" --prompt 'The ' --max-tokens 5 --weights average
    must on ref logits "$tmp/av" --ids 1,2,3 --out "$tmp/a.npy" --weights average
    must on ref logits "$tmp/mean" --ids 1,2,3 --out "$tmp/mean.npy"
    same "$tmp/a.npy" "$tmp/mean.npy"
    if on own export "$tmp/av" --out "$tmp/av.vkx" --bits '*=f32' --weights average; then
        must on ref logits "$tmp/av.vkx" --ids 1,2,3 --out "$tmp/export.npy"
        same "$tmp/export.npy" "$tmp/mean.npy"
    else
        grep -q 'libzstd-dev' "$tmp/err" || fail 'export of the mean'
    fi
    grep -q '"average_bpb"' "$tmp/av/metrics.jsonl" || fail 'no evaluation of the mean'
    train ref "$tmp/none" --steps 2
    ! on ref eval "$tmp/none" --data "$text" --weights average || fail 'there is no mean'
    grep -q 'average.safetensors: there is none.*ema_decay' "$tmp/err" || fail 'it must say how to get one'
    ! on ref eval "$tmp/none" --data "$text" --weights ema || fail 'no such weights'
    grep -q -- '--weights: found "ema", wanted model or average' "$tmp/err" || fail 'it must say which there are'
}

# By the clock, in two parts: the second goes on with the first's seconds, the rate falls to nothing at the end.
# How much time there is follows from what eight steps take here.
clock()
{
    clock="--set lr_scheduler_type=constant --set warmup_steps=0"
    train ref "$tmp/probe" --steps 8 --set max_train_seconds=10000 --set warmdown_seconds=2 $clock
    eight=$(sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p' "$tmp/probe/checkpoint-00000008/state.json")
    most=$(awk -v e="$eight" 'BEGIN { print int(3 + 5 * e) }')
    clock="$clock --set max_train_seconds=$most --set warmdown_seconds=$((most - 1))"
    train ref "$tmp/clock" --steps 8 $clock --set ema_decay=0.9
    spent=$(sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p' "$tmp/clock/checkpoint-00000008/state.json")
    train ref "$tmp/clock" --steps 1000000 --resume $clock --set ema_decay=0.9
    all=$(sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p' "$(checkpoint "$tmp/clock")/state.json")
    awk -v a="$spent" -v b="$all" -v m="$most" 'BEGIN { exit !(a > 0 && a < b && b >= m && b < 2 * m) }' ||
        fail "seconds: $spent after the first part, $all in all, of $most"
    rate=$(sed -n 's/.*"loss".*"lr": \([^,]*\),.*/\1/p' "$tmp/clock/metrics.jsonl" | tail -n 1)
    awk -v r="$rate" 'BEGIN { exit !(r >= 0 && r < 0.002) }' || fail "the last rate is $rate"
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

# What else a checkpoint has to keep: the balancing bias of sigmoid_bias, the steps of experts, moments of three
# optimizers, learned temperatures; and what must follow from the step alone: noise, jitter, dropped pairs.
routers_of_each_layer='{"1": {"router_type": "noisy_topk", "router_jitter_noise": 0.1},
    "2": {"router_type": "sigmoid_bias", "router_bias_update_speed": 0.05, "router_z_loss_coef": 0},
    "3": {"router_type": "top_p", "router_top_p": 0.6, "router_learn_temperature": true, "router_body": "cosine"}}'
losses='--set router_entropy_coef=0.01 --set router_mean_entropy_coef=-0.002 --set router_variance_coef=0.1
    --set router_importance_coef=0.01 --set router_z_square_coef=0.001 --set router_aux_loss_hf_coef=0.01
    --set router_loss_layers=all'

routers()
{
    config=$here/mixed.json
    round "$1" --set num_hidden_layers=4 --set layers="$routers_of_each_layer" $losses --set capacity_factor=1.2 \
        --set gradient_accumulation_steps=2 --set router_aux_loss_global=true --set expert_optimizer=lazy-global
}

stack()
{
    config=$here/stack.json
    round "$1" --set num_hidden_layers=4 --set mlp_only_layers=[0] --set expert_optimizer=dense-exact --set optim=muon \
        --set layers='{"1": {"router_type": "threshold", "router_threshold": 0.2}, "3": {"router_type": "dense"}}' \
        --set param_groups='[{"match": "*embed*", "optim": "sgd", "learning_rate": 0.1}]' --set shared_expert_intermediate_size=8
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
    # moments in codes: matrices of 4,096 elements
    round ref --set optim=adamw_8bit --set hidden_size=64 --set moe_intermediate_size=33 --set batch_size=1
    # weights in bf16 alone; matrices of 4,096 elements are in codes, the others not
    round ref --set torch_dtype=bfloat16 --set master_weights=false --set optim=adamw_8bit --set hidden_size=64 \
        --set moe_intermediate_size=33 --set batch_size=1
    averages
    clock
    finished ;;
routers_ref) routers ref && stack ref ;;
routers_default) routers default ;;
default)
    round default --set gradient_accumulation_steps=3
    round default --set optim=adamw_8bit --set hidden_size=64 --set ema_decay=0.99 ;;
default_stochastic) round default --set torch_dtype=bfloat16 --set master_weights=false --set save_every=7 ;;
default_bf16) round default --set torch_dtype=bfloat16 --set save_every=7 ;;
*) fail "no case $case" ;;
esac
