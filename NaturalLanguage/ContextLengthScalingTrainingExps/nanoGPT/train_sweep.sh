#!/usr/bin/env bash
# Train the grid of sweep.py, one run a cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_sweep.sh --dry_run                            # memory and time of a step at each length, cost of the grid
#   bash train_sweep.sh                                      # all cells, as many at once as there are slots
#   TRAIN_TOKENS="200000000 750000000" SEEDS="0 1" bash train_sweep.sh --n_layer 12   # more flags go to train.py
#   bash train_sweep.sh --submit                             # on a cluster: an array of the missing cells, then --collect
#   bash train_sweep.sh --missing                            # names the cells without a result
#   bash train_sweep.sh --collect                            # table and figure of the finished cells; names the missing
#                                                            # (both by the flags given, those of train.py too)
#   sbatch --array=0-65%8 --gres=gpu:8 train_sweep.sh        # by hand, from this folder: one cell a task, on all its GPUs
#
# CONTEXT_LENGTHS, TRAIN_TOKENS, SEEDS, TRAIN_BIN, OUT_DIR in the environment are the defaults of sweep.py's flags.
# A slot is GPUS_PER_RUN of the visible GPUs or, without one, CORES_PER_RUN cores.
# Cost of the paper's grid as it stands there: 66 runs, each of 10 to 30 passes over up to 750 million tokens.
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
exec "$PYTHON" sweep.py "$@"
