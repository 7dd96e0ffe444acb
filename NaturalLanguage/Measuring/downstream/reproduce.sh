#!/usr/bin/env bash
# Context at inference, from nothing to the figures: bash reproduce.sh [smoke|small|paper]
#
#   smoke   every task and every figure once, with a random chat model (minutes of a CPU; scores are near chance)
#   small   the default: small models of symbols, trained here by the training part or, with MODELS, in that folder
#   paper   Qwen3 0.6B, 1.7B, 4B and 8B, non-thinking, at 8k and 16k (Figs. 3, 4, 5, 8): a GPU; SQUAD and WORDS name files
#
# Writes Measuring/outputs/downstream/PRESET (OUT to change it; Figs. 3 and 4 of paper: its folder position_weighted),
# does only what is missing there. On a cluster: sbatch reproduce.sh PRESET; the paper's: downstream.sh --submit.
#SBATCH --job-name=reproduce_downstream
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=reproduce_downstream_%j.log
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
[[ $# -le 1 ]] || { echo "reproduce.sh: give a preset alone, not $2 too; its head names variables" >&2; exit 2; }
PRESET=${1:-small} OUT=${OUT:-outputs/downstream/${1:-small}}
sweep() { run "$PYTHON" -m downstream.sweep --out_dir "$OUT" "$@"; }
case $PRESET in
smoke)
    export TASKS=${TASKS:-ruler_qa1 ruler_cwe ruler_fwe ruler_vt two_needles kv_retrieval multi_document_qa helmet_recall
        helmet_rag helmet_rerank helmet_icl}
    export GENERATE_FLAGS=${GENERATE_FLAGS:---new_tokens 12} MAX_LENGTHS=${MAX_LENGTHS:-2048}
    [[ -n ${MODEL:-} ]] || run "$PYTHON" -m downstream.make_random_model --out_dir "$OUT/random_qwen3"
    sweep "${MODEL:-$OUT/random_qwen3}" --n 4 --visible_fractions 0.25 1 --device cpu ;;
small)
    training=../ContextLengthScalingTrainingExps/nanoGPT
    [[ -n ${MODELS:-} ]] || run bash "$training/reproduce_retrieval.sh" small
    evaluate() {  # beginning of the models' names, task, lengths, further flags for the samples, visible fractions
        MAX_LENGTHS=$3 GENERATE_FLAGS="--style symbols --new_tokens 1 $4" sweep \
            "${MODELS:-$training/outputs/retrieval_small/models}/$1"*_seed* --tasks "$2" --n "${N_SAMPLES:-2000}" \
            --visible_fractions "${@:5}" --no-figures --no-generate --no-share --no-features
    }
    evaluate key_value kv_retrieval "18 34 66" "" 1
    for name in key_value values; do evaluate "$name" two_needles 66 "" 0.125 0.25 0.375 0.5 0.625 0.75 0.875 1; done
    evaluate variables ruler_vt 51 "" 0.25 0.5 0.75 1
    evaluate labels helmet_icl 50 "--keys x[0-9]+ --values_pattern y[0-9]+" 0.25 0.5 0.75 1
    run "$PYTHON" -m downstream.collect_answers --runs "$OUT"/runs/*/* --out_csv "$OUT/answers.csv"
    run "$PYTHON" -m downstream.draw_by_seed --results "$OUT/answers.csv" --out_dir "$OUT/figures" ;;
paper)
    export MAX_LENGTHS=${MAX_LENGTHS:-8192 16384} TASKS=${TASKS:-ruler_qa1 ruler_cwe ruler_fwe ruler_vt two_needles}
    [[ -n ${GENERATE_FLAGS:-} || -f ${SQUAD:-} && -f ${WORDS:-} ]] || {
        echo "reproduce.sh: SQuAD's dev-v2.0.json and a word list: SQUAD=FILE WORDS=FILE bash reproduce.sh paper" >&2
        exit 2
    }
    [[ -n ${GENERATE_FLAGS:-} ]] || export GENERATE_FLAGS="--squad '$SQUAD' --words '$WORDS'"
    grid=(Qwen/Qwen3-{0.6B,1.7B,4B,8B} --tokens_per_batch "${TOKENS_PER_BATCH:-131072}")
    sweep "${grid[@]}"  # Figs. 5 and 8; then Figs. 3 and 4: enough for the widest model's entropy
    sweep "${grid[@]}" --tasks ruler_qa1 --questions 10 --n 5000 --entropy --out_dir "$OUT/position_weighted" ;;
*)  echo "reproduce.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac
