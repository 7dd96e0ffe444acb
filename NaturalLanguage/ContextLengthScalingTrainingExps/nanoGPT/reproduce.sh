#!/usr/bin/env bash
# Training at many context lengths, from a corpus to its figures: bash reproduce.sh [smoke|small|paper]
#
#   smoke   every step once, under a minute; learns nothing
#   small   the default: the docstrings of the installed packages and a small model, under 12 minutes on 2 cores
#   paper   OpenWebText and the paper's model and settings: GPUs, or a cluster with sbatch --array=... train_sweep.sh first
#
# Writes outputs/PRESET (OUT to change it) and does only what is missing there. SEEDS="0 1 2" for more seeds, and so on for
# the other names in capitals below. Flags behind the preset go to train.py.
#SBATCH --job-name=reproduce_training
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=reproduce_training_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

PRESET=${1:-small}
[[ $# -eq 0 ]] || shift
case $PRESET in
smoke)
    data="--source docstrings --packages tqdm numpy --percent 100 --min_tokens 500 --tokenizer bpe:512"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-16 64}; TRAIN_TOKENS=${TRAIN_TOKENS:-20000 40000}
    model="--n_layer 2 --n_head 2 --n_embd 32"
    training="--tokens_per_step 1024 --max_iters 20 --eval_interval 10 --eval_tokens 4096 --full_context_targets 64"
    sweep="--warmup_iters 5 --learning_rate 3e-3"
    EXPORT_CONTEXT_LENGTH=${EXPORT_CONTEXT_LENGTH:-64}; longer="--warmup_iters 5 --learning_rate 3e-3 --threads 1" ;;
small)
    data="--source docstrings --percent 100 --validation_fraction 0.1 --tokenizer bpe:1024"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-1024 256 64 16}; TRAIN_TOKENS=${TRAIN_TOKENS:-200000 50000}
    model="--n_layer 2 --n_head 2 --n_embd 64"
    training="--tokens_per_step 2048 --eval_tokens 32768 --full_context_targets 1024"
    sweep="--learning_rate 3e-3 --min_lr 3e-4 --lr_decay_iters 4000 --max_iters 4000 --warmup_epochs 1"
    sweep+=" --eval_interval 25 --patience 8"
    EXPORT_CONTEXT_LENGTH=${EXPORT_CONTEXT_LENGTH:-512}
    longer="--n_embd 128 --n_head 4 --learning_rate 3e-3 --min_lr 3e-4 --warmup_iters 100"
    longer+=" --lr_decay_iters 1200 --max_iters 1200 --eval_interval 100" ;;
paper)
    data="--percent 10"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-15360 10240 7680 5120 3072 2048 1536 1024 768 512 384}
    TRAIN_TOKENS=${TRAIN_TOKENS:-80000000 40000000 20000000}
    model=""; training="--compile"; sweep=""
    EXPORT_CONTEXT_LENGTH=${EXPORT_CONTEXT_LENGTH:-5120}; longer="--max_iters 20000 --lr_decay_iters 20000" ;;
*)
    echo "reproduce.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac

OUT=${OUT:-outputs/$PRESET}
SEEDS=${SEEDS:-0}
export SEEDS CONTEXT_LENGTHS TRAIN_TOKENS

say "1/5 corpus"
# shellcheck disable=SC2086  # the presets are lists of flags
run "$PYTHON" data/openwebtext/prepare.py $data --out_dir "$OUT/data"
TRAIN_BIN=$(echo "$OUT"/data/LONGCONTEXTSUBSET_train_*.bin)
export TRAIN_BIN

say "2/5 sweep: context lengths $CONTEXT_LENGTHS, training tokens $TRAIN_TOKENS, seeds $SEEDS"
# shellcheck disable=SC2086
OUT_DIR=$OUT/runs run bash train_sweep.sh $model $training $sweep "$@"

say "3/5 one model trained longer, on all training tokens, exported for Hugging Face"
# shellcheck disable=SC2086
run "$PYTHON" train.py --context_length "$EXPORT_CONTEXT_LENGTH" --train_bin "$TRAIN_BIN" \
    --out_dir "$OUT/longer_runs" $model $training $longer "$@"
longer_run=$(echo "$OUT/longer_runs/ctl${EXPORT_CONTEXT_LENGTH}_"*)
run "$PYTHON" export_hf.py "$longer_run" --out_dir "$OUT/models/ctl$EXPORT_CONTEXT_LENGTH" --overwrite

say "4/5 results"
# shellcheck disable=SC2086
run "$PYTHON" collect_results.py --runs "$OUT/runs" --out_csv "$OUT/sweep.csv" \
    --context_lengths $CONTEXT_LENGTHS --train_tokens $TRAIN_TOKENS --seeds $SEEDS
run "$PYTHON" collect_results.py --runs "$OUT/longer_runs" --out_csv "$OUT/longer.csv"

say "5/5 figures, and a sample"
run "$PYTHON" draw_loss_vs_context.py --results "$OUT/sweep.csv" --out_dir "$OUT/figures"
run "$PYTHON" sample.py "$longer_run" --max_new_tokens 60 --device cpu
