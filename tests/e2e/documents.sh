#!/bin/sh
# SPDX-License-Identifier: MIT
# document_boundaries in the program: each step of its plan against the references, in all storage types; resumed
# byte for byte; with streamed experts the same numbers; evaluated, generated from; and it makes a difference.
#     documents.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2
apart='--set document_boundaries=true'

# short texts, several in a sequence of 16 tokens
awk 'length($0) > 3 { gsub(/["\\]/, ""); printf "{\"text\": \"%s\"}\n", substr($0, 1, 3 + NR % 11) }' LICENSE >"$tmp/text.jsonl"
text=$tmp/text.jsonl

# loss FOLDER: of the last step
loss() { sed -nE 's/.*"step": 4, "loss": ([0-9.]+).*/\1/p' "$1/metrics.jsonl"; }

case $case in
checked)
    for type in float32 bfloat16 float16; do
        must train default "$tmp/$type" --steps 2 --check $apart --set smear_gate=true --set torch_dtype=$type
        grep -q 'steps of the plan agree with their references' "$tmp/err" || fail "$type: nothing was compared"
        must on ref info "$tmp/$type" --plan
        grep -q 'attention_back_kv_within' "$tmp/out" || fail "$type: attention does not stay within documents"
        grep -q 'smear_within' "$tmp/out" || fail "$type: smear_gate does not"
    done ;;
runs)
    must train ref "$tmp/whole" --steps 4 $apart
    must train ref "$tmp/parts" --steps 2 $apart
    must train ref "$tmp/parts" --steps 4 --resume $apart
    same_run "$tmp/whole" "$tmp/parts"
    must train ref "$tmp/off" --steps 4
    [ "$(loss "$tmp/whole")" != "$(loss "$tmp/off")" ] || fail 'the key changes nothing'
    must train ref "$tmp/streamed" --steps 4 $apart --expert-slots 3
    [ "$(loss "$tmp/whole")" = "$(loss "$tmp/streamed")" ] ||
        fail "loss $(loss "$tmp/whole"), streamed $(loss "$tmp/streamed")"
    for stride in 16 4; do
        must on ref eval "$tmp/whole" --data "$text" --json --stride $stride
        mv "$tmp/out" "$tmp/eval.$stride"
    done
    ! cmp -s "$tmp/eval.16" "$tmp/eval.4" || fail '--stride changes nothing'
    must on ref generate "$tmp/whole" --prompt 'The ' --max-tokens 8 --temperature 0
    mv "$tmp/out" "$tmp/with"
    cp -r "$tmp/whole" "$tmp/plain"
    sed -i 's/"document_boundaries": *true/"document_boundaries": false/' "$tmp/plain/config.json"
    ! cmp -s "$tmp/whole/config.json" "$tmp/plain/config.json" || fail 'config.json does not say it'
    must on ref generate "$tmp/plain" --prompt 'The ' --max-tokens 8 --temperature 0
    same "$tmp/out" "$tmp/with" # one document: nothing to keep apart
    must on ref eval "$tmp/plain" --data "$text" --json
    ! cmp -s "$tmp/out" "$tmp/eval.16" || fail 'evaluation does not keep documents apart' ;;
*) fail "no case $case" ;;
esac
