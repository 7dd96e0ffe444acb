#!/usr/bin/env bash
# Position-weighted retrieval from nothing to its figures (Figs. 3 and 4): bash reproduce_retrieval.sh [smoke|small]
#
#   smoke   every step once, under a minute; learns nothing
#   small   the default: 3 sizes x 5 seeds, about 10 s of one core each
#
# Writes outputs/retrieval_PRESET (OUT to change it) and does only what is missing there. TRAIN_SIZES="2000 8000" and
# SEEDS="0 1 2" for other cells. Flags behind the preset go to train_retrieval.py. As many train at once as there are
# slots (CORES_PER_RUN, RUNS_PER_GPU; see sweep.py).
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
refuse_modes "$@"
case $PRESET in
smoke)
    sizes="100 200" seeds="0 1" n_samples=100
    training=(--num_steps 5 --eval_interval 5 --eval_contexts 2 --test_contexts 4 --width 16 --batch_size 16) ;;
small)
    sizes="2000 4000 8000" seeds="0 1 2 3 4" n_samples=2000
    training=() ;;
*)
    echo "reproduce_retrieval.sh: unknown preset $PRESET; use smoke or small" >&2; exit 2 ;;
esac
OUT=${OUT:-outputs/retrieval_$PRESET}
export TRAIN_SIZES=${TRAIN_SIZES:-$sizes} SEEDS=${SEEDS:-$seeds} SAVE_POSITION=$OUT/runs
sweep=(sweep.py --trainer train_retrieval ${training[@]+"${training[@]}"} "$@")

run "$PYTHON" "${sweep[@]}"
run "$PYTHON" "${sweep[@]}" --collect
say "hidden states and their entropy"  # many files: the commands are not echoed
runs=() features=()  # of these sizes and seeds alone
names=$("$PYTHON" "${sweep[@]}" --list)
for name in $names; do runs+=("$OUT/runs/$name"); done
"$PYTHON" save_feature_tensor.py --model_state_dict_position "${runs[@]}" --n_samples "$n_samples" --gamma 8
for directory in "${runs[@]}"; do features+=("$directory"/features/*_gamma8_*.pt); done
"$PYTHON" measure_features.py "${features[@]}" --no-others --out_dir "$OUT/measures" | tail -n 1
run "$PYTHON" draw_position_weighted.py --results "$OUT/grids.pt" --measures "$OUT/measures/measures.csv" \
    --entropy_gamma 8 --out_dir "$OUT/figures"
