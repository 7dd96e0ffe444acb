#!/usr/bin/env bash
# Measure causal language models, from a corpus to the figures: cross entropy, hidden states, entropy, dimension.
#
#   bash measure.sh MODEL [MODEL ...]                        # hub names or directories, one after another
#   DATA="--source text --text_files my/*.txt --percent 100" bash measure.sh path/to/model
#   bash measure.sh --submit MODEL [MODEL ...]               # on a cluster: an array of those not measured, then --collect
#   bash measure.sh --collect MODEL [MODEL ...]              # the figures with all that are measured; names the missing
#   sbatch --array=0-2%3 --gres=gpu:1 measure.sh meta-llama/Llama-3.1-8B Qwen/Qwen3-8B-Base google/recurrentgemma-9b
#
# One model a task of an array. With several GPUs each measures a part of the chunks; DEVICE_MAP=auto spreads one model
# over them instead.
# Cost of the settings below for a model of 8B parameters in bfloat16: see the README. Started again, it does what is missing.
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

DATA=${DATA:---percent 10 --max_documents 12000 --splits train}    # flags of prepare_data.py
FEATURE_LENS=${FEATURE_LENS:-8 12 16 24 32 48 64 128 256 512}      # context lengths with hidden states and entropy
SEQ_LENS=${SEQ_LENS:-8 12 16 24 32 48 64 128 256 384 512 768 1024} # context lengths with a cross entropy
N_SAMPLES=${N_SAMPLES:-10000}
CHUNKS=${CHUNKS:-}                                                 # flags such as --window 513 --stride 64 --trim 0 0
DRAWS=${DRAWS:-20}
OUT=${OUT:-outputs}
DEVICE=${DEVICE:-auto}
DEVICE_MAP=${DEVICE_MAP:-}

mode=run
case ${1:-} in --submit | --collect) mode=${1#--}; shift ;; esac
(( $# > 0 )) || { echo "measure.sh: name at least one model: bash measure.sh MODEL [MODEL ...]" >&2; exit 2; }
results=()
for model in "$@"; do results+=("$OUT/$(basename "$model")/measured"); done  # there when it is done

draw() {  # the folder for the figures, folders of results ...
    local figures=$1; shift
    say figures
    run "$PYTHON" draw_CE_vs_context.py --results "$@" --out_dir "$figures"
    # shellcheck disable=SC2086  # a list
    run "$PYTHON" draw_CE_vs_entropy.py --results "$@" --out_dir "$figures" --exclude ${EXCLUDE:-}
    run "$PYTHON" draw_CEvsPCA/draw_IntrinsicDim.py --results "$@" --out_dir "$figures"
    run "$PYTHON" draw_CEvsPCA/draw_SumLogEigval.py --results "$@" --out_dir "$figures"
}

case $mode in
submit)
    submit_cells measure.sh "$@"
    exit ;;
collect)
    measured=() missing=()
    for result in "${results[@]}"; do
        if [[ -e $result ]]; then measured+=("${result%/*}"); else missing+=("$(basename "${result%/*}")"); fi
    done
    (( ${#measured[@]} == 0 )) || draw "$OUT/figures" "${measured[@]}"
    (( ${#missing[@]} == 0 )) || { echo "missing: ${missing[*]}" >&2; exit 1; }
    exit ;;
esac

index=${SLURM_ARRAY_TASK_ID:-${IDX:-}}
if [[ -n $index ]]; then
    (( index < $# )) || { echo "measure.sh: $# models, no model $index: use --array=0-$(( $# - 1 ))" >&2; exit 2; }
    set -- "${@:index + 1:1}"
fi

gpus=0
[[ $DEVICE != auto ]] || gpus=$("$PYTHON" -c "import torch; print(torch.cuda.device_count())")
launch=()
if [[ -n $DEVICE_MAP ]]; then DEVICE_MAP="--device_map $DEVICE_MAP"
elif (( gpus > 1 )); then launch=(-m torch.distributed.run --standalone --nproc_per_node "$gpus"); fi

measured=()
for model in "$@"; do
    name=$(basename "$model")
    say "$model"
    # shellcheck disable=SC2086  # lists of flags
    run "$PYTHON" prepare_data.py --model_name "$model" --save_path "$OUT/data/$name" $DATA
    # shellcheck disable=SC2206
    flags=(--model_name "$model" --dataset_path "$OUT/data/$name" --n_samples "$N_SAMPLES" --device "$DEVICE"
           --out_dir "$OUT/$name" $CHUNKS $DEVICE_MAP)
    # shellcheck disable=SC2086  # features first: their pass gives losses too, which are then not measured again
    run "$PYTHON" ${launch[@]+"${launch[@]}"} save_mid_features.py --seq_lens $FEATURE_LENS "${flags[@]}"
    # shellcheck disable=SC2086
    run "$PYTHON" ${launch[@]+"${launch[@]}"} evaluate_CE.py --seq_lens $SEQ_LENS "${flags[@]}"
    run "$PYTHON" compute_eigvals.py "$OUT/$name" --device "$DEVICE"
    run "$PYTHON" measure_entropy.py "$OUT/$name" --device "$DEVICE" --draws "$DRAWS"
    : >"$OUT/$name/measured"
    measured+=("$OUT/$name")
done
figures=$OUT/figures
[[ -z $index ]] || figures=$OUT/figures/$(basename "$1")  # tasks of an array do not draw over each other
draw "$figures" "${measured[@]}"
