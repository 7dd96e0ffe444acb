#!/usr/bin/env bash
# Train the grid below, one run a cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_sweep.sh                                      # all cells, as many at once as there are slots
#   TRAIN_TOKENS="20000000 80000000" SEEDS="0 1" bash train_sweep.sh --compile      # more flags go to train.py
#   bash train_sweep.sh --submit --compile                   # on a cluster: an array of the missing cells, then --collect
#   bash train_sweep.sh --collect                            # table and figure of the finished cells; names the missing
#   sbatch --array=0-32%8 --gres=gpu:8 train_sweep.sh        # by hand, from this folder: one cell a task, on all its GPUs
#
# A slot is GPUS_PER_RUN of the visible GPUs or, without one, CORES_PER_RUN cores.
# Cost of the paper's grid as it stands here: 33 runs, each of 10 to 30 passes over up to 80 million tokens.
#SBATCH --job-name=train_sweep
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=train_sweep_%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-384 512 768 1024 1536 2048 3072 5120 7680 10240 15360}
TRAIN_TOKENS=${TRAIN_TOKENS:-20000000 40000000 80000000}
SEEDS=${SEEDS:-0}
TRAIN_BIN=${TRAIN_BIN:-data/openwebtext/LONGCONTEXTSUBSET_train_P10.0_SFrom0.0.bin}
OUT_DIR=${OUT_DIR:-outputs/runs}
CORES_PER_RUN=${CORES_PER_RUN:-1}

mode=run
case ${1:-} in --submit | --collect) mode=${1#--}; shift ;; esac
cells=() results=()
for seed in $SEEDS; do for tokens in $TRAIN_TOKENS; do for length in $CONTEXT_LENGTHS; do
    cells+=("--context_length $length --train_tokens $tokens --seed $seed")
    results+=("$OUT_DIR/ctl${length}_tok${tokens}_seed$seed/final.json")  # as run_tag of run.py has it
done; done; done

train() {  # cell number, number of GPUs, flags ...
    local cell=$1 gpus=$2 launch=(); shift 2
    (( gpus < 2 )) || launch=(-m torch.distributed.run --standalone --nproc_per_node "$gpus")
    # shellcheck disable=SC2086  # a cell is several words
    "$PYTHON" ${launch[@]+"${launch[@]}"} train.py ${cells[cell]} --train_bin "$TRAIN_BIN" --out_dir "$OUT_DIR" "$@"
}

collect() {
    local out code=0
    out=$(dirname "$OUT_DIR")
    # shellcheck disable=SC2086
    "$PYTHON" collect_results.py --runs "$OUT_DIR" --out_csv "$out/sweep.csv" \
        --context_lengths $CONTEXT_LENGTHS --train_tokens $TRAIN_TOKENS --seeds $SEEDS || code=$?
    (( code < 2 )) || return "$code"
    "$PYTHON" draw_loss_vs_context.py --results "$out/sweep.csv" --out_dir "$out/figures"
    return "$code"  # 1 where runs are missing
}

case $mode in
submit) submit_cells train_sweep.sh "$@" ;;
collect) collect ;;
run) run_cells train_sweep.sh "$OUT_DIR/logs" "$@" ;;
esac
