#!/usr/bin/env bash
# Train the grid below, one process a cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_model.sh                                     # all cells, as many at once as there are slots
#   bash train_model.sh --num_epochs 400                    # more flags go to train_model.py
#   SEEDS="0 1 2" TRAIN_SIZES="40000 85000" bash train_model.sh
#   bash train_model.sh --submit --num_epochs 400           # on a cluster: an array of the missing cells, then --collect
#   bash train_model.sh --collect                           # table and figures of the finished cells; names the missing
#   sbatch --array=0-47%8 train_model.sh                    # by hand, from this folder: one cell a task
#
# A slot is a visible GPU (RUNS_PER_GPU of them on each) or, without one, CORES_PER_RUN cores.
# Cost of the paper's grid as it stands here: 48 runs, 400,000 optimizer steps, under 1 GB of GPU memory a run.
#SBATCH --job-name=train_model
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --output=train_model_%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train_model.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-27 32 36 43 63 94}
TRAIN_SIZES=${TRAIN_SIZES:-2000000 400000 200000 150000 100000 85000 75000 50000}
WEIGHT_DECAYS=${WEIGHT_DECAYS:-8e-4}
SEEDS=${SEEDS:-0}
SAVE_POSITION=${SAVE_POSITION:-outputs/runs}
RUNS_PER_GPU=${RUNS_PER_GPU:-4}
CORES_PER_RUN=${CORES_PER_RUN:-1}

mode=run
case ${1:-} in --submit | --collect) mode=${1#--}; shift ;; esac
model=mlp
if [[ " $* " == *" --use_bi_mlp "* ]]; then model=bi_mlp; fi
if [[ " $* " =~ " --model "([a-z_]+) ]]; then model=${BASH_REMATCH[1]}; fi
cells=() results=()
for seed in $SEEDS; do for decay in $WEIGHT_DECAYS; do for size in $TRAIN_SIZES; do for length in $CONTEXT_LENGTHS; do
    cells+=("--context_length $length --train_dataset_size $size --weight_decay $decay --seed $seed")
    run=${model}_ctl${length}_train${size}_wd$(LC_ALL=C printf %g "$decay")_seed$seed  # as run_tag of runs.py has it
    results+=("$SAVE_POSITION/$run/final.json")
done; done; done; done

train() {  # cell number, number of GPUs, flags ...
    local cell=$1; shift 2
    # shellcheck disable=SC2086  # a cell is several words
    "$PYTHON" train_model.py ${cells[cell]} --save_position "$SAVE_POSITION" --threads "$CORES_PER_RUN" "$@"
}

collect() {
    local out code=0
    out=$(dirname "$SAVE_POSITION")
    # shellcheck disable=SC2086
    "$PYTHON" collect_results.py --runs "$SAVE_POSITION" --out_csv "$out/sweep.csv" --model "$model" --seeds $SEEDS \
        --context_lengths $CONTEXT_LENGTHS --train_dataset_sizes $TRAIN_SIZES --weight_decays $WEIGHT_DECAYS || code=$?
    (( code < 2 )) || return "$code"
    "$PYTHON" draw_loss_vs_context.py --results "$out/sweep.csv" --out_dir "$out/figures"
    "$PYTHON" draw_training_curves.py --results "$out/sweep_curves.csv" --out_dir "$out/figures"
    return "$code"  # 1 where runs are missing
}

case $mode in
submit) submit_cells train_model.sh "$@" ;;
collect) collect ;;
run) run_cells train_model.sh "$SAVE_POSITION/logs" "$@" ;;
esac
