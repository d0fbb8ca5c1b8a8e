#!/bin/sh
# SPDX-License-Identifier: MIT
# Experts that come and go: whatever the number of slots, logits, evaluation and text are those of the model
# that stays on the device, to the byte; a budget is kept, or refused with what it would take.
#     experts.sh VKMOE
. tests/e2e/lib.sh
run=$tmp/run ids=$(seq -s, 1 60)
train ref "$run" --steps 6 || fail 'training'
for device in ref default; do
    must on $device logits "$run" --ids "$ids" --out "$tmp/all.npy"
    must on $device eval "$run" --data "$text" --json
    cp "$tmp/out" "$tmp/all.json"
    must on $device generate "$run" --prompt 'the Software' --max-tokens 12 --temperature 0
    cp "$tmp/out" "$tmp/all.txt"
    # one, fewer than a token takes, as many, one more, half, all, more than there are
    for slots in 1 2 3 4 8 99; do
        for prefetch in off on; do
            must on $device logits "$run" --ids "$ids" --out "$tmp/some.npy" --expert-slots $slots --prefetch $prefetch
            same "$tmp/all.npy" "$tmp/some.npy"
        done
    done
    must on $device generate "$run" --prompt 'the Software' --max-tokens 12 --temperature 0 --expert-slots 3 --prefetch on
    same "$tmp/all.txt" "$tmp/out"
    must on $device eval "$run" --data "$text" --json --expert-slots 3
    same "$tmp/all.json" "$tmp/out"
    must on $device generate "$run" --prompt 'the Software' --max-tokens 12 --temperature 0 --expert-slots 2
    same "$tmp/all.txt" "$tmp/out"
    grep -q 'experts: 2 of .* have a slot' "$tmp/err" || fail 'nothing said of the experts'
done

# a budget that all fit in, and one that nothing fits in
must on default generate "$run" --prompt 'the Software' --max-tokens 4 --device-budget 1G
grep -q 'experts: \(.*\) of \1 have a slot' "$tmp/err" || fail 'not all experts in a large budget'
if on default generate "$run" --prompt 'the Software' --device-budget 20K; then fail 'a budget of 20 KiB'; fi
grep -q '^error: a device budget of 0.0 MiB: at least .* raise --device-budget$' "$tmp/err" || fail 'the refusal'
[ "$(grep -c '^error' "$tmp/err")" = 1 ] || fail 'more than one line'
if on default generate "$run" --prompt x --expert-slots 2 --prefetch yes; then fail '--prefetch yes'; fi
grep -q 'found "yes", wanted on or off' "$tmp/err" || fail '--prefetch yes'
for wrong in 0 -1 5Q G 1e99; do
    if on default generate "$run" --prompt x --device-budget "$wrong"; then fail "--device-budget $wrong"; fi
    grep -q "found \"$wrong\", wanted bytes above 0, such as 800M or 5G" "$tmp/err" || fail "$wrong"
done
if on default generate "$run" --prompt x --expert-slots 0; then fail '--expert-slots 0'; fi
echo ok
