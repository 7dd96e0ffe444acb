#!/usr/bin/env bash
# The language-model experiments, one part after another: bash reproduce.sh [smoke|small|paper]
#SBATCH --job-name=reproduce_language
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=reproduce_language_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -d $here/Measuring ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source Measuring/launching.sh
[[ $# -le 1 ]] || { echo "reproduce.sh: give a preset alone, not $2 too" >&2; exit 2; }
bash ContextLengthScalingTrainingExps/nanoGPT/reproduce.sh "${1:-small}"
bash Measuring/reproduce.sh "${1:-small}"  # measures the model that the first part trained
