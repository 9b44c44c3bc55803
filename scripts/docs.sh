#!/usr/bin/env bash
# Builds the API reference from the docstrings: bash scripts/docs.sh [folder, build/api if left out]
set -euo pipefail
cd "$(dirname "$0")/.."
target="${1:-build/api}"
source scripts/environment.sh docs
python -W error::UserWarning scripts/api_reference.py "$target"
