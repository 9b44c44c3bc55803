# Sourced by the other scripts: makes .venv in the repository with vitask in it, once, and puts it on the PATH.
# usage: source scripts/environment.sh [extra ...]
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
extras="${1:+[$1]}"
stamp="$root/.venv/vitask${1:+-$1}.installed"
if [ ! -f "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
    echo "installing vitask$extras into $root/.venv (several GB with PyTorch; minutes on a fast line)"
    [ -x "$root/.venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$root/.venv"
    # torchvision is asked for together with torch, so that pip picks a pair that fits
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check torchvision timm --editable "$root$extras"
    touch "$stamp"
fi
PATH="$root/.venv/bin:$PATH"
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" TOKENIZERS_PARALLELISM=false
