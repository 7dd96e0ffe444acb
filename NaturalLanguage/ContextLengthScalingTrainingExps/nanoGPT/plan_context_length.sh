#!/usr/bin/env bash
# Which context length for my texts? A pilot of small trainings within the hours given, its fit, and five lines of advice.
#
#   bash plan_context_length.sh 'my_texts/**/*.txt' --target_tokens 1e9 --hours 2
#   bash plan_context_length.sh 'my_texts/**/*.txt' --target_tokens 1e9 --hours 2 --dry_run   # the plan and its cost alone
#   bash plan_context_length.sh 'my_texts/**/*.txt' --target_tokens 1e9 --hours 2 --submit    # on a Slurm cluster
#   sbatch --gres=gpu:1 plan_context_length.sh 'my_texts/**/*.txt' --target_tokens 1e9        # all of it in one job
#
# Paths are those of the folder that this is called from. Started again it goes on. Cost: the hours given, at most; an
# hour of the small model takes 0.3 GB of memory, the corpus 2 to 4 bytes a token on the disk.
#SBATCH --job-name=plan_context_length
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=plan_context_length_%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
export CALLED_FROM=${CALLED_FROM:-$PWD}
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
exec "$PYTHON" plan_context_length.py "$@"
