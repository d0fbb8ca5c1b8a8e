#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe bench cache on a trace that a run wrote: the optimum is never beaten, the numbers add up, the table
# lines up; vkmoe bench stream: every ratio is there; and what both refuse, in one line each.
#     streaming.sh VKMOE
. tests/e2e/lib.sh

on ref train "$config" --data toy:copy,toy:sum --quiet --out "$tmp/run" --steps 6 --set trace_tokens=16 \
    --set final_eval_batches=1 || fail 'train'
must on own bench cache --trace "$tmp/run/routing.trace"
[ "$(grep -c '^train: \|^generate: ' "$tmp/out")" = 2 ] || fail 'two tables'
columns=$(sed -nE '/^ +slots/p; /^ +[0-9]+ +[0-9.]+ %/p' "$tmp/out" | awk '{ print length($0) }' | sort -u | wc -l)
[ "$columns" = 1 ] || fail 'the table does not line up'
must on own bench cache --trace "$tmp/run/routing.trace" --json "$tmp/cache.json"
must on own bench cache --trace "$tmp/run/routing.trace" --json -
sed -E 's/"ns_per_use":.*//' "$tmp/out" >"$tmp/a"
sed -E 's/"ns_per_use":.*//' "$tmp/cache.json" >"$tmp/b"
same "$tmp/a" "$tmp/b"

python=$(command -v python3 || :)
[ -z "$python" ] || "$python" - "$tmp/cache.json" <<'END' || fail 'cache.json'
import json, sys
bench = json.load(open(sys.argv[1]))
rows = bench["results"]
assert bench["steps"] == 6 and bench["tokens"] == 96, bench
assert len(rows) == 2 * 6 * 5, len(rows)
for uses in ("train", "generate"):
    total = {r["hits"] + r["misses"] for r in rows if r["uses"] == uses}
    assert len(total) == 1
    for size in {r["slots"] for r in rows}:
        some = {r["policy"]: r["hits"] for r in rows if r["uses"] == uses and r["slots"] == size}
        assert set(some) == {"lru", "lfu", "lfru", "least-stale", "optimum"}
        assert max(some.values()) == some["optimum"], (uses, size, some)
    # all slots: every policy misses each expert once
    all_slots = {r["misses"] for r in rows if r["uses"] == uses and r["share"] == 1}
    assert len(all_slots) == 1
END

# 128 MiB, read sequentially and not
head -c 134217728 /dev/zero >"$tmp/file"
must on default bench stream --file "$tmp/file" --json -
[ -z "$python" ] || "$python" - "$tmp/out" <<'END' || fail 'bench stream'
import json, sys
bench = json.load(open(sys.argv[1]))
rows = {r["name"]: r for r in bench["results"]}
assert sum("plain loop" == r["measured_by"] for r in rows.values()) >= 2, rows
assert sum("memcpy" == r["measured_by"] for r in rows.values()) == 2, rows
assert all(0 < r["lowest"] <= r["ratio"] <= r["highest"] for r in rows.values()), rows
assert [r["goal"] for r in rows.values() if r["name"].startswith("overlap")] == [0.9]
assert "GB/s" in bench["reads"] and bench["file_bytes"] == 1 << 27
END

# refuse STATUS TEXT COMMAND...: one line that holds the text
refuse()
{
    wanted=$1 text_in_it=$2
    shift 2
    status=0
    on own "$@" || status=$?
    [ $status = "$wanted" ] || fail "$*: exit status $status, wanted $wanted"
    grep -qF -- "$text_in_it" "$tmp/err" || fail "$*: the line does not hold: $text_in_it"
    [ "$(grep -cE '^(error|vkmoe bench): ' "$tmp/err")" = 1 ] || fail "$*: not one line"
}
refuse 2 '--trace FILE' bench cache
refuse 2 '--trace belongs to' bench --trace "$tmp/run/routing.trace"
refuse 2 '--file belongs to' bench cache --file "$tmp/file"
refuse 2 'found "caches"' bench caches
refuse 1 'o such file' bench cache --trace "$tmp/none"
refuse 1 "$config" bench cache --trace "$config"
refuse 1 'o such file' bench stream --device ref --file "$tmp/none"
refuse 1 '128 MiB' bench stream --device ref --file "$config"
