#!/usr/bin/env bash
# Sets up an environment and runs the whole suite: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh dev
# Reports are looked at in a real browser; without one those tests are skipped.
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    timeout 600 sh -c "apt-get update && apt-get install -y --no-install-recommends chromium" >/dev/null 2>&1 ||
        echo "chromium could not be installed; tests in a browser are skipped"
fi
ruff check .
ruff format --check .
export OMP_NUM_THREADS=1
exec python -m pytest -n "${TEST_WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
