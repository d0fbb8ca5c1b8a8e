#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe eval --task and vkmoe compare, as a user meets them: a table and a JSON file with every answer, an
# interrupted run that ends with the same bytes, other devices, experts that come and go, two models item by
# item, and what is refused.
#     eval.sh VKMOE
. tests/e2e/lib.sh
run=$tmp/run task=$tmp/task.jsonl
must train ref "$run" --set max_position_embeddings=96

cat >"$task" <<'END'
{"good": "the Software", "bad": "eht erawtfoS", "domain": "words"}
{"good": " copies of", "bad": "zqxj qq", "prompt": "distribute", "domain": "law"}
{"prompt": "Permission is hereby", "choices": [" granted", " denied for ever", " xx"], "answer": 0, "domain": "law"}
{"prompt": "WARRANTY OF ANY", "choices": [" KIND", " SORT"], "answer": 0, "domain": "law"}
{"prompt": "a long prompt that the context has no room for, because it is longer than ninety-six bytes and one", "choices": [" a", " b"], "answer": 1}
{"text": "The above copyright notice and this permission notice shall be included"}
{"text": "in all copies or substantial portions of the Software, one after the other, and longer than a context is, so in two windows"}
{"prompt": "MIT", "answer": " License", "max_tokens": 6, "stop": ["\n"]}
{"prompt": "Copyright", "regex": ".", "max_tokens": 4}
{"prompt": "as", "answer": "is", "dev": true}
END

# ---- the table, and every answer in a file
must on ref eval "$run" --task "$task" --out "$tmp/a.json" --quiet
for wanted in 'vkmoe, 9 items, 0 shots' '95 % interval' 'pairs  ' 'choice, per byte' 'bits per byte' 'perplexity' \
    'not distinguishable from chance' '1 of 9 prompts were longer than the context: 3 tokens' '^law  *1 '; do
    grep -q -- "$wanted" "$tmp/out" || fail "the table does not say: $wanted"
done
[ ! -e "$tmp/a.json.answers.jsonl" ] || fail 'the answers of a finished run are left behind'
python3 - "$tmp/a.json" <<'END' || fail 'the file does not hold what it should'
import json, sys
a = json.load(open(sys.argv[1]))
assert [x["item"] for x in a["answers"]] == list(range(9)), "every item once, in order"
assert {s["score"] for s in a["scores"]} == {"pairs", "choice, sum", "choice, per byte", "generation", "bits per byte"}
assert all(s["low"] <= s["value"] <= s["high"] for s in a["scores"])
assert a["answers"][4]["cut"] == 3 and a["answers"][2]["tokens"] == [8, 16, 3]
assert a["answers"][5]["tokens"] == [71] and a["answers"][8]["text"]
pairs = a["answers"][:2]
assert [x["right"] for x in pairs] == [x["logp"][0] / x["tokens"][0] > x["logp"][1] / x["tokens"][1] for x in pairs]
END
must on ref eval "$run" --task "$task" --out "$tmp/b.json" --json
same "$tmp/a.json" "$tmp/b.json"
grep -q '"scores"' "$tmp/out" || fail '--json'

# ---- an interrupted run: answers that are there are not asked for again, a torn line is
cut()
{
    python3 - "$tmp/a.json" "$tmp/half.json.answers.jsonl" "$1" <<'END'
import json, sys
a = json.load(open(sys.argv[1]))
keep = [{k: x[k] for k in ("item", "logp", "tokens", "cut", "text") if k in x} for x in a["answers"]]
with open(sys.argv[2], "w") as f:
    f.write(json.dumps({"vkmoe_eval": 1, "fingerprint": sys.argv[3]}) + "\n")
    for x in keep[:4] + keep[8:]: f.write(json.dumps(x) + "\n")
    f.write('{"item": 4, "lo')
END
}
cut wrong
refused 1 'half.json.answers.jsonl:1' 'another task, model, device or setting' -- \
    eval "$run" --task "$task" --out "$tmp/half.json" --device ref
