#!/usr/bin/env bash
# How the long context is made, from nothing to tables and figures: bash reproduce_long_context.sh [smoke|small|paper]
#
#   smoke   every step once; learns nothing      small   the default: 2 layers, 2 cores      paper   its model, GPUs
#
# Writes outputs/long_context_PRESET (OUT to change it), and does only what is missing there. SEEDS="0 1 2" for more seeds,
# STEPS for some of: time memory memory_text positions mixes tuning sweeps. Flags behind the preset go to train.py. As many
# seeds train at once as there are slots (CORES_PER_RUN, GPUS_PER_RUN; see sweep.py).
#SBATCH --job-name=reproduce_long_context
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=reproduce_long_context_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
PRESET=${1:-small}; [[ $# -eq 0 ]] || shift
refuse_modes "$@"
OUT=${OUT:-outputs/long_context_$PRESET} SEEDS=${SEEDS:-0} more=("$@")
source long_context_presets.sh
source long_context_corpus.sh
source long_context_steps.sh

train() {  # NAME FLAGS: a run of train.py for each seed, as many at once as there are slots
    local name=$1; shift
    # shellcheck disable=SC2086  # a list of numbers
    run "$PYTHON" sweep.py --out_dir "$OUT/$name" --seeds $SEEDS "${model[@]}" "$@" ${more[@]+"${more[@]}"}
}
evaluate() { local name=$1; shift; run "$PYTHON" evaluate_long_context.py --out_csv "$OUT/$name.csv" "$@"; }
sweep() {  # NAME FLAGS: a sweep of train_sweep.sh with its table
    local name=$1; shift
    OUT_DIR=$OUT/sweep_$name run bash train_sweep.sh "${model[@]}" ${sweeping[@]+"${sweeping[@]}"} "$@" \
        ${more[@]+"${more[@]}"}
    run "$PYTHON" collect_results.py --runs "$OUT/sweep_$name" --out_csv "$OUT/$name.csv"
}
draw() {  # the figures of what is there
    local name tables=() costs=() sweeps=()
    for name in memory memory_text positions mixes; do
        [[ ! -f $OUT/$name.csv ]] || tables+=("--$name" "$OUT/$name.csv")
    done
    for name in full shifted_sparse dilated sliding_window; do
        [[ ! -f $OUT/$name.csv ]] || sweeps+=("$name=$OUT/$name.csv")
    done
    [[ ! -f $OUT/time.csv ]] || costs=(--time "$OUT/time.csv")
    [[ -z ${sweeps[*]-} ]] || costs+=(--sweeps "${sweeps[@]}")
    [[ -z ${tables[*]-} ]] || run "$PYTHON" draw_long_context.py "${tables[@]}" --out_dir "$OUT/figures"
    [[ -z ${costs[*]-} ]] || run "$PYTHON" draw_attention.py "${costs[@]}" --out_dir "$OUT/figures"
}

STEPS=${STEPS:-time memory memory_text positions mixes tuning sweeps}
for step in $STEPS; do
    declare -F "measure_$step" > /dev/null || { echo "reproduce_long_context.sh: there is no step $step" >&2; exit 2; }
done
for step in $STEPS; do say "$step"; "measure_$step"; done
draw
