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

reached() { [ "$(grep -c '"loss"' "$tmp/parts/metrics.jsonl")" -ge "$1" ]; }

mix()
{
    seq 1 400 >"$b"
    must mixed "$tmp/parts" --steps 20 --min-bytes 100 --dedup near
    grep -q 'windows an epoch: 75 of .*text.txt.s 50, 38 of .*b.md.s 75' "$tmp/err" || fail 'the mix is not told'
    # killed somewhere behind step 40; an epoch has 57
    "$vkmoe" train "$config" --untuned --data "1.5*$text" "0.5*$b" --quiet --out "$tmp/parts" --device ref --resume \
        --steps 1000000 --set save_every=1 --min-bytes 100 --dedup near >"$tmp/out" 2>"$tmp/err" &
    child=$!
    children="$children $child"
    wait_for 60 reached 40
    kill -s KILL $child
    wait $child 2>/dev/null || :
    most=$(($(ls -d "$tmp/parts"/checkpoint-???????? | tail -n 1 | sed 's/.*-0*//') + 40))
    # what the folder has says the rest: its config, its data
    must on ref train "$tmp/parts/config.json" --quiet --out "$tmp/parts" --steps $most --set save_every=0 --resume
    must mixed "$tmp/whole" --steps $most --min-bytes 100 --dedup near
    grep -q '"min_bytes": 100' "$tmp/whole/config.json" || fail 'config.json does not have the filter'
    grep -q '"dedup": "near"' "$tmp/whole/config.json" || fail 'config.json does not have the duplicates'
    steady "$tmp/whole/metrics.jsonl" >"$tmp/metrics.a"
    steady "$tmp/parts/metrics.jsonl" >"$tmp/metrics.b"
    same "$tmp/metrics.a" "$tmp/metrics.b"
    same "$tmp/whole/model.safetensors" "$tmp/parts/model.safetensors"
    grep -q '{"data":\["1.5\*' "$tmp/parts/data.json" || fail 'data.json does not have the weights'
    # another mix is other data
    refuse_on=ref
    refused 1 'trained on other data' -- train "$config" --data "2*$text" "0.5*$b" --quiet --out "$tmp/parts" --resume \
        --steps 1000000 --min-bytes 100 --dedup near
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

# With a tokenizer of its own: a run that keeps tokens, one that finds them, one without them, and one that is killed
# and goes on with damaged ones are the same.
tokens()
{
    seq 1 3000 | sed 's/$/ times a text/' >"$b"
    must on own tokenizer train --data "$text" --vocab 300 --out "$tmp/tok.json"
    set -- --tokenizer "$tmp/tok.json" --set vocab_size=300 --set final_eval_batches=4
    must mixed "$tmp/none" --steps 30 "$@" --set token_cache=off
    [ ! -e "$tmp/cache/vkmoe/tokens" ] || fail 'tokens were kept that nobody wanted'
    must mixed "$tmp/kept" --steps 30 "$@" --set token_cache=on
    grep -q '^tokens: .*, kept in ' "$tmp/err" || fail 'it does not say where the tokens are'
    must mixed "$tmp/found" --steps 15 "$@" --set token_cache=on
    grep -q '^tokens: from ' "$tmp/err" || fail 'they were not found'
    tokens_file=$(echo "$tmp"/cache/vkmoe/tokens/*.tokens)
    head -c 2000 "$tokens_file" >"$tmp/torn"
    mv "$tmp/torn" "$tokens_file"
    must mixed "$tmp/found" --steps 30 --resume "$@" --set token_cache=on
    grep -q "tokens_file: damaged" "$tmp/err" || grep -q 'damaged, or not of these texts: made anew' "$tmp/err" ||
        fail 'a torn file is not told'
    for run in kept found; do
        steady "$tmp/none/metrics.jsonl" >"$tmp/metrics.a"
        steady "$tmp/$run/metrics.jsonl" >"$tmp/metrics.b"
        same "$tmp/metrics.a" "$tmp/metrics.b"
        same "$tmp/none/model.safetensors" "$tmp/$run/model.safetensors"
    done
    refuse_on=ref
    : >"$tmp/file"
    export VKMOE_CACHE="$tmp/file"
    refused 1 "$tmp/file: cannot make the folder" -- train "$config" --data "$text" --quiet --out "$tmp/no" --steps 1 "$@" \
        --set token_cache=on
    unset VKMOE_CACHE
}

peak() { grep -o '"host_peak_bytes": [0-9]*' "$1/metrics.jsonl" | tail -n 1 | sed 's/.* //'; }

# 32 MB of texts, of which 4 MiB may be in memory, as text and as ids: what a run takes at most is near to what it
# takes with a little text (VmHWM, pages of files included), and it learns the same as one that has all in memory.
large()
{
    mkdir "$tmp/many"
    seq 1 1700000 >"$tmp/many/a.txt"
    seq 1700000 -1 1 >"$tmp/many/c.txt"
    seq 4000000 4999999 | paste -s -d '                                                                     \n' |
        sed 's/.*/{"text": "&"}/' >"$tmp/many/b.jsonl"
    [ "$(cat "$tmp/many"/* | wc -c)" -gt 32000000 ] || fail 'too little text'
    head -c 100000 "$tmp/many/a.txt" >"$tmp/few.txt"
    must on own tokenizer train --data "$tmp/few.txt" --vocab 300 --out "$tmp/tok.json"
    few='--steps 10 --set final_eval_batches=2 --set vocab_size=300 --set held_out_fraction=0.001 --quiet'
    must on ref train "$config" --data "$tmp/few.txt" --out "$tmp/few" $few
    must on ref train "$config" --data "$tmp/few.txt" --out "$tmp/few-ids" $few --tokenizer "$tmp/tok.json"
    must on ref train "$config" --data "$tmp/many" --out "$tmp/memory" $few
    must on ref train "$config" --data "$tmp/many" --out "$tmp/files" $few --set data_memory_mib=4
    must on ref train "$config" --data "$tmp/many" --out "$tmp/ids" $few --set data_memory_mib=4 --tokenizer "$tmp/tok.json"
    grep -q '^tokens: .*kept in' "$tmp/err" || fail 'the tokens of much text are kept'
    same "$tmp/memory/model.safetensors" "$tmp/files/model.safetensors"
    [ -z "$(ls -A "$tmp/cache/vkmoe/spill")" ] || fail 'something is left of what lay in files'
    [ -z "${ASAN_OPTIONS-}" ] || return 0 # a sanitizer's memory is in no account
    few=$(peak "$tmp/few") memory=$(peak "$tmp/memory") files=$(peak "$tmp/files")
    few_ids=$(peak "$tmp/few-ids") ids=$(peak "$tmp/ids")
    echo "most bytes in memory: a little text $few, much $memory, much in files $files; ids of these: $few_ids, $ids"
    [ $((memory - few)) -gt 25000000 ] || fail 'what is in memory takes none: this test shows nothing'
    [ $((files - few)) -lt 12000000 ] || fail 'text in files is in memory'
    [ $((ids - few_ids)) -lt 30000000 ] || fail 'ids in files, or what makes them, are in memory'
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
