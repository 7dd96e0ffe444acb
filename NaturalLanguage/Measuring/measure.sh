#!/usr/bin/env bash
# Measure causal language models, from a corpus to the figures: cross entropy, hidden states, entropy, dimension.
#
#   bash measure.sh MODEL [MODEL ...]                        # hub names or directories, one after another
#   bash measure.sh path/to/model -- --source text --text_files "my texts/*.txt" --percent 100   # flags of prepare_data.py
#   DATA="--source text --text_files my_texts/*.txt --percent 100" bash measure.sh path/to/model # the same, quoted as here
#   bash measure.sh --submit MODEL [MODEL ...]               # on a cluster: an array of those not measured, then --collect
#   bash measure.sh --collect MODEL [MODEL ...]              # the figures with all that are measured; names the missing
#   sbatch --array=0-2%3 --gres=gpu:1 measure.sh meta-llama/Llama-3.1-8B Qwen/Qwen3-8B-Base google/recurrentgemma-9b
#
# DATA, FEATURE_LENS, SEQ_LENS, N_SAMPLES, CHUNKS, DRAWS, OUT, DEVICE, DEVICE_MAP, EXCLUDE: see python sweep.py --help.
# One model a task of an array. With several GPUs each measures a part of the chunks; DEVICE_MAP=auto spreads one model
# over them instead. Cost for a model of 8B parameters: see the README. Started again, it does what is missing.
#SBATCH --job-name=measure
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=measure_%A_%a.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/measurement.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

"$PYTHON" sweep.py "$@"
