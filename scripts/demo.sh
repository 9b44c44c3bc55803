#!/usr/bin/env bash
# Sets up an environment and shows the method on a laptop: bash scripts/demo.sh [vitask ablate overrides]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh "" # without it, bash would hand this script's own arguments on
vitask ablate demo "$@"
