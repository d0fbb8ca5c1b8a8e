#!/bin/sh
# SPDX-License-Identifier: MIT
# The viewer's window under Xvfb, with keys and mouse from xdotool: panels, slider, zoom, theme, help,
# a saved PNG, a run that grows while it is looked at; then the command line's wrong ways.
#     window.sh VKMOE_VIEW VKMOE
set -eu
view=$(realpath "$1") vkmoe=$(realpath "$2")
for tool in Xvfb xdotool; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
# what X11 and its friends keep until the end is not ours, and unloaded by then
[ -z "${ASAN_OPTIONS-}" ] || export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"
work=$(mktemp -d)
cd "$work"
server='' window=''
finish()
{
    [ -z "$window" ] || kill "$window" 2>/dev/null || :
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    rm -rf "$work"
}
trap finish EXIT
fail() { echo "window.sh: $*" >&2; cat "$work"/view.log >&2 2>/dev/null || :; exit 1; }

# ---- without a screen

# refused WANTED ARGUMENTS...: exit 1 and one line that says so
refused()
{
    wanted=$1
    shift
    status=0
    "$view" "$@" >out.log 2>&1 || status=$?
    [ $status = 1 ] || fail "$* ends with $status"
    [ "$(wc -l <out.log)" = 1 ] || fail "$*: not one line: $(cat out.log)"
    grep -q "$wanted" out.log || fail "$*: said $(cat out.log)"
}

cat >toy.json <<'JSON'
{"model_type": "mixtral", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2,
 "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "num_local_experts": 4,
 "num_experts_per_tok": 2, "tie_word_embeddings": false, "rms_norm_eps": 1e-5, "rope_theta": 10000,
 "torch_dtype": "float32", "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 258, "seq_len": 16,
 "batch_size": 2, "steps": 12, "warmup_steps": 1, "learning_rate": 1e-3, "trace_tokens": 32, "save_every": 12}
JSON
"$vkmoe" train toy.json --data toy:all --out run --quiet --device ref >train.log 2>&1 || fail "$(cat train.log)"

for panel in overview experts tokens specialisation residency plan all; do
    "$view" run --png $panel.png --panel $panel --step 3 --size 640x480 || fail "no picture of $panel"
    [ "$(head -c 4 $panel.png | tail -c 3)" = PNG ] || fail "$panel.png is no PNG"
done
cmp -s overview.png experts.png && fail 'two panels, one picture'
"$view" run --png again.png --panel experts --step 3 --size 640x480
cmp experts.png again.png || fail 'the same picture twice is not the same'

refused 'no such folder' none --png x.png
refused 'no metrics.jsonl and no routing.trace' . --png x.png
refused 'no font that opens' run --png x.png --font toy.json
refused 'layer 7 has no experts' run --png x.png --layer 7
mkdir other old empty
cp run/config.json run/routing.trace other
sed -i 's/"num_local_experts":[^,]*/"num_local_experts": 8/' other/config.json
refused 'a trace of 4 experts' other --png x.png
printf 'vkmoetrc\011\000\000\000' >old/routing.trace
head -c 100 /dev/zero >>old/routing.trace
refused 'a version this program does not know' old --png x.png
: >empty/routing.trace
"$view" empty --png empty.png || fail 'a run that has just begun does not open'
for option in '--size 10x10' '--panel nothing' '--step x' '--nothing' 'more'; do
    status=0
    "$view" run $option >out.log 2>&1 || status=$?
    [ $status = 2 ] || fail "run $option ends with $status"
done
[ -z "$(ls x.png* 2>/dev/null)" ] || fail 'half a picture stays behind'
SDL_VIDEODRIVER=x11 DISPLAY=:none refused 'no window' run

# ---- a window

