#!/usr/bin/env bash
# Training at many context lengths, from a corpus to its figures: bash reproduce.sh [smoke|small|paper]
#
#   smoke   every step once, under a minute; learns nothing
#   small   the default: the docstrings of installed packages and a small model, under 12 minutes on 2 cores
#   paper   OpenWebText and the paper's model and settings: GPUs, or a cluster with train_sweep.sh --submit first
#
# Writes outputs/PRESET (OUT to change it) and does only what is missing there. SEEDS="0 1 2" for more seeds, and so on
# for the other names in capitals below. Flags behind the preset go to train.py.
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

PRESET=${1:-small}; [[ $# -eq 0 ]] || shift
refuse_modes "$@"
small_model=(--n_layer 2 --n_head 2 --learning_rate 3e-3 --full_context_targets 1024 --threads 1)
case $PRESET in
smoke)
    lengths="16 64" tokens=20000 export=64
    data=(--source docstrings --percent 100 --packages tqdm numpy --min_tokens 500 --tokenizer bpe:512)
    model=("${small_model[@]}" --n_embd 32 --tokens_per_step 1024 --eval_tokens 4096 --full_context_targets 64
        --max_iters 20 --eval_interval 10 --warmup_iters 5)
    sweep=() longer=() ;;
small)
    lengths="1024 256 64 16" tokens="200000 50000" export=512
    data=(--source docstrings --percent 100 --validation_fraction 0.1 --tokenizer bpe:1024)
    model=("${small_model[@]}" --n_embd 64 --tokens_per_step 2048 --eval_tokens 32768 --min_lr 3e-4)
    sweep=(--lr_decay_iters 4000 --max_iters 4000 --warmup_epochs 1 --eval_interval 25 --patience 8)
    longer=(--n_embd 128 --n_head 4 --warmup_iters 100 --lr_decay_iters 1200 --max_iters 1200 --eval_interval 100) ;;
paper)
    lengths="15360 10240 7680 5120 3072 2048 1536 1024 768 512 384" export=5120
    tokens="750000000 500000000 350000000 300000000 250000000 200000000"
    data=(--percent 100) model=() sweep=() longer=(--max_iters 20000 --lr_decay_iters 20000) ;;
*)  echo "reproduce.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac
OUT=${OUT:-outputs/$PRESET} length=${EXPORT_CONTEXT_LENGTH:-$export}
export CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-$lengths} TRAIN_TOKENS=${TRAIN_TOKENS:-$tokens} SEEDS=${SEEDS:-0} OUT_DIR=$OUT/runs

say "1/4 corpus"
run "$PYTHON" data/openwebtext/prepare.py "${data[@]}" --out_dir "$OUT/data"
bins=("$OUT"/data/LONGCONTEXTSUBSET_train_*.bin); export TRAIN_BIN=${bins[0]}
say "2/4 sweep: context lengths $CONTEXT_LENGTHS, training tokens $TRAIN_TOKENS, seeds $SEEDS"
run bash train_sweep.sh ${model[@]+"${model[@]}"} ${sweep[@]+"${sweep[@]}"} "$@"
say "3/4 one model trained longer, on all training tokens, exported for Hugging Face"
run "$PYTHON" train.py --context_length "$length" --train_bin "$TRAIN_BIN" --out_dir "$OUT/longer_runs" \
    ${model[@]+"${model[@]}"} ${longer[@]+"${longer[@]}"} "$@"
longer_run=("$OUT/longer_runs/ctl${length}_"*)
run "$PYTHON" export_hf.py "${longer_run[0]}" --out_dir "$OUT/models/ctl$length"
say "4/4 results, figures, and a sample"
run bash train_sweep.sh --collect ${model[@]+"${model[@]}"} ${sweep[@]+"${sweep[@]}"} "$@"
run "$PYTHON" collect_results.py --runs "$OUT/longer_runs" --out_csv "$OUT/longer.csv"
run "$PYTHON" sample.py "${longer_run[0]}" --max_new_tokens 60 --device cpu
