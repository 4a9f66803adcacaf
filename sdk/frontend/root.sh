#!/bin/sh
# Lays out the root of the frontend's image: koskit, and the libraries that it is linked with, as
# this machine has them. A program that is linked statically would be another build of everything.
#
#   sh sdk/frontend/root.sh target/release/koskit target/frontend
set -eu
koskit=$1 root=$2
rm -rf "$root"
mkdir -p "$root/bin"
# What a debugger reads is most of it.
strip --strip-debug -o "$root/bin/koskit" "$koskit"
# Lines are `name => /path (address)`, or `/path (address)` for the loader.
ldd "$koskit" | sed -n 's|^[^/]*\(/[^ ]*\) (0x[0-9a-f]*)$|\1|p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
