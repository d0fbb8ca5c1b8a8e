#!/bin/sh
# SPDX-License-Identifier: MIT
# What `meson install` gives: install.sh BUILD PREFIX WHAT, from the source folder.
#     symbols   the library exports the functions of vkmoe.h and nothing else
#     c, cpp    the installed header compiles alone, without a warning
#     program   tests/install_example.c is built with pkg-config alone, and generates text
# Each installs into a folder of its own that is gone afterwards. 77: skipped.
set -eu
build=$1 prefix=$2 what=$3
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
DESTDIR=$dest meson install -C "$build" --no-rebuild --quiet
header=$dest$prefix/include/vkmoe.h
# everything but the library itself lies under its prefix, wherever that is
PKG_CONFIG_PATH=$(dirname "$(find "$dest" -name vkmoe.pc)")
export PKG_CONFIG_PATH

symbols()
{
    sed -nE 's/^VKMOE_API .*[ *](vkmoe_[a-z0-9_]+)\(.*/\1/p' "$header" | sort >"$dest/declared"
    nm -D --defined-only "$(find "$dest" -name libvkmoe.so)" | sed -E 's/^[^ ]+ . //' |
        sort >"$dest/exported"
    [ -s "$dest/declared" ]
    diff "$dest/declared" "$dest/exported"
    echo "$(wc -l <"$dest/exported") functions"
}

alone() # COMPILER...
{
    command -v "$1" >/dev/null || { echo "no $1 here"; exit 77; }
    echo '#include <vkmoe.h>' | "$@" -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
        -I"$(dirname "$header")" -
}

program()
{
    flags=$(pkg-config --define-variable=prefix="$dest$prefix" --cflags --libs vkmoe)
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror -o "$dest/example" tests/install_example.c $flags
    printf 'int main(void)\n{\n    return 0;\n}\n' >"$dest/text.c"
    "$dest$prefix/bin/vkmoe" train assets/tiny.json --device ref --data "$dest/text.c" --quiet \
        --out "$dest/run" --steps 1 --set warmup_steps=0 --set seq_len=8 --set batch_size=1 --set hidden_size=16 \
        --set head_dim=4 --set intermediate_size=8 --set num_hidden_layers=1
    LD_LIBRARY_PATH=$(dirname "$(find "$dest" -name libvkmoe.so)") "$dest/example" "$dest/run" ref
}

case $what in
symbols | program) "$what" ;;
c) alone "${CC:-cc}" -std=c99 -x c ;;
cpp) alone "${CXX:-c++}" -std=c++11 -x c++ ;;
*) exit 2 ;;
esac
