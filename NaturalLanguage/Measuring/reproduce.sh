#!/usr/bin/env bash
# Measuring language models, from a corpus to the figures: bash reproduce.sh [smoke|small|paper]
#
#   smoke   every step once, on the model of the training part's smoke preset
#   small   the default: the model that the training part's small preset trained, on its validation documents
#   paper   LLaMA-3.1-8B, Qwen3-8B-Base and RecurrentGemma-9B on OpenWebText: a GPU, a network, accepted licences
#
# Writes outputs/PRESET (OUT to change it) and does only what is missing there. MODEL and TOKENS (its validation tokens)
# name another model of the training part. The capital names of measure.sh can be set too.
#SBATCH --job-name=reproduce_measuring
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=reproduce_measuring_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/measurement.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

[[ $# -le 1 ]] || { echo "reproduce.sh: give a preset alone, not $2 too; its head names variables" >&2; exit 2; }
PRESET=${1:-small}
trained=../ContextLengthScalingTrainingExps/nanoGPT/outputs/$PRESET
export OUT=${OUT:-outputs/$PRESET}
case $PRESET in
smoke)
    MODEL=${MODEL:-$trained/models/ctl64}
    export FEATURE_LENS=${FEATURE_LENS:-1 4 16 32} SEQ_LENS=${SEQ_LENS:-1 4 8 16 32} N_SAMPLES=${N_SAMPLES:-100}
    export CHUNKS=${CHUNKS:---window 33 --stride 8 --trim 0 0} DRAWS=${DRAWS:-2} DEVICE=${DEVICE:-cpu} ;;
small)
    MODEL=${MODEL:-$trained/models/ctl512}
    export FEATURE_LENS=${FEATURE_LENS:-1 2 4 8 16 32 64 128 256} SEQ_LENS=${SEQ_LENS:-1 2 4 8 16 32 64 128 256}
    export N_SAMPLES=${N_SAMPLES:-10000} CHUNKS=${CHUNKS:---window 257 --stride 64} DRAWS=${DRAWS:-10} ;;
paper)  # as the paper, without three outliers of RecurrentGemma-9B at very short context
    export EXCLUDE=${EXCLUDE-recurrentgemma-9b:8 recurrentgemma-9b:12 recurrentgemma-9b:16}
    bash measure.sh meta-llama/Llama-3.1-8B Qwen/Qwen3-8B-Base google/recurrentgemma-9b
    exit ;;
*)
    echo "reproduce.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac
if [[ -z ${TOKENS:-} ]]; then
    for TOKENS in "$trained"/data/LONGCONTEXTSUBSET_val_*.bin; do :; done
fi
if [[ ! -f $MODEL/config.json || ! -f $TOKENS ]]; then
    echo "reproduce.sh: there is no model $MODEL with its tokens $TOKENS; train it first:" \
        "bash ../ContextLengthScalingTrainingExps/nanoGPT/reproduce.sh $PRESET" >&2
    exit 2
fi
if [[ -n ${DATA:-} ]]; then
    bash measure.sh "$MODEL"
else
    bash measure.sh "$MODEL" -- --source tokens --tokens_file "$TOKENS" --min_tokens 0
fi