rm "$tmp/half.json.answers.jsonl"
cut "$(python3 -c 'import json, sys
a = json.load(open(sys.argv[1]))
print(a["task_fingerprint"] + "-" + a["model_fingerprint"] + "-0")' "$tmp/a.json")"
must on ref eval "$run" --task "$task" --out "$tmp/half.json"
grep -q '5 of 9 answers are there' "$tmp/err" || fail 'nothing was taken up'
same "$tmp/a.json" "$tmp/half.json"
printf '{"vkmoe_ev' >"$tmp/half.json.answers.jsonl" # not even its first line
must on ref eval "$run" --task "$task" --out "$tmp/half.json" --quiet
same "$tmp/a.json" "$tmp/half.json"
# by a signal: wherever it comes, the next run ends with the same bytes
"$vkmoe" eval "$run" --task "$task" --out "$tmp/stopped.json" --device ref --untuned >"$tmp/out" 2>"$tmp/err" &
children=$!
sleep 0.3
kill -INT $children 2>/dev/null || :
status=0
wait $children || status=$?
children=
[ $status = 130 ] || [ $status = 0 ] || fail "exit status $status of an interrupted run"
must on ref eval "$run" --task "$task" --out "$tmp/stopped.json" --quiet
same "$tmp/a.json" "$tmp/stopped.json"

# ---- other formats
printf 'What?,a,b,c,d,B\nWho?,a,b,c,d,D\n' >"$tmp/law_test.csv"
printf 'One?,a,b,c,d,A\n' >"$tmp/law_dev.csv"
must on ref eval "$run" --task "$tmp/law_test.csv" --quiet --shots 1 --context 64
grep -q 'mmlu, 2 items, 1 shots' "$tmp/out" || fail 'mmlu with a shot'
grep -q '2 of 2 prompts were longer' "$tmp/out" || fail 'what was cut is not said'
printf '{"task_id": "HumanEval/0", "prompt": "def f():\\n"}\n' >"$tmp/he.jsonl"
must on ref eval "$run" --task "$tmp/he.jsonl" --max-tokens 3 --out "$tmp/he.json" --quiet
grep -q '^{"task_id":"HumanEval/0","completion":".*"}$' "$tmp/he.samples.jsonl" || fail 'no sample for the scorer'
refused 1 'give --out FILE.json' -- eval "$run" --task "$tmp/he.jsonl" --device ref

# ---- experts that come and go: the same digits
must on ref eval "$run" --task "$task" --out "$tmp/slots.json" --quiet --expert-slots 2
same "$tmp/a.json" "$tmp/slots.json"

# ---- two models
must train ref "$tmp/other" --steps 2 --set max_position_embeddings=96
must on ref compare "$run" "$tmp/other" --task "$task" --quiet
for wanted in '^A: ' 'McNemar, exact' 'paired bootstrap, 10000 draws' 'bits per byte'; do
    grep -q -- "$wanted" "$tmp/out" || fail "compare does not say: $wanted"
done
mv "$tmp/out" "$tmp/said"
must on ref compare "$tmp/a.json" "$tmp/other" --task "$task" --quiet
sed 1d "$tmp/said" >"$tmp/said.1" && sed 1d "$tmp/out" >"$tmp/said.2" && same "$tmp/said.1" "$tmp/said.2"
must on ref compare "$tmp/a.json" "$tmp/b.json" --task "$task" --json
grep -q '"only_a": 0, "only_b": 0, "p": 1' "$tmp/out" || fail "a model differs from itself: $(cat "$tmp/out")"
refused 1 a.json 'answers to another task' -- compare "$tmp/a.json" "$tmp/b.json" --task "$task" --shots 1
refused 1 a.json 'answers to another task' -- compare "$tmp/a.json" "$tmp/b.json" --task "$tmp/law_test.csv"

# ---- refusals
refused 2 'wants one DIR or FILE, and --data PATH... or --task FILE' -- eval "$run"
refused 2 'wants one DIR or FILE' -- eval "$run" --task "$task" --data LICENSE
refused 2 'wants two of DIR' -- compare "$run" --task "$task"
refused 2 'format: found "xx"' -- eval "$run" --task "$task" --format xx
refused 1 missing.jsonl 'no such file' -- eval "$run" --task missing.jsonl --device ref
printf 'PAR1' >"$tmp/x.parquet"
refused 1 x.parquet 'parquet is not read' to_json -- eval "$run" --task "$tmp/x.parquet" --device ref
printf '{"choices": ["a", "b"], "answer": 5}\n' >"$tmp/bad.jsonl"
refused 1 'bad.jsonl:1: "answer" is 5, out of range' -- eval "$run" --task "$tmp/bad.jsonl" --device ref
refused 1 'an answer is never cut' -- eval "$run" --task "$task" --context 8 --device ref --quiet
echo "$refusals refusals"
