#!/bin/sh
# SPDX-License-Identifier: MIT
# vkmoe export as a user meets it: a trained model becomes one file of the size that was announced, opens
# everywhere a folder does, and its bits per byte are those that were printed; a reader that knows nothing
# but the format's description gives the same weights; what is wrong is one line.
#     export.sh VKMOE
. tests/e2e/lib.sh
run=$tmp/run
python=${PYTHON:-python3}
# matrices above 8,192 elements (kinds other than f16) and above 65,536 (pruned)
train ref "$run" --steps 6 --set hidden_size=96 --set head_dim=64 --set intermediate_size=700 \
    --set moe_intermediate_size=101 --set learning_rate=0.003 || fail 'training'
head -c 300 LICENSE >"$text"
if ! on own export "$run" --out "$tmp/model.vkx" --prune 0.03; then
    grep -q 'libzstd-dev and libxxhash-dev' "$tmp/err" || fail 'export'
    [ "$(grep -c . "$tmp/err")" = 1 ] || fail 'more than one line'
    echo 'built without zstd and xxhash: skipped'
    exit 77
fi
cat "$tmp/out"
grep -q "^file  *$(wc -c <"$tmp/model.vkx") " "$tmp/out" || fail 'the size it says is not that of the file'
# dense: three of 700 x 96, of which 3 % are pruned: (0.03 * 67199 rounded down) + 1 each
grep -q '^pruned  *6048 weights' "$tmp/out" || fail 'pruned weights'

# sizes to the byte before zstd. int5: 3 dense of 67,200 elements, 2 x 700 + 96 scales; 12 of experts of 9,696
# elements, 4 x (2 x 101 + 96) scales. int6: q and o of 12,288 elements in both layers, 128 + 96 scales.
int5=$((3 * 67200 * 5 / 8 + 2 * (2 * 700 + 96) + 12 * 9696 * 5 / 8 + 2 * 4 * (2 * 101 + 96)))
int6=$((2 * (2 * 12288 * 6 / 8 + 2 * (128 + 96))))
grep -qE "^int5 +15 +317952 +$int5 " "$tmp/out" || fail "int5: wanted 15 tensors in $int5 bytes"
grep -qE "^int6 +4 +49152 +$int6 " "$tmp/out" || fail "int6: wanted 4 tensors in $int6 bytes"
must on own export "$run" --out "$tmp/plain.vkx" --prune 0.03 --level 0 --json
data=$(sed -n 's/.*"data_bytes": \([0-9]*\).*/\1/p' "$tmp/out") header=$(sed -n 's/.*"header_bytes": \([0-9]*\).*/\1/p' "$tmp/out")
[ "$(wc -c <"$tmp/plain.vkx")" = $((data + header + 8)) ] || fail 'the plain file is not header, data and checksum'

# the same bytes again
must on own export "$run" --out "$tmp/again.vkx" --prune 0.03
same "$tmp/model.vkx" "$tmp/again.vkx"

# what is in a file is what was in the folder
must on own info "$run"
mv "$tmp/out" "$tmp/info"
must on own info "$tmp/model.vkx"
same "$tmp/info" "$tmp/out"

# bits per byte: those of the folder, those of the file; close together, and nothing lost where nothing is rounded
bpb() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$tmp/out"; }
must on ref eval "$run" --data "$text" --json
before=$(bpb bpb)
must on ref eval "$tmp/model.vkx" --data "$text" --json
after=$(bpb bpb)
must on ref export "$run" --out "$tmp/again.vkx" --prune 0.03 --data "$text" --json
[ "$(bpb bpb_before)" = "$before" ] || fail "before: $(bpb bpb_before), eval says $before"
[ "$(bpb bpb_after)" = "$after" ] || fail "after: $(bpb bpb_after), eval says $after"
awk -v a="$before" -v b="$after" 'BEGIN { d = b - a; exit !(d != 0 && d < 0.1 && d > -0.1) }' ||
    fail "bits per byte $before before, $after after"
