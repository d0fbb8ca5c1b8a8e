#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe sweep as a user meets it: a table with every run, nothing trained twice, one that was stopped goes
# on, other settings under the same name are refused, and so is each wrong file before anything is trained.
#     sweep.sh VKMOE
. tests/e2e/lib.sh
cp "$config" "$tmp/model.json"
cat >"$tmp/two.json" <<'END'
{"about": "Two and one expert a token.", "config": "model.json", "data": ["toy:copy,toy:sum"], "equal": "parameters", "optimizer_state": true, "steps": 6, "inspect": true, "seeds": [3, 4],
 "set": {"final_eval_batches": 1, "warmup_steps": 0},
 "runs": [{"name": "two"}, {"name": "one", "set": {"num_experts_per_tok": 1}}]}
END
sweep() { on own sweep "$@" --device ref --untuned --quiet; }

must sweep "$tmp/two.json" --out "$tmp/out1"
grep -qE '^\| two \| [0-9]+ \| [0-9]+ \| - \| [0-9.]+ ± [0-9.]+ \|' "$tmp/out" || fail 'no row of run two'
grep -q '^| one ' "$tmp/out" || fail 'no row of run one'
python=$(command -v python3 || :)
grep -q 'Equal: parameters, to 0.00 %' "$tmp/out" || fail 'not a word about equal parameters'
[ -z "$python" ] || "$python" -c "
import json, sys
runs = json.load(open('$tmp/out1/sweep.json'))['runs']
assert [r['name'] for r in runs] == ['two', 'one'], runs
for r in runs:
    seeds = r['held_out_loss']['seeds']
    for key in ('information', 'shuffled', 'documents', 'given_token', 'given_documents', 'touched', 'ever'):
        assert len(r[key]['seeds']) == 2 and all(0 <= v <= 1 for v in r[key]['seeds']), r
    assert r['information']['mean'] > r['documents']['mean'] > r['shuffled']['mean'] > 0, r # digits and letters differ
    assert r['touched']['mean'] <= r['ever']['mean'] <= 1, r
    # two moments of 4 bytes for each of 9,328 parameters, the file's head, and what idle experts would not need
    assert 9328 * 8 < r['state_mib']['mean'] * 2**20 < 9328 * 8 + 8192, r
    assert (r['needed_mib']['mean'] < r['state_mib']['mean']) == (r['ever']['mean'] < 1), r
    assert len(seeds) == 2 and abs(sum(seeds) / 2 - r['held_out_loss']['mean']) < 1e-9, r
" || fail 'sweep.json'
cp "$tmp/out" "$tmp/first"

# what is finished is not trained again, what is lost is, to the same numbers
stamp=$(cat "$tmp/out1/two/seed-3/metrics.jsonl")
rm -r "$tmp/out1/one/seed-4"
must sweep "$tmp/two.json" --out "$tmp/out1"
[ "$(cat "$tmp/out1/two/seed-3/metrics.jsonl")" = "$stamp" ] || fail 'a finished run was trained again'
cut -d'|' -f2-9 "$tmp/first" >"$tmp/a"
cut -d'|' -f2-9 "$tmp/out" >"$tmp/b"
same "$tmp/a" "$tmp/b"

# refuse WORDS SED: the file changed by SED is refused, with one line that has the words
refuse()
{
    sed "$2" "$tmp/two.json" >"$tmp/bad.json"
    ! sweep "$tmp/bad.json" --out "${3:-$tmp/none}" || fail "accepted: $2"
    grep -q "$1" "$tmp/err" || fail "wanted \"$1\" for $2"
    [ ! -e "$tmp/none" ] || [ -z "$(ls "$tmp/none")" ] || fail "something was trained for $2"
}
refuse 'other settings' 's/"steps": 6/"steps": 7/' "$tmp/out1"
refuse 'steps' 's/"steps": 6/"steps": 0.5/'
refuse 'seeds' 's/\[3, 4\]/[3, 3]/'
refuse 'equal: wanted "parameters"' 's/"equal": "parameters"/"equal": "size"/'
refuse 'equal: wanted runs within 3 %' 's/"equal": "parameters"/"equal": "active"/'
refuse 'optimizer_state' 's/"optimizer_state": true/"optimizer_state": 1/'
refuse 'inspect' 's/"inspect": true/"inspect": 1/'
refuse 'runs' 's/"runs"/"run"/'
refuse 'each run' 's/"name": "one"/"name": "two"/'
refuse 'unknown key' 's/"num_experts_per_tok"/"num_experts_per_token"/'
refuse 'model.jsn' 's/model.json/model.jsn/'
refuse 'seed: wanted' 's/"warmup_steps": 0/"seed": 0/'

# each experiment that is shipped: its configs are read and equal where it says so, and nothing is trained
for file in assets/sweeps/*.json; do
    case $file in *base.json) continue ;; esac # the models that they change
    name=$(sed -n 's/.*{"name": "\([^"]*\)".*/\1/p' "$file" | head -n 1)
    mkdir -p "$tmp/shipped/${file##*/}/$name/seed-1"
    echo other >"$tmp/shipped/${file##*/}/$name/seed-1/sweep.txt"
    ! sweep "$file" --out "$tmp/shipped/${file##*/}" || fail "$file was run"
    grep -q 'other settings' "$tmp/err" || fail "$file is refused"
done
