#!/usr/bin/env bash
# Redraw this part's figures from the committed results: bash redraw_figures.sh [FOLDER, by default outputs/redrawn]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python}
out=${1:-outputs/redrawn}
for name in small wikitext; do
    "$PYTHON" draw_loss_vs_context.py --results "results/$name/sweep.csv" --out_dir "$out/$name"
done
"$PYTHON" draw_loss_vs_context.py --results results/plan_example/sweep.csv --by_seed --out_dir "$out/plan_example"
"$PYTHON" draw_paired_losses.py --results results/optimum/{sweep,seeds,larger,ends,largest}.csv --shorter 16 \
    --longer 1024 --out_dir "$out/optimum"
"$PYTHON" draw_paired_losses.py --results results/optimum_code/grid.csv --shorter 128 --longer 512 \
    --out_dir "$out/optimum_code"
"$PYTHON" draw_loss_vs_context.py --results results/optimum_code/grid.csv --by_seed --out_dir "$out/optimum_code"
for name in synthetic small wikitext code; do
    "$PYTHON" draw_optimal_context.py --fit "results/optimal_context/$name/fit.json" --out_dir "$out/optimal_context/$name"
done
"$PYTHON" draw_attention.py --time results/long_context/time.csv --out_dir "$out/long_context" --sweeps \
    full=results/long_context/full.csv sliding_window=results/long_context/sliding_window.csv \
    dilated=results/long_context/dilated.csv
costs=(); for name in full sliding_window dilated shifted_sparse; do costs+=("$name=results/long_context/costs/$name.csv"); done
"$PYTHON" draw_attention.py --sweeps "${costs[@]}" --out_dir "$out/long_context/costs"
"$PYTHON" draw_long_context.py --memory results/long_context/memory.csv --positions results/long_context/positions.csv \
    --mixes results/long_context/mixes.csv --memory_text results/long_context/memory_text.csv --out_dir "$out/long_context"
"$PYTHON" draw_optimal_context.py --fit results/plan_example/fit.json --out_dir "$out/plan_example"