must on own export "$run" --out "$tmp/exact.vkx" --bits '*=f32'
must on ref eval "$tmp/exact.vkx" --data "$text" --json
[ "$(bpb bpb)" = "$before" ] || fail "f32: $(bpb bpb), wanted $before"
must on own export "$run" --out "$tmp/coarse.vkx" --bits '*.mlp.*=int2,*attn*=int2'
grep -q '^int2  *28 ' "$tmp/out" || fail '28 tensors in two bits'
[ "$(wc -c <"$tmp/coarse.vkx")" -lt "$(wc -c <"$tmp/model.vkx")" ] || fail 'two bits take more than five'

# one byte an integer is the same model
must on own export "$run" --out "$tmp/bytes.vkx" --prune 0.03 --packing bytes
must on ref logits "$tmp/bytes.vkx" --ids 1,2,3 --out "$tmp/bytes.npy"
must on ref logits "$tmp/model.vkx" --ids 1,2,3 --out "$tmp/export.npy"
same "$tmp/bytes.npy" "$tmp/export.npy"

# it opens where a folder does
must on ref generate "$tmp/exact.vkx" --prompt 'The ' --max-tokens 20
mv "$tmp/out" "$tmp/text.export"
must on ref generate "$run" --prompt 'The ' --max-tokens 20
same "$tmp/text.export" "$tmp/out"
must on default generate "$tmp/model.vkx" --prompt 'The ' --max-tokens 3

# a reader in Python, from the description
if command -v "$python" >/dev/null; then
    status=0
    "$python" tools/read_export.py "$tmp/model.vkx" "$tmp/read" 2>"$tmp/err" || status=$?
    [ $status = 0 ] || [ $status = 77 ] || fail "read_export.py: $status"
    if [ $status = 0 ]; then
        "$python" tools/read_export.py "$tmp/bytes.vkx" "$tmp/read.bytes" || fail 'bytes cannot be read'
        same "$tmp/read/model.safetensors" "$tmp/read.bytes/model.safetensors"
        must on ref logits "$tmp/read" --ids 1,2,3 --out "$tmp/read.npy"
        same "$tmp/export.npy" "$tmp/read.npy"
    fi
fi

# refused in one line, and what was there before stays
unharmed() # STATUS TEXT... -- COMMAND...
{
    refused "$@"
    same "$tmp/kept.vkx" "$tmp/model.vkx"
}
cp "$tmp/model.vkx" "$tmp/kept.vkx"
head -c 5000 "$tmp/model.vkx" >"$tmp/cut.vkx"
unharmed 1 cut.vkx 'cut off' -- eval "$tmp/cut.vkx" --data "$text" --device ref
{ cat "$tmp/model.vkx"; printf x; } >"$tmp/long.vkx"
unharmed 1 long.vkx checksum -- generate "$tmp/long.vkx" --prompt a --device ref
unharmed 1 text.txt 'magic: not a vkmoe export' -- eval "$text" --data "$text" --device ref
unharmed 1 none.vkx 'no such file' -- eval "$tmp/none.vkx" --data "$text" --device ref
unharmed 1 --bits 'wanted PATTERN=KIND' -- export "$run" --out "$tmp/model.vkx" --bits int9
unharmed 2 --prune 'from 0 to 1' -- export "$run" --out "$tmp/model.vkx" --prune 3
unharmed 2 --packing 'bits or bytes' -- export "$run" --out "$tmp/model.vkx" --packing 5
unharmed 2 --level '0 (not compressed) to 22' -- export "$run" --out "$tmp/model.vkx" --level 23
unharmed 2 'wants one DIR and --out FILE' -- export "$run"
unharmed 1 'no folder of a model' -- export "$tmp/model.vkx" --out "$tmp/model.vkx"
mkdir "$tmp/bad"
cp "$run/config.json" "$tmp/bad"
head -c 100000 "$run/model.safetensors" >"$tmp/bad/model.safetensors"
unharmed 1 model.safetensors 'cut off' -- export "$tmp/bad" --out "$tmp/model.vkx"
