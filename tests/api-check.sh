#!/usr/bin/env bash
# The OpenAPI document against the running program, by schemathesis (PyPI): `make api-check`. Starts evenly (PROGRAM) with a token before one
# origin, both on loopback, and ends what it has started. Says "skipped" where there is no python3 or schemathesis cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly PROGRAM=${PROGRAM:-target/debug/evenly} FOLDER=target/schemathesis EXAMPLES=${EXAMPLES:-20}
readonly RUN="$PWD/$FOLDER/venv/bin/schemathesis" CONFIG="$PWD/tests/api-check.toml" TOKEN=token-of-the-api-check
mkdir -p "$FOLDER"
if [ ! -x "$RUN" ]; then
    { timeout 120 python3 -m venv "$FOLDER/venv" && timeout 240 "$FOLDER/venv/bin/pip" install -q 'schemathesis>=4,<5'; } >"$FOLDER/pip.log" 2>&1 \
        || { echo "skipped: schemathesis cannot be installed; see $FOLDER/pip.log"; exit 0; }
fi
started=()
finish() { for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; }
trap finish EXIT
python3 -u -m http.server 0 --bind 127.0.0.1 --directory docs >"$FOLDER/origin.log" 2>&1 &
started+=($!)
for _ in $(seq 100); do
    origin=$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$FOLDER/origin.log")
    [ -z "$origin" ] || break
    sleep 0.1
done
(umask 077; echo "$TOKEN" >"$FOLDER/token")
cat >"$FOLDER/evenly.toml" <<END
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
socket = "off"
token_file = "$PWD/$FOLDER/token"
[[targets]]
address = "127.0.0.1:$origin"
END
"$PROGRAM" run "$FOLDER/evenly.toml" 2>"$FOLDER/evenly.log" &
started+=($!)
for _ in $(seq 100); do
    admin=$(sed -n 's|.*admin listening on http://||p' "$FOLDER/evenly.log")
    [ -z "$admin" ] || break
    sleep 0.1
done
# It leaves files where it runs. What ends the process, or starts another one, is left out.
cd "$FOLDER"
timeout 240 "$RUN" --config-file "$CONFIG" run "http://$admin/openapi.json" --url "http://$admin" -H "Authorization: Bearer $TOKEN" -n "$EXAMPLES" --seed 1 \
    --exclude-path /drain --exclude-path /undrain --exclude-path /upgrade \
    --phases examples,coverage,fuzzing \
    --warnings off --max-failures 5 --suppress-health-check all "$@"
