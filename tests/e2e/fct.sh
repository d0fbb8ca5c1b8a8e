#!/bin/sh
# SPDX-License-Identifier: MIT
# Patterns with a curriculum: 9 steps and a resume to 20 in the middle of a domain, and a run that was killed,
# equal 20 steps byte for byte in every order; what metrics and the trace tell; controls; what is refused.
# The linter of patterns.
#     fct.sh VKMOE CASE FCT_TRACE
. tests/e2e/lib.sh
case=$2
trace=$3

mkdir "$tmp/patterns"
for domain in systems physics lore; do
    for i in 1 2 3 4; do
        printf '{"trigger": "t%s %s", "prior_belief": "p%s", "update": "u%s", "analogy": "a%s", "action_delta": "do %s",
            "ripple": ["r%s"], "pattern": "n%s%s", "domain": "%s"}' $i $domain $i $i$domain $i $i $i $i $domain $domain |
            tr -d '\n'
        echo
    done >"$tmp/patterns/$domain.jsonl"
done
text=fct:$tmp/patterns
fct="--set vocab_size=275 --set seq_len=64 --set batch_size=1 --set held_out_fraction=0.25"

# The domains of the steps, a number each time how often in a row.
turns() { sed -n 's/.*"turn": {"domain": "\([a-z]*\)".*/\1/p' "$1/metrics.jsonl" | uniq -c | tr -s ' \n' ' '; }

count() { grep -c "$2" "$1/metrics.jsonl" || :; }

orders()
{
    for order in fixed random interleaved dopamine; do
        set -- $fct --set curriculum=$order --set curriculum_epochs=2
        must train ref "$tmp/whole" --steps 20 "$@"
        must train ref "$tmp/parts" --steps 9 "$@"
        must train ref "$tmp/parts" --steps 20 --resume "$@"
        grep -q '^resumed at step 9 ' "$tmp/err" || fail 'it does not say from where it goes on'
        same_run "$tmp/whole" "$tmp/parts"
        grep '"domain_loss"' "$tmp/whole/metrics.jsonl" >"$tmp/whole.domains"
        grep '"domain_loss"' "$tmp/parts/metrics.jsonl" | grep -v '"step": 9, .*"\(final\|exchanged\)' >"$tmp/parts.domains"
        same "$tmp/whole.domains" "$tmp/parts.domains"
        turns "$tmp/whole" >"$tmp/$order.turns"
        rm -rf "$tmp/whole" "$tmp/parts"
    done
    # 9 windows of systems and of physics to train on, 6 of lore: two epochs are 18 and 12 steps
    grep -qx ' 18 systems 2 physics ' "$tmp/fixed.turns" || fail "fixed: $(cat "$tmp/fixed.turns")"
    grep -q ' 1 systems 1 physics 1 lore 1 systems 1 physics' "$tmp/interleaved.turns" || fail 'not interleaved'
    grep -qE '^ (18|12) (systems|physics|lore) ' "$tmp/random.turns" || fail 'no visits at random'
    grep -qE '^ (12|18|20) (systems|physics|lore) ' "$tmp/dopamine.turns" || fail 'no visits by reward'
}

# What a run tells of its domains; a loss that is low enough ends a visit; a domain that is held out is never trained.
told()
{
    must train ref "$tmp/run" --steps 20 $fct --set curriculum=fixed --set curriculum_stop_loss=100 \
        --set 'curriculum_domains={"physics":{"hold_out":true}}'
    [ "$(turns "$tmp/run")" = ' 9 systems 6 lore 5 systems ' ] || fail "turns:$(turns "$tmp/run")"
    grep -q '^curriculum: 3 domains (1 held out), fixed order; 3 epochs of each are 45 steps' "$tmp/err" || fail 'what is ahead'
    for want in '"at": "start" 3' '"at": "end" 2' '"at": "held_out" 3' '"at": "final" 3' '"at": "exchanged" 3' \
        '"at": "exchanged_all" 3' '"step": 10, "domain": "lore", "at": "start" 1' '"novelty" 0'; do
        [ "$(count "$tmp/run" "${want% *}")" = "${want##* }" ] || fail "metrics: not $want"
    done
    "$trace" "$tmp/run" || fail 'labels in the trace'
    must train ref "$tmp/drawn" --steps 3 $fct --set curriculum=dopamine --set dopamine_bonus=2 \
        --set 'curriculum_domains={"physics":{"bonus":1}}'
    grep -qE '"reward": [13]\.5, "novelty": 1, "weakness": 0\.5, "improvement": 0, "bonus": [01]}' \
        "$tmp/drawn/metrics.jsonl" || fail 'no terms of the reward'
    must on own fct report "$tmp/run" "$tmp/drawn"
    grep -qE '^\| physics \| - \| - \| [0-9.]+ \| [0-9.]+ \|$' "$tmp/out" || fail 'a domain that is held out'
    grep -qE '^- fixed, patterns: payloads behind .* cost -?[0-9.]+' "$tmp/out" || fail 'what is read from the inputs'
    must on own fct report "$tmp/run" "$tmp/drawn" --json
    grep -q '"order":[[:space:]]*"dopamine"' "$tmp/out" || fail 'the report as JSON'
    must on ref eval "$tmp/run" --data "$text" --json
    grep -q '"bpb": [0-9.]*,' "$tmp/out" || fail 'eval of patterns'
    for control in shuffle shuffle_all tags; do # what is trained on differs, what is held out does not
        must train ref "$tmp/$control" --steps 1 $fct --set fct_control=$control --set learning_rate=0
        must train ref "$tmp/none" --steps 1 $fct --set learning_rate=0
        for run in none $control; do grep -o '"eval_loss".*' "$tmp/$run/metrics.jsonl" >"$tmp/$run.eval"; done
        same "$tmp/none.eval" "$tmp/$control.eval"
        ! cmp -s "$(checkpoint "$tmp/none")/state.json" "$(checkpoint "$tmp/$control")/state.json" || fail "$control is nothing"
        rm -rf "$tmp/none"
    done
}

