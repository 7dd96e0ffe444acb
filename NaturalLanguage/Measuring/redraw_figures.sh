#!/usr/bin/env bash
# Redraw this part's figures from the committed results: bash redraw_figures.sh [FOLDER, by default outputs/redrawn]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python}
out=${1:-outputs/redrawn}
models=(results/small/ctl512 results/small/ctl512_long)
for script in draw_CE_vs_context.py draw_CE_vs_entropy.py draw_CEvsPCA/draw_IntrinsicDim.py draw_CEvsPCA/draw_SumLogEigval.py; do
    "$PYTHON" "$script" --results "${models[@]}" --out_dir "$out/small/figures"
done
"$PYTHON" draw_line_in_training.py --results results/training/tok{1,4,16,64}000000 --train_tokens 1e6 4e6 16e6 64e6 \
    --out_dir "$out/training/figures"
"$PYTHON" draw_CE_vs_context.py --results results/reported/Llama-3.1-8B --out_dir "$out/reported/figures"
"$PYTHON" -m downstream.draw_by_seed --results downstream/results/small/answers.csv --out_dir "$out/downstream/small/figures"
