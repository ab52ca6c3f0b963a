#!/usr/bin/env bash
# Builds evenly with what its compiler learns from real load (profile-guided optimisation):
#
#     loadtest/pgo.sh [FOLDER]        default: target/pgo; the program is then FOLDER/use/release/evenly
#
# An instrumented build serves each shape of load for two seconds, its counts are merged by llvm-profdata of the very
# LLVM that rustc has, and evenly is built again with them. docs/benchmarks.md says what that gains here.

set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/pgo}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# Nobody else's: an address of this script's own.
readonly LISTEN=127.0.0.77:18080
readonly SHAPES="bare browser 10k 64k 1m post upload close"

major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profdata() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    for tool in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "/usr/lib/llvm-$major/bin/llvm-profdata"; do
        [ -x "$tool" ] && echo "$tool" && return
    done
    return 1
}
if ! profdata >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing llvm-$major"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "llvm-$major" >/dev/null || true
fi
merge=$(profdata) || {
    echo "llvm-profdata $major is missing; install it with one of:" >&2
    echo "    rustup component add llvm-tools" >&2
    echo "    sudo apt-get install -y llvm-$major" >&2
    exit 2
}

rm -rf "$folder/raw"
mkdir -p "$folder/raw"
echo "building the program that drives evenly"
cargo build --release -p loadtest
echo "building with counters"
RUSTFLAGS="-Cprofile-generate=$folder/raw" cargo build --release -p evenly --target-dir "$folder/generate"

# train SHAPE: serves it for two seconds
train() {
    local said evenly
    said=$(mktemp)
    target/release/loadtest drive --serve 2 --target "$LISTEN" --shape "$1" --seconds 2 --connections 32 >"$said" &
    local drive=$!
    until grep -q '^origin at' "$said"; do kill -0 "$drive" && sleep 0.05; done
    read -r _ _ first _ second _ <"$said"
    "$folder/generate/release/evenly" run --listen "$LISTEN" --workers 1 --health-check-endpoint /healthz \
        --target "$first" --target "${second%,}" 2>"$folder/evenly.log" &
    evenly=$!
    wait "$drive" || { cat "$said" "$folder/evenly.log" >&2; kill "$evenly"; exit 1; }
    kill -TERM "$evenly"
    wait "$evenly"
    rm "$said"
}
for shape in $SHAPES; do
    echo "training: $shape"
    train "$shape"
done

"$merge" merge -o "$folder/evenly.profdata" "$folder"/raw/*.profraw
echo "building with what was counted"
RUSTFLAGS="-Cprofile-use=$folder/evenly.profdata" cargo build --release -p evenly --target-dir "$folder/use"
echo "built: $folder/use/release/evenly"
