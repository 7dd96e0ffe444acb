#!/usr/bin/env bash
# One model, measured at steps of its training: when does cross entropy become linear in the entropy (Eq. 2)?
#   bash measure_training.sh [smoke|small]
#
#   smoke   every step once, under two minutes; learns nothing
#   small   the default: the code of installed packages, 64 million tokens of it; measured on packages never trained on
#
# Writes outputs/training_PRESET in both parts (OUT to change it) and does only what is missing there: the run, its
# weights after KEEP tokens as Hugging Face models, their measurements, and the figure line_in_training. Flags behind
# the preset are train.py's; for another seed name another OUT.
#SBATCH --job-name=measure_training
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=measure_training_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -d $here/Measuring ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source Measuring/launching.sh
cd ContextLengthScalingTrainingExps/nanoGPT

PRESET=${1:-small}; [[ $# -eq 0 ]] || shift
case $PRESET in
smoke)
    data=(--source docstrings --packages tqdm numpy --min_tokens 500 --tokenizer bpe:512) length=32 keep="2048 4096"
    model=(--n_layer 2 --n_head 2 --n_embd 32 --tokens_per_step 1024 --max_iters 4 --lr_decay_iters 4 --warmup_iters 1
        --eval_interval 2 --eval_tokens 4096 --full_context_targets 64 --device cpu)
    lengths="1 4 16 32" samples=100 chunks="--window 33 --stride 8 --trim 0 0" from=1 ;;
small)
    data=(--source code --tokenizer bpe:1024) length=512 keep="1000000 4000000 16000000 64000000"
    model=(--n_layer 4 --n_head 4 --n_embd 128 --init_std 0.05 --tokens_per_step 8192 --learning_rate 3e-3 --min_lr 3e-4
        --max_iters 7813 --lr_decay_iters 7813 --warmup_iters 100 --eval_interval 200 --patience 1000
        --eval_tokens 131072 --full_context_targets 1024)
    lengths="1 2 4 8 16 32 64 128 256 512" samples=10000 chunks="--window 513 --stride 128" from="1 8" ;;
*)  echo "measure_training.sh: unknown preset $PRESET; use smoke or small" >&2; exit 2 ;;
esac
[[ -n ${OUT:-} || " $*" != *" --seed"* ]] || { echo "measure_training.sh: name an OUT for another seed" >&2; exit 2; }
out=${OUT:-outputs/training_$PRESET} keep=${KEEP:-$keep}

run "$PYTHON" data/openwebtext/prepare.py "${data[@]}" --percent 100 --out_dir "$out/data"
bins=("$out"/data/LONGCONTEXTSUBSET_train_*.bin) valid=("$out"/data/LONGCONTEXTSUBSET_val_*.bin)
run "$PYTHON" train.py --context_length "$length" --train_bin "${bins[0]}" --out_dir "$out/runs" --keep_tokens $keep \
    "${model[@]}" "$@"
runs=("$out/runs/ctl${length}_"*) models=() measured=() from_measuring=../ContextLengthScalingTrainingExps/nanoGPT/
[[ ${#runs[@]} -eq 1 ]] || {
    echo "measure_training.sh: $out/runs has ${#runs[@]} runs; name an OUT for each, one is measured" >&2; exit 2; }
[[ $out != /* ]] || from_measuring=
for tokens in $keep; do
    run "$PYTHON" export_hf.py "${runs[0]}" --weights "kept_$tokens.pt" --out_dir "$out/models/tok$tokens"
    models+=("$from_measuring$out/models/tok$tokens") measured+=("$out/tok$tokens")
done
tokens_file=$from_measuring${valid[0]}
cd ../../Measuring
OUT=$out FEATURE_LENS=$lengths SEQ_LENS=$lengths N_SAMPLES=$samples CHUNKS=$chunks DRAWS=${DRAWS:-10} \
    run bash measure.sh "${models[@]}" -- --source tokens --tokens_file "$tokens_file" --min_tokens 0
run "$PYTHON" draw_line_in_training.py --results "${measured[@]}" --train_tokens $keep --from_lengths $from \
    --out_dir "$out/figures"
