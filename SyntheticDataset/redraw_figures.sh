#!/usr/bin/env bash
# Redraw this part's figures from the committed results: bash redraw_figures.sh [FOLDER, by default outputs/redrawn]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python}
out=${1:-outputs/redrawn}
for name in small many_sizes transformer_optimum; do
    "$PYTHON" draw_loss_vs_context.py --results "results/$name/sweep.csv" --out_dir "$out/$name"
done
for name in small transformer_optimum; do
    "$PYTHON" draw_training_curves.py --results "results/$name/sweep_curves.csv" --out_dir "$out/$name"
done
"$PYTHON" draw_intrinsic_dimension.py --measures results/small/measures --out_dir "$out/small"
for name in transformer_small transformer_paper transformer_unsettled; do
    "$PYTHON" draw_entropy_vs_loss.py --measures "results/$name/measures" --table1 "results/$name/table1.csv" \
        --out_dir "$out/$name"
done
"$PYTHON" draw_position_weighted.py --results results/retrieval/grids.pt --out_dir "$out/retrieval" \
    --measures results/retrieval/measures/measures.csv
