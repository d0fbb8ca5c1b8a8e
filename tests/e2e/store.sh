#!/bin/sh
# SPDX-License-Identifier: MIT
# Experts in a store as a user meets them: a run is packed and unpacked byte for byte and goes on as if nothing
# had been, a new model is a few kilobytes, compaction shrinks and harms nothing, what is wrong is one line and
# leaves nothing half-written: another config, damage, a full disk, a read-only one, a folder in use.
#     store.sh VKMOE
. tests/e2e/lib.sh
run=$tmp/run store=$tmp/store
must train ref "$run" --steps 6

# there and back, twice
must on own pack "$run" --out "$store"
cat "$tmp/out"
grep -q '^9328 parameters; 4 of 4 experts have a record' "$tmp/out" || fail 'what pack says'
! grep -aqF experts "$store/model.safetensors" || fail 'experts beside the store'
must on own unpack "$store" --out "$tmp/back"
same_run "$run" "$tmp/back"
must on own pack "$tmp/back" --out "$tmp/again"
for file in experts/segment-00000001.bin checkpoint-00000006/experts.json checkpoint-00000006/experts.index; do
    same "$store/$file" "$tmp/again/$file"
done
must train ref "$run" --steps 9 --resume
must train ref "$tmp/back" --steps 9 --resume
same_run "$run" "$tmp/back"
must on own unpack "$store" --out "$tmp/one.safetensors"
cmp -s "$tmp/one.safetensors" "$run/model.safetensors" && fail 'three steps changed nothing'

# a new model: nothing of an expert on the disk
must on own init "$config" --out "$tmp/new" --set num_experts=1000 --json
grep -q '"experts": 1000, "records": 0, ' "$tmp/out" || fail 'what init says'
[ "$(du -sk "$tmp/new" | cut -f1)" -lt 200 ] || fail 'init wrote more than 200 KiB'
must on own unpack "$tmp/new" --out "$tmp/new.safetensors"
must on own init "$config" --out "$tmp/seed" --seed 8
must on own unpack "$tmp/seed" --out "$tmp/seed.safetensors"
must on own unpack "$tmp/seed" --out "$tmp/same.safetensors"
same "$tmp/seed.safetensors" "$tmp/same.safetensors"

# compaction of what has no holes
cp "$store/experts/segment-00000001.bin" "$tmp/segment"
must on own compact "$store"
same "$store/experts/segment-00000001.bin" "$tmp/segment"
must on own unpack "$store" --out "$tmp/same.safetensors"
same "$tmp/one.safetensors" "$tmp/same.safetensors"

refused 2 'one CONFIG.json, --out DIR' -- init "$config"
refused 2 'one DIR|FILE, --out DIR' -- pack "$run"
refused 2 'one DIR, --out' -- unpack "$store"
refused 2 'one DIR' -- compact
refused 1 "$store" 'holds a run at step 6' -- pack "$run" --out "$store"
refused 1 "$store" 'holds a run at step 6' -- init "$config" --out "$store"
refused 1 "$run" 'has no store' -- unpack "$run" --out "$tmp/none"
refused 1 "$run" 'has no store' -- compact "$run"
refused 1 'in a store already' -- pack "$store" --out "$tmp/none"
refused 1 nowhere 'no such file' -- pack "$tmp/nowhere" --out "$tmp/none"
sed 's/"num_experts": 4/"num_experts": 0/' "$config" >"$tmp/dense.json"
refused 1 num_experts -- init "$tmp/dense.json" --out "$tmp/none"
cp -r "$store" "$tmp/other"
sed -i 's/"moe_intermediate_size": 12/"moe_intermediate_size": 13/' "$tmp/other/config.json"
refused 1 experts.json 'another config' '"gate [12][16]", wanted "gate [13][16]"' -- unpack "$tmp/other" --out "$tmp/none.safetensors"
cp "$store/config.json" "$tmp/other"
printf x | dd of="$tmp/other/experts/segment-00000001.bin" bs=1 seek=100 conv=notrunc 2>"$tmp/err"
refused 1 segment-00000001.bin 'layer 1, expert 0' damaged -- unpack "$tmp/other" --out "$tmp/none.safetensors"
cp "$store/experts/segment-00000001.bin" "$tmp/other/experts"
truncate -s -1 "$tmp/other/experts/segment-00000001.bin"
refused 1 segment-00000001.bin 'cut short' -- unpack "$tmp/other" --out "$tmp/none.safetensors"
rm "$tmp/other/experts/segment-00000001.bin"
refused 1 segment-00000001.bin missing -- compact "$tmp/other"
cp "$store/experts/segment-00000001.bin" "$tmp/other/experts"
truncate -s -1 "$tmp/other/checkpoint-00000006/experts.json"
refused 1 experts.json 'cut short' -- unpack "$tmp/other" --out "$tmp/none.safetensors"
[ ! -e "$tmp/none" ] || [ -z "$(ls "$tmp/none")" ] || fail "written: $(ls "$tmp/none")"
if command -v flock >"$tmp/err"; then
    (flock 9 && exec sleep 60) 9>>"$store/.lock" &
    children="$children $!"
    wait_for 10 sh -c "! flock -n '$store/.lock' true"
    refused 1 "$store" 'in use by' -- compact "$store"
fi

mkdir "$tmp/disk"
mount -t tmpfs -o size=60k tmpfs "$tmp/disk" 2>"$tmp/err" || exit 0 # nothing can be mounted here
trap 'umount "$tmp/disk"; clean' EXIT
refused 1 "$tmp/disk" 'no space left' -- pack "$run" --out "$tmp/disk/full"
[ ! -e "$tmp/disk/full/experts" ] || fail 'half a store is left'
mount -o remount,size=1m "$tmp/disk"
must on own pack "$run" --out "$tmp/disk/full"
mount -o remount,ro "$tmp/disk"
refused 1 'ead-only' -- compact "$tmp/disk/full"
refused 1 'ead-only' -- pack "$run" --out "$tmp/disk/none"
must on own unpack "$tmp/disk/full" --out "$tmp/ro.safetensors" # reading needs no right to write
same "$tmp/ro.safetensors" "$run/model.safetensors"