number=1
while [ $number -lt 400 ]; do # a display that nobody has
    number=$((number + 1))
    [ -e "/tmp/.X$number-lock" ] && continue
    Xvfb ":$number" -screen 0 1400x900x24 -nolisten tcp >xvfb.log 2>&1 &
    server=$!
    waited=0
    until DISPLAY=":$number" xdotool getmouselocation >/dev/null 2>&1; do
        waited=$((waited + 1))
        kill -0 "$server" 2>/dev/null && [ $waited -lt 100 ] || { server=''; break; }
        sleep 0.1
    done
    [ -z "$server" ] || break
done
[ -n "$server" ] || { echo 'skipped: Xvfb does not start'; exit 77; }
export DISPLAY=":$number" SDL_VIDEODRIVER=x11

"$view" run --size 1280x720 >view.log 2>&1 &
window=$!
id=$(timeout 60 xdotool search --sync --onlyvisible --pid "$window" 2>/dev/null | head -n 1)
[ -n "$id" ] || id=$(timeout 60 xdotool search --sync --name vkmoe-view | head -n 1)
[ -n "$id" ] || fail 'no window comes'
xdotool windowfocus "$id" 2>/dev/null || :
sleep 0.5

# saved NAME: `s` writes that picture
saved()
{
    rm -f "$1"
    xdotool key s
    waited=0
    until [ -s "$1" ]; do
        waited=$((waited + 1))
        [ $waited -lt 100 ] || fail "s saved no $1: $(ls)"
        kill -0 "$window" 2>/dev/null || fail 'the window is gone'
        sleep 0.1
    done
}
at() { xdotool mousemove --window "$id" "$1" "$2"; sleep 0.2; }

xdotool key 2
saved view-experts-12.png
cp view-experts-12.png dark.png
xdotool key t
saved view-experts-12.png
cmp -s dark.png view-experts-12.png && fail 't changes nothing'
xdotool key t Left Left
saved view-experts-10.png
xdotool key Home
saved view-experts-1.png
xdotool key Down
saved view-experts-1.png
xdotool key End a
saved view-experts-12.png
cmp -s dark.png view-experts-12.png && fail 'a shows no other maps'
xdotool key a Up
at 640 690 # the slider
xdotool click 1
sleep 0.3
xdotool key 3
rm -f view-*.png
xdotool key s
waited=0
until name=$(ls view-tokens-*.png 2>/dev/null); do
    waited=$((waited + 1))
    [ $waited -lt 100 ] || fail 's saved no picture of tokens'
    sleep 0.1
done
step=${name#view-tokens-}
step=${step%.png}
[ "$step" -gt 2 ] && [ "$step" -lt 11 ] || fail "a click in the slider's middle went to step $step"
at 300 45 # another tab by the mouse
at 60 16
xdotool click 1
sleep 0.3
xdotool key End
saved view-overview-12.png
cp view-overview-12.png whole.png
at 200 200
xdotool click 4 click 4 # zoom
sleep 0.3
saved view-overview-12.png
cmp -s whole.png view-overview-12.png && fail 'the wheel does not zoom'
xdotool key x question
sleep 0.3
xdotool key Escape space # help away; play to the end
sleep 3
xdotool key 0 # all
sleep 0.3
xdotool windowsize "$id" 400 300
sleep 0.5
xdotool windowsize "$id" 1000 700
sleep 0.5
xdotool key bracketright bracketleft plus minus Tab 1
# the run goes on
sed 's/"steps": 12/"steps": 14/' toy.json >longer.json
"$vkmoe" train longer.json --data toy:all --out run --resume --quiet --device ref >train.log 2>&1 ||
    fail "$(cat train.log)"
sleep 1.5
xdotool key End
saved view-overview-14.png
xdotool key q
waited=0
while kill -0 "$window" 2>/dev/null; do
    waited=$((waited + 1))
    [ $waited -lt 100 ] || fail 'q does not end it'
    sleep 0.1
done
status=0
wait "$window" || status=$?
window=''
[ $status = 0 ] || fail "ended with $status"
[ ! -s view.log ] || fail "it said: $(cat view.log)"
echo 'window.sh: all as wanted'
