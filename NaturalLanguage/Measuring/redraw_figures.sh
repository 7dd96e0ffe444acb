#!/usr/bin/env bash
# Redraw this part's figures from the committed results: bash redraw_figures.sh [FOLDER, by default outputs/redrawn]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python}
out=${1:-outputs/redrawn}
models=(results/small/ctl512 results/small/ctl512_long)
"$PYTHON" draw_CE_vs_context.py --results "${models[@]}" --out_dir "$out/small"
"$PYTHON" draw_CE_vs_entropy.py --results "${models[@]}" --out_dir "$out/small"
for model in "${models[@]}"; do  # one at a time, as their figures were drawn
    "$PYTHON" draw_CEvsPCA/draw_IntrinsicDim.py --results "$model" --out_dir "$out/small"
    "$PYTHON" draw_CEvsPCA/draw_SumLogEigval.py --results "$model" --out_dir "$out/small"
done
"$PYTHON" draw_CE_vs_context.py --results results/reported/Llama-3.1-8B --out_dir "$out/reported"
