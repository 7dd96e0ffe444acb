#!/usr/bin/env bash
# Train a grid of runs of train_model.py, or with --trainer of train_transformer.py or train_retrieval.py, one process a
# cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_model.sh                                     # all cells, as many at once as there are slots
#   bash train_model.sh --num_epochs 400                    # more flags go to train_model.py
#   SEEDS="0 1 2" TRAIN_SIZES="40000 85000" bash train_model.sh
#   bash train_model.sh --submit --num_epochs 400           # on a cluster: an array of the missing cells, then --collect
#   bash train_model.sh --collect --num_epochs 400          # table and figures of the finished cells; names the missing
#   sbatch --array=0-47%8 train_model.sh                    # by hand, from this folder: one cell a task
#
# sweep.py has the grid and explains its flags and variables. Cost of the paper's grid as it stands there: 48 runs,
# 400,000 optimizer steps, under 1 GB of GPU memory a run.
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
"$PYTHON" sweep.py "$@"
