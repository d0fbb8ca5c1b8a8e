#!/bin/sh
# SPDX-License-Identifier: MIT
# Sources by weight, filters and duplicates, as train has them: killed and resumed a mix goes on with the same
# losses; what went is said; what cannot be is one line.
#     corpus.sh VKMOE CASE
. tests/e2e/lib.sh
case=$2
b=$tmp/b.md

# mixed FOLDER OPTION...: two sources and their filters
mixed()
{
    mixed_out=$1
    shift
    on ref train "$config" --data "1.5*$text" "0.5*$b" --quiet --out "$mixed_out" "$@"
}

mix()
{
    seq 1 400 >"$b"
    must mixed "$tmp/whole" --steps 60 --min-bytes 100 --dedup near
    grep -q 'windows an epoch: 75 of .*text.txt.s 50, 38 of .*b.md.s 75' "$tmp/err" || fail 'the mix is not told'
    grep -q '"min_bytes": 100' "$tmp/whole/config.json" || fail 'config.json does not have the filter'
    grep -q '"dedup": "near"' "$tmp/whole/config.json" || fail 'config.json does not have the duplicates'
    # killed in the first epoch (of 57 steps), then on
    must mixed "$tmp/parts" --steps 20 --min-bytes 100 --dedup near
    "$vkmoe" train "$config" --untuned --data "1.5*$text" "0.5*$b" --quiet --out "$tmp/parts" --device ref --resume \
        --steps 60 --set save_every=1 --min-bytes 100 --dedup near >"$tmp/out" 2>"$tmp/err" &
    child=$!
    children="$children $child"
    wait_for 30 test -d "$tmp/parts/checkpoint-00000030"
    kill -s KILL $child
    wait $child 2>/dev/null || :
    must mixed "$tmp/parts" --steps 60 --resume --min-bytes 100 --dedup near
    steady "$tmp/whole/metrics.jsonl" >"$tmp/metrics.a"
    steady "$tmp/parts/metrics.jsonl" >"$tmp/metrics.b"
    same "$tmp/metrics.a" "$tmp/metrics.b"
    same "$tmp/whole/model.safetensors" "$tmp/parts/model.safetensors"
    # another mix is other data
    refuse_on=ref
    refused 1 'trained on other data' -- train "$config" --data "2*$text" "0.5*$b" --quiet --out "$tmp/parts" --resume \
        --steps 70 --min-bytes 100 --dedup near
}

dropped()
{
    mkdir "$tmp/texts"
    cp "$text" "$tmp/texts/a.txt"
    tr '\n' ' ' <"$text" >"$tmp/texts/b.txt"
    sed 's/without/with/' "$text" >"$tmp/texts/c.txt"
    tail -c 900 LICENSE | head -c 800 >"$tmp/texts/d.txt"
    echo short >"$tmp/texts/e.txt"
    must on ref train "$config" --data "$tmp/texts" --quiet --out "$tmp/run" --steps 2 --min-bytes 10 --dedup near
    grep -q 'dropped 3 of 5 documents: 1 under min_bytes 10, 1 the same as another, 1 near another (0.8)' "$tmp/err" ||
        fail 'what was dropped is not said'
    must on ref inspect "$tmp/run" --data "$tmp/texts" --out "$tmp/report" --max-tokens 64
}

refusals()
{
    refuse_on=ref
    t="train $config --quiet --steps 2 --out $tmp/run"
    for weight in 0 -1 nan inf 1e9; do
        refused 1 "$weight*$text" 'wanted a number above 0' -- $t --data "$weight*$text"
    done
    refused 1 'a weight of 0.001 gives none of its' 'wanted more text or a weight' -- $t --data "0.001*$text" "$text"
    cp "$text" "$tmp/same.txt"
    refused 1 'same.txt: a weight of 1, but nothing of it is left to train on' -- $t --data "$text" "1*$tmp/same.txt" \
        --dedup exact
    refused 1 'no path behind the weight' -- $t --data '3*'
    refused 1 'the filters leave none of 1 documents: 1 under min_unique_words 5000' -- $t --data "$text" \
        --min-unique-words 5000
    refused 1 'max_bytes: found 8' 'at least min_bytes, 9' -- $t --data "$text" --min-bytes 9 --max-bytes 8
    refused 1 'min_letters: found 2' 'a number from 0 to 1' -- $t --data "$text" --min-letters 2
    refused 1 'dedup: found "fuzzy"' '"none" or "exact" or "near"' -- $t --data "$text" --dedup fuzzy
    refused 1 'min_bytes: found "few"' -- $t --data "$text" --min-bytes few
    [ ! -e "$tmp/run" ] || fail 'a refused run left a folder'
    [ $refusals = 13 ] || fail "$refusals refusals"
}

$case
