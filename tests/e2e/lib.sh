# SPDX-License-Identifier: MIT
# What the end-to-end tests share. Read by `. tests/e2e/lib.sh`, from the source folder, with the built
# program in $1. A folder of its own in $tmp, gone afterwards; `config` is a model of 9,328 parameters
# with a dense and an MoE layer, `text` a little text of 50 windows to train on.
# Two devices: `ref` is quick to open; `default` is what tools/check --device chose, or the best.
set -eu
vkmoe=$1
here=tests/e2e
config=$here/mixed.json
tmp=$(mktemp -d)
text=$tmp/text.txt
children=
refusals=0
refuse_on=own # the device of `refused`
export LC_ALL=C
# an empty cache folder in $tmp: what a test says depends on nothing outside
export XDG_CACHE_HOME="$tmp/cache"
unset VKMOE_CACHE

clean()
{
    for child in $children; do kill -9 "$child" 2>/dev/null || :; done
    chmod -R u+w "$tmp" 2>/dev/null || :
    rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# A memory cgroup of this test's own in $group and the file of its limit in $limit_file; empty where none can be made.
memory_group()
{
    group=
    for folder in /sys/fs/cgroup /sys/fs/cgroup/memory; do # version 2, version 1
        [ -z "$group" ] && mkdir "$folder/vkmoe-$$" 2>/dev/null || continue
        for file in memory.max memory.limit_in_bytes; do
            [ -w "$folder/vkmoe-$$/$file" ] && group=$folder/vkmoe-$$ && limit_file=$group/$file
        done
        [ -n "$group" ] || rmdir "$folder/vkmoe-$$"
    done
    trap 'clean; [ -z "$group" ] || { sleep 1; rmdir "$group"; }' EXIT
}

fail()
{
    echo "FAIL: $*" >&2
    [ -z "${did:-}" ] || echo "--- after: vkmoe $did" >&2
    for file in "$tmp"/err "$tmp"/out; do
        [ ! -s "$file" ] || { echo "--- ${file##*/}"; tail -n 20 "$file"; } >&2
    done
    exit 1
}

# The first 1000 bytes of the licence are text enough, and never change: 800 to train on, 50 windows.
[ "$(head -c 1000 LICENSE | wc -c)" = 1000 ] || fail 'LICENSE is too short for these tests'
head -c 1000 LICENSE >"$text"

# on DEVICE COMMAND...: vkmoe COMMAND... on ref, the default device, or (own) what the command says itself;
# stdout in $tmp/out, stderr in $tmp/err
on()
{
    on_what=$1
    shift
    case $on_what in
    ref) set -- "$@" --device ref ;;
    default) set -- "$@" ${VKMOE_DEVICE:+--device "$VKMOE_DEVICE"} ${VKMOE_CAPS:+--caps="$VKMOE_CAPS"} ;;
    own) ;;
    *) fail "no device $on_what" ;;
    esac
    # measuring kernels is a test of its own (unit_tune): the same ones run on every machine
    on_command=$1
    shift
    case $on_command in train | generate | eval | compare | logits) set -- --untuned "$@" ;; esac
    set -- "$on_command" "$@"
    did=$*
    # Meson has each malloc filled; where a driver's memory is malloc's that takes longer than the command
    case $on_what in default) set -- env MALLOC_PERTURB_=0 "$vkmoe" "$@" ;; *) set -- "$vkmoe" "$@" ;; esac
    "$@" >"$tmp/out" 2>"$tmp/err"
}

# must COMMAND...: it succeeds, or the test fails and shows what it said
must() { "$@" || fail "$* ended with status $?"; }

# one_line STATUS TEXT...: what was in `on` ended with $status: that one, and one line that holds every TEXT;
# nothing half-written is left
one_line()
{
    [ $status = "$1" ] || fail "exit status $status, wanted $1"
    shift
    grep -E '^(error: |warn: |vkmoe)' "$tmp/err" >"$tmp/lines" || fail 'it says nothing'
    [ "$(wc -l <"$tmp/lines")" = 1 ] || fail 'more than one line'
    for wanted_text in "$@"; do
        grep -qF -- "$wanted_text" "$tmp/lines" || fail "the line does not hold: $wanted_text"
    done
    [ -z "$(find "$tmp" -name '*.tmp*')" ] || fail "left behind: $(find "$tmp" -name '*.tmp*')"
    refusals=$((refusals + 1))
}

# refused STATUS TEXT... -- COMMAND...: the command, on $refuse_on, is refused with these texts
refused()
{
    refused_status=$1
    shift
    : >"$tmp/texts"
    while [ "$1" != -- ]; do
        printf '%s\n' "$1" >>"$tmp/texts"
        shift
    done
    shift
    status=0
    on $refuse_on "$@" || status=$?
    set -- "$refused_status"
    while IFS= read -r text_line; do set -- "$@" "$text_line"; done <"$tmp/texts"
    one_line "$@"
}

# train DEVICE FOLDER OPTION...
train()
{
    train_device=$1 train_out=$2
    shift 2
    on "$train_device" train "$config" --data "$text" --quiet --out "$train_out" "$@"
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }

# metrics.jsonl without what a clock or the system decides: every step, and the evaluation at the end
steady()
{
    sed -E '/"loss"/!{$!d}; s/"(tokens_per_s|(device|host)(_peak)?_bytes)": [^,]*, //g
        s/"experts": \{[^}]*\}, //' "$1"
}

# The one checkpoint of a run folder.
checkpoint() { echo "$1"/checkpoint-????????; }

# same_run A B: weights, optimizer, loop state, configuration, trace and metrics are the same bytes
same_run()
{
    same "$1/model.safetensors" "$2/model.safetensors"
    for file in model.safetensors optimizer.safetensors state.json; do
        same "$(checkpoint "$1")/$file" "$(checkpoint "$2")/$file"
    done
    if [ -e "$(checkpoint "$1")/average.safetensors" ]; then
        same "$(checkpoint "$1")/average.safetensors" "$(checkpoint "$2")/average.safetensors"
    fi
    same "$1/config.json" "$2/config.json"
    same "$1/routing.trace" "$2/routing.trace"
    same "$1/tokenizer.json" "$2/tokenizer.json"
    steady "$1/metrics.jsonl" >"$tmp/metrics.a"
    steady "$2/metrics.jsonl" >"$tmp/metrics.b"
    same "$tmp/metrics.a" "$tmp/metrics.b"
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for()
{
    tries=$(($1 * 20))
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "waited in vain for: $*"
        sleep 0.05
    done
}
