#!/usr/bin/env bash
# The language-model experiments, one part after another: bash reproduce.sh [smoke|small|paper]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash ContextLengthScalingTrainingExps/nanoGPT/reproduce.sh "${1:-small}"
bash Measuring/reproduce.sh "${1:-small}"  # measures the model that the first part trained
