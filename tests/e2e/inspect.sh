#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe inspect as a user meets it: a report whose numbers add up, of the run's own held-out text and of
# another; the collapse alarm in log, metrics and report; and what it refuses, in one line each.
#     inspect.sh VKMOE
. tests/e2e/lib.sh
inspect() { on own inspect "$@" --device ref --untuned; }

# three checkpoints, a trace with picks, a layer that collapses: no balance loss, far too large steps
on ref train "$config" --data toy:copy,toy:sum --quiet --out "$tmp/run" --steps 30 --set save_every=10 \
    --set save_total_limit=3 --set router_aux_loss_coef=0 --set router_z_loss_coef=0 --set learning_rate=0.3 \
    --set alarm_steps=5 --set final_eval_batches=1 --set trace_tokens=16 || fail 'train'
grep -q 'warn: layer 1, step [0-9]*: routing has collapsed: expert [0-3] takes' "$tmp/err" || fail 'no alarm in the log'
[ "$(grep -c '"alarm": true' "$tmp/run/metrics.jsonl")" = 1 ] || fail 'one alarm in metrics.jsonl'
[ "$(head -c 8 "$tmp/run/routing.trace")" = vkmoetrc ] || fail 'routing.trace'

must inspect "$tmp/run" --data toy:copy,toy:sum
for file in report.md report.json; do [ -s "$tmp/run/inspect/$file" ] || fail "no $file"; done
grep -q 'layer 1 had collapsed, most tokens took expert' "$tmp/run/inspect/report.md" || fail 'no alarm in the report'
grep -q 'that the run held out' "$tmp/run/inspect/report.md" || fail 'not the held-out text'
grep -q '^| 1 | .* | 1.000 (1.00) |' "$tmp/run/inspect/report.md" || fail 'no saturation'
must inspect "$tmp/run" --data "$text" --out "$tmp/other" --json
same "$tmp/out" "$tmp/other/report.json"
must inspect "$tmp/run" --data "$text" --out "$tmp/again" --json # two calls, the same bytes
for file in report.md report.json; do same "$tmp/other/$file" "$tmp/again/$file"; done

python=$(command -v python3 || :)
[ -z "$python" ] || "$python" - "$tmp/run/inspect" "$tmp/other" <<'END' || fail 'report.json'
import json, os, re, sys
for folder in sys.argv[1:]:
    report = json.load(open(folder + '/report.json'))
    text, experts = report['text'], report['num_experts']
    assert sum(d['tokens'] for d in text['domains']) == text['tokens'], text
    for layer in report['layers']:
        assert layer['picks'] == layer['experts_per_token'] * text['tokens'], layer['picks']
        assert sum(e['picks'] for e in layer['experts']) == layer['picks']
        assert len(layer['experts']) == experts # of four none is left out
        for e in layer['experts']:
            assert sum(e['domains']) == e['picks'], e
            assert all(0 <= x <= 1 for x in e['together'])
            for token in e['tokens']:
                assert token['token'] and token['lift'] > 1, token
        assert 0 <= layer['information']['bits'] <= layer['domain_bits'] + 1e-9
        own = layer['information'] # one document is the same in any order; many lines are not
        assert own['documents_shuffled'] >= own['shuffled'] >= 0 and own['documents_deviation'] >= 0, own
        assert len(layer['saturation']) == 3 and layer['saturation'][-1] == 1
        assert all(0 <= s <= 1 for s in layer['saturation'])
    for name in re.findall(r'\]\((.*?\.png)\)', open(folder + '/report.md').read()):
        assert open(os.path.join(folder, name), 'rb').read(4) == b'\x89PNG', name
own, other = (json.load(open(f + '/report.json')) for f in sys.argv[1:])
assert [d['name'] for d in own['text']['domains']] == ['toy copy', 'toy sum'] or len(own['text']['domains']) == 2
assert own['checkpoints'] == [10, 20, 30] and len(own['alarms']) == 1
assert own['summary']['information'] > own['summary']['documents_shuffled'] > own['summary']['shuffled'] > 0, own['summary']
assert other['text']['tokens'] == 1000, other['text'] # every byte and nothing else
END

# refuse WORDS COMMAND...: it fails with one line that has the words, and leaves nothing
refuse()
{
    words=$1
    shift
    ! inspect "$@" --out "$tmp/none" || fail "accepted: $*"
    grep -q "$words" "$tmp/err" || fail "wanted \"$words\" for $*"
    [ ! -e "$tmp/none" ] || fail "left something for $*"
}
train ref "$tmp/dense" --steps 2 --set num_experts=0 --set mlp_only_layers=[] --set num_experts_per_tok=0 ||
    train ref "$tmp/dense" --steps 2 --set num_experts=0 || fail 'dense'
refuse 'a dense model' "$tmp/dense" --data "$text"
refuse 'nowhere' "$tmp/run" --data "$tmp/nowhere"
refuse 'wants one DIR and --data' "$tmp/run"
rm "$tmp/run/metrics.jsonl"
refuse 'metrics.jsonl: no such file; inspect wants' "$tmp/run" --data "$text"
refuse 'metrics.jsonl: no such file; inspect wants' "$tmp/void" --data "$text"
