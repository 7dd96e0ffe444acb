#!/usr/bin/env bash
# Evaluate causal language models on the downstream tasks, from the samples to the figures (paper section 7).
#
#   bash downstream.sh MODEL [MODEL ...]                       # hub names or directories, relative to the folder Measuring
#   TASKS="ruler_qa1 ruler_vt" MAX_LENGTHS="8192 16384" bash downstream.sh MODEL --visible_fractions 0.25 0.5 0.75 1
#   GENERATE_FLAGS="--squad dev-v2.0.json --words words.txt" bash downstream.sh MODEL
#   bash downstream.sh --submit MODEL [MODEL ...]              # on a cluster: an array of the missing cells, then --collect
#   sbatch --array=0-7%4 --gres=gpu:1 downstream.sh MODEL [MODEL ...]
#
# A cell is a model, a task and a length; --missing names those without a result, --collect draws the others. Flags:
# python -m downstream.sweep --help. Cost: see downstream/README.md. Started again, it does what is missing.
#SBATCH --job-name=downstream
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=downstream_%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/evaluate_tasks.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder or the one above}
[[ ! -f $here/downstream/evaluate_tasks.py ]] || here=$here/downstream  # Slurm runs a copy
cd "$here"
source ../launching.sh
cd ..
exec "$PYTHON" -m downstream.sweep "$@"
