#!/usr/bin/env bash
# Small models that retrieve from their context, from nothing: bash reproduce_retrieval.sh [smoke|small]
#
#   smoke   every step once; learns nothing
#   small   the default: key-value recall (asked for uniformly, mostly at the ends, and uniformly with fewer and more
#           values), variable tracking and label maps, a model of each seed, half a minute of one core each
#
# Writes outputs/retrieval_PRESET (OUT to change it), the models as OUT/models/NAME_seedN, and does only what is missing
# there. KINDS="key_value_uniform" and SEEDS="0 1" for fewer. Flags behind the preset go to train.py.
#SBATCH --job-name=reproduce_retrieval
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=reproduce_retrieval_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
PRESET=${1:-small}; [[ $# -eq 0 ]] || shift
refuse_modes "$@"
length=128
model=(--n_layer 2 --n_head 2 --n_embd 64 --untied --init_std 0.07 --document_mask --weight_decay 0.01 --threads 1
    --tokens_per_step 2048 --full_context_targets 128 --learning_rate 3e-3 --min_lr 3e-4 --patience 100)
case $PRESET in
smoke)
    tokens=4000
    steps=(--warmup_iters 2 --max_iters 4 --lr_decay_iters 4 --eval_interval 2 --eval_tokens 1024) ;;
small)
    tokens=2000000
    steps=(--warmup_iters 50 --max_iters 700 --lr_decay_iters 700 --eval_interval 100 --eval_tokens 8192) ;;
*)  echo "reproduce_retrieval.sh: unknown preset $PRESET; use smoke or small" >&2; exit 2 ;;
esac
OUT=${OUT:-outputs/retrieval_$PRESET}
KINDS=${KINDS:-key_value_uniform key_value_ends values_4 values_64 variables labels}
export SEEDS=${SEEDS:-1 2 3} CONTEXT_LENGTHS=$length TRAIN_TOKENS=$tokens

for kind in $KINDS; do
    case $kind in
    key_value_uniform)  task=key_value documents=(--max_units 32 --n_queries 8) ;;
    key_value_ends)     task=key_value documents=(--max_units 32 --n_queries 8 --gold ends) ;;
    values_4 | values_64)
        task=key_value documents=(--max_units 32 --n_queries 8 --n_values "${kind#values_}") ;;
    variables)          task=variables documents=(--max_units 16) ;;
    labels)             task=labels documents=(--max_units 6) ;;
    *)  echo "reproduce_retrieval.sh: unknown kind $kind in KINDS" >&2; exit 2 ;;
    esac
    say "$kind"
    run "$PYTHON" data/retrieval/prepare.py --task "$task" "${documents[@]}" --train_tokens "$tokens" \
        --val_tokens 50000 --test_documents 100 --out_dir "$OUT/data/$kind"
    export TRAIN_BIN=$OUT/data/$kind/${task}_train.bin OUT_DIR=$OUT/$kind/runs
    run bash train_sweep.sh "${model[@]}" "${steps[@]}" "$@"
    for seed in $SEEDS; do
        run "$PYTHON" export_hf.py "$OUT_DIR"/*"_seed$seed" --out_dir "$OUT/models/${kind}_seed$seed"
    done
done
