#!/usr/bin/env bash
# Position-weighted retrieval from nothing to its figures (Figs. 3 and 4): bash reproduce_retrieval.sh [smoke|small]
#
#   smoke   every step once, under a minute; learns nothing
#   small   the default: 3 sizes x 5 seeds, about 10 s of one core each
#
# Writes outputs/retrieval_PRESET (OUT to change it) and does only what is missing there. TRAIN_SIZES="2000 8000" and
# SEEDS="0 1 2" for other cells. Flags behind the preset go to train_retrieval.py. On a CPU as many train at once as there
# are cores (JOBS to change it).
#SBATCH --job-name=reproduce_retrieval
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=reproduce_retrieval_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train_retrieval.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
PRESET=${1:-small}
[[ $# -eq 0 ]] || shift
case $PRESET in
smoke)
    TRAIN_SIZES=${TRAIN_SIZES:-100 200}; SEEDS=${SEEDS:-0 1}; n_samples=100
    training=(--num_steps 5 --eval_interval 5 --eval_contexts 2 --test_contexts 4 --width 16 --batch_size 16) ;;
small)
    TRAIN_SIZES=${TRAIN_SIZES:-2000 4000 8000}; SEEDS=${SEEDS:-0 1 2 3 4}; n_samples=2000
    training=() ;;
*)
    echo "reproduce_retrieval.sh: unknown preset $PRESET; use smoke or small" >&2; exit 2 ;;
esac
OUT=${OUT:-outputs/retrieval_$PRESET}
JOBS=${JOBS:-$("$PYTHON" -c "import utils; print(utils.available_cores())")}

for seed in $SEEDS; do for size in $TRAIN_SIZES; do echo --train_dataset_size "$size" --seed "$seed"; done; done |
    xargs -P "$JOBS" -n 4 "$PYTHON" train_retrieval.py --save_position "$OUT/runs" \
    ${training[@]+"${training[@]}"} "$@"
# shellcheck disable=SC2206  # lists of numbers
grid=(--runs "$OUT/runs" --train_dataset_sizes $TRAIN_SIZES --seeds $SEEDS)
run "$PYTHON" collect_retrieval.py "${grid[@]}" --out_dir "$OUT"
say "hidden states and their entropy"  # many files: the commands are not echoed
runs=() features=()  # of these sizes and seeds alone
names=$("$PYTHON" collect_retrieval.py "${grid[@]}" --list)
for name in $names; do runs+=("$OUT/runs/$name"); done
"$PYTHON" save_feature_tensor.py --model_state_dict_position "${runs[@]}" --n_samples "$n_samples" --gamma 8
for directory in "${runs[@]}"; do features+=("$directory"/features/*_gamma8_*.pt); done
"$PYTHON" measure_features.py "${features[@]}" --no-others --out_dir "$OUT/measures" | tail -n 1
run "$PYTHON" draw_position_weighted.py --results "$OUT/grids.pt" --measures "$OUT/measures/measures.csv" \
    --entropy_gamma 8 --out_dir "$OUT/figures"