refusals()
{
    refuse_on=ref
    try="train $config --data $text --out $tmp/no --quiet --steps 1"
    refused 1 'vocab_size: found 274, wanted at least 275' -- $try $fct --set vocab_size=274
    refused 1 'curriculum_domains: "chemistry" is no domain of the data' 'physics' -- $try $fct --set curriculum=fixed \
        --set 'curriculum_domains={"chemistry":{"bonus":1}}'
    refused 1 'curriculum: the data has one domain' 'at least two' -- train $config --data LICENSE --out "$tmp/no" --quiet \
        --set curriculum=random
    refused 1 'curriculum: none of the' -- $try $fct --set curriculum=fixed --set 'curriculum_domains={"physics":
        {"hold_out":true},"lore":{"hold_out":true},"systems":{"hold_out":true}}'
    sed 's/"update"/"upgrade"/' "$tmp/patterns/lore.jsonl" >"$tmp/bad.jsonl"
    refused 1 "$tmp/bad.jsonl:1: upgrade" -- train $config --data "fct:$tmp/bad.jsonl" --out "$tmp/no" --quiet $fct
    must train ref "$tmp/run" --steps 2 $fct --set curriculum=fixed
    refused 1 'state.json: the state of the curriculum is of another order; wanted that of order random' -- \
        $try --out "$tmp/run" $fct --set curriculum=random --resume
    head -c 1000 LICENSE >"$tmp/plain.txt"
    plain=$text text=$tmp/plain.txt
    must train ref "$tmp/plain" --steps 1
    refuse_on=own
    refused 1 'no domain was measured in this run' -- fct report "$tmp/plain"
    refuse_on=ref
    refused 1 'the tokenizer has no special token [OBSERVE]' -- eval "$tmp/plain" --data "$plain"
    echo "$refusals refusals"
}

# What is wrong with patterns, line by line, and the table at the end; the status says whether there was anything.
lint()
{
    must on own fct lint assets/fct
    grep -qx '290 patterns in 14 domains, 0 findings' "$tmp/out" || fail 'no count'
    [ "$(grep -cE '^[a-z]+ +2[01]( +[0-9]+\.[0-9]){6}$' "$tmp/out")" = 14 ] || fail 'no table'
    sed '3s/"update": "/&[ACT] /' assets/fct/time.jsonl >"$tmp/time.jsonl"
    ! on own fct lint "$tmp/time.jsonl" assets/fct/scale.jsonl || fail 'a finding is no failure'
    grep -q "^$tmp/time.jsonl:3: update: found the tag \[ACT\], wanted no tag" "$tmp/out" || fail 'no finding'
    grep -qx '41 patterns in 2 domains, 1 findings' "$tmp/out" || fail 'no count of two files'
    [ ! -s "$tmp/err" ] || fail 'findings are not on stdout'
    refused 2 'wants lint and files or folders' -- fct lint
    refused 2 'wants lint' -- fct
    refused 1 'none.jsonl: cannot open' -- fct lint "$tmp/none.jsonl"
}

killed()
{
    set -- $fct --set curriculum=dopamine --set curriculum_epochs=1 --set save_every=3
    must train ref "$tmp/whole" --steps 30 "$@"
    "$vkmoe" train "$config" --data "$text" --quiet --untuned --device ref --out "$tmp/parts" --steps 30 "$@" \
        2>"$tmp/err" &
    child=$!
    children=$child
    wait_for 60 test -e "$tmp/parts/checkpoint-00000003" -o -e "$tmp/parts/checkpoint-00000006"
    kill -9 $child
    wait $child || :
    must train ref "$tmp/parts" --steps 30 --resume "$@"
    same_run "$tmp/whole" "$tmp/parts"
}
$case
