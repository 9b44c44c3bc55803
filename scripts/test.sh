#!/usr/bin/env bash
# Sets up an environment and runs the whole suite: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh dev
ruff check .
ruff format --check .
export OMP_NUM_THREADS=1
exec python -m pytest -n "${TEST_WORKERS:-2}" --dist loadfile "$@"
