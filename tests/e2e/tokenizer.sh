#!/bin/sh
# SPDX-License-Identifier: MIT
# A run with a tokenizer of its own, as a user meets it: vkmoe tokenizer train, encode, decode, info; train
# --tokenizer, which the run carries, resumes and generates with; its ids as a shard; what is refused.
#     tokenizer.sh VKMOE
. tests/e2e/lib.sh
own=$tmp/own.json

must on own tokenizer train --data LICENSE --vocab 300 --special '<tag>' --out "$own"
grep -q '300 ids, 40 merges, 4 special tokens' "$tmp/out" || fail "not what was asked for: $(cat "$tmp/out")"
must on own tokenizer train --data LICENSE --vocab 300 --special '<tag>' --out "$tmp/again.json"
same "$own" "$tmp/again.json"
must on own tokenizer info "$own"
grep -q '<tag>' "$tmp/out" || fail 'info does not name the special token'

# decode(encode(x)) = x, from a file, from standard input, from --text
printf 'the Software\n\377\000 "as is" \303\251\344\270\200  \n' >"$tmp/odd"
must on own tokenizer encode "$own" "$tmp/odd"
"$vkmoe" tokenizer decode "$own" <"$tmp/out" >"$tmp/back" || fail 'decode'
same "$tmp/odd" "$tmp/back"
mv "$tmp/out" "$tmp/ids"
"$vkmoe" tokenizer encode "$own" <"$tmp/odd" >"$tmp/out" || fail 'encode of standard input'
same "$tmp/ids" "$tmp/out"
must on own tokenizer encode "$own" --text 'a<tag>b' --specials --json
grep -qx '{"ids": \[64, 299, 65\], "offsets": \[\[0, 1\], \[1, 6\], \[6, 7\]\]}' "$tmp/out" ||
    fail "ids and offsets: $(cat "$tmp/out")"

# the run carries it, resumes with it without being told, evaluates and generates with it
run=$tmp/run
must on ref train "$config" --data "$text" --tokenizer "$own" --quiet --out "$run" --steps 4 --set vocab_size=300
same "$own" "$run/tokenizer.json"
must on ref train "$config" --data "$text" --tokenizer "$own" --quiet --out "$tmp/half" --steps 2 --set vocab_size=300
must on ref train "$config" --data "$text" --quiet --out "$tmp/half" --steps 4 --set vocab_size=300 --resume
same "$run/model.safetensors" "$tmp/half/model.safetensors"
must on ref eval "$run" --data "$text" --json
grep -q '"bytes": 1000}' "$tmp/out" || fail "all bytes of the text count: $(cat "$tmp/out")"
must on ref generate "$run" --prompt 'the Software' --max-tokens 3
[ "$(head -c 12 "$tmp/out")" = 'the Software' ] || fail 'the text begins with the prompt'
must on own tokenizer encode "$run" --text 'the Software'
[ "$(wc -w <"$tmp/out")" -lt 12 ] || fail 'nothing was merged'

# the same ids as a shard
must on own tokenizer encode "$own" "$text" --out "$tmp/ids.bin"
must on ref train "$config" --data "$tmp/ids.bin" --tokenizer "$own" --quiet --out "$tmp/shard" --steps 1 --set vocab_size=300

# ---- refusals
refused 1 vocab_size 'found 259, wanted at least 300' -- \
    train "$config" --data "$text" --tokenizer "$own" --out "$tmp/no" --device ref --set vocab_size=259
refused 1 missing.json 'no such file' -- train "$config" --data "$text" --tokenizer missing.json --out "$tmp/no" --device ref
refused 1 'vocab: found 100' -- tokenizer train --data LICENSE --vocab 100 --out "$tmp/no.json"
refused 1 pattern '^ or $' -- tokenizer train --data LICENSE --vocab 300 --pattern '^a' --out "$tmp/no.json"
refused 1 'no such file' -- tokenizer train --data missing.txt --vocab 300 --out "$tmp/no.json"
refused 1 'ids below 300' -- tokenizer decode "$own" --ids 1,300
refused 1 'not JSON' -- tokenizer info LICENSE
refused 2 'wants train --data' -- tokenizer train --vocab 300
refused 2 'train, encode, decode or info' -- tokenizer
[ ! -e "$tmp/no" ] || fail 'a refused run leaves a folder'
echo "$refusals refusals"
