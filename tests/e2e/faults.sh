#!/bin/sh
# SPDX-License-Identifier: MIT
# Out of device memory and a lost device, in the whole program: one line that says what to do, exit 1, and the
# last checkpoint is there and goes on. fault_layer.c plays the driver.
#     faults.sh VKMOE LAYER_FOLDER
. tests/e2e/lib.sh
export VK_LAYER_PATH="$2" VK_INSTANCE_LAYERS=VK_LAYER_vkmoe_fault

fault() # FAULT COMMAND...
{
    status=0
    VKMOE_FAULT=$1
    export VKMOE_FAULT
    shift
    "$@" || status=$?
    unset VKMOE_FAULT
}

# Nothing fails: the layer is there and counts, else all below proves nothing.
run=$tmp/run
must train ref "$run" --steps 4
fault none on default logits "$run" --ids 1,2,3 --out "$tmp/logits.npy"
[ $status = 0 ] || fail "the layer alone makes the program fail: $status"
if ! grep -q '^fault: submit [1-9]' "$tmp/err"; then
    grep -qE '^device [0-9]' "$tmp/err" || { echo 'skipped: no Vulkan device is in use'; exit 77; }
    fail 'the layer was not loaded'
fi

# lost in the step behind the first checkpoint, at the submit and at the wait
for call in submit wait; do
    lost=$tmp/lost-$call
    fault $call:"$lost/checkpoint-00000002" train default "$lost" --steps 4 --set save_every=2
    one_line 1 'device was lost' 'checkpoint'
    [ "$(ls -d "$lost"/checkpoint*)" = "$lost/checkpoint-00000002" ] || fail "no checkpoint, or more: $(ls "$lost")"
    must train ref "$lost" --steps 4 --resume --set save_every=2
    grep -q '^resumed at step 2 ' "$tmp/err" || fail 'it does not go on behind the checkpoint'
done

# a resume that finds no memory leaves the run as it was
cp -r "$run" "$tmp/before"
fault allocate:1 train default "$run" --steps 6 --resume
one_line 1 'memory' 'use'
same "$run/model.safetensors" "$tmp/before/model.safetensors"
same "$(checkpoint "$run")/optimizer.safetensors" "$(checkpoint "$tmp/before")/optimizer.safetensors"
fault allocate:1 on default generate "$run" --prompt a
one_line 1 memory
fault submit:2 on default generate "$run" --prompt a
one_line 1 'device was lost'

# a batch for which no machine has memory, on both devices
for device in ref default; do
    status=0
    train $device "$tmp/large" --set batch_size=100000 --set seq_len=160 --set hidden_size=4096 || status=$?
    one_line 1 'use a smaller batch'
    [ ! -e "$tmp/large" ] || fail 'a folder was made for it'
done
