#!/usr/bin/env bash
# Does the best context length grow with the training tokens? bash reproduce_optimum.sh [smoke|docstrings|code]
#
#   smoke        every step once, under a minute; learns nothing
#   docstrings   the default: docstrings of installed packages; hours of a core, which --dry_run estimates
#   code         the source code of installed packages; validation on packages that no run was trained on
#
# Each seed has its own weights, batches and part of the corpus, and each training size, of code each length too, its own
# schedule: a cosine meant to end behind the lowest validation loss (tables mark the runs where it does not). Writes
# outputs/optimum_PRESET (OUT to change it) and does only what is missing there. SCHEDULES, "TOKENS:STEPS" or
# "TOKENS:STEPS:LENGTH,LENGTH ...", CONTEXT_LENGTHS and SEEDS name a part of the grid; flags behind the preset go to
# sweep.py and train.py (--dry_run: what the grid costs; --submit: on a cluster, and then the same without it for table
# and figures).
#SBATCH --job-name=reproduce_optimum
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=reproduce_optimum_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
source schedule.sh

PRESET=${1:-docstrings}; [[ $# -eq 0 ]] || shift
model=(--n_layer 2 --n_head 2 --n_embd 64 --init_std 0.07 --tokens_per_step 4096 --learning_rate 3e-3 --min_lr 3e-4
    --eval_tokens 65536 --full_context_targets 4096 --patience 1000 --threads 1)
schedules="12500:120 50000:300 200000:1400 400000:2500 1600000:8000"
lengths="16 64 256 1024" seeds="1 2 3 4 5 6" data=(--percent 100 --tokenizer bpe:1024)
case $PRESET in
smoke)
    data=(--source docstrings --percent 100 --packages tqdm numpy --min_tokens 500 --tokenizer bpe:512)
    model+=(--n_embd 32 --tokens_per_step 1024 --eval_tokens 4096 --full_context_targets 64)
    schedules="20000:10 40000:20" lengths="16 64" seeds="1 2" ;;
docstrings) data+=(--source docstrings --validation_fraction 0.1) ;;
code)
    data+=(--source code); model+=(--full_context_targets 24576)
    schedules="50000:150 100000:300 200000:300:16,32,64 200000:600:128,256,512,1024 400000:500:16,32,64,128
        400000:1000:256,512,1024 800000:1000:16,32 800000:2000:64,128,256,512,1024
        1600000:4000:16,32 1600000:8000:64,128,256,512,1024"
    lengths="16 32 64 128 256 512 1024" seeds="1 2 3 4" ;;
*)  echo "reproduce_optimum.sh: unknown preset $PRESET; use smoke, docstrings or code" >&2; exit 2 ;;
esac
OUT=${OUT:-outputs/optimum_$PRESET}
lengths=$(echo ${CONTEXT_LENGTHS:-$lengths})  # with single spaces
export SEEDS=${SEEDS:-$seeds} OUT_DIR=$OUT/runs TRAIN_TOKENS CONTEXT_LENGTHS
form='^[1-9][0-9]*:[1-9][0-9]*(:[0-9,]+)?$'
for cell in ${SCHEDULES:=$schedules}; do
    [[ $cell =~ $form ]] || {
        echo "reproduce_optimum.sh: SCHEDULES has $cell; give TOKENS:STEPS or TOKENS:STEPS:LENGTH,LENGTH" >&2; exit 2; }
done

run "$PYTHON" data/openwebtext/prepare.py "${data[@]}" --out_dir "$OUT/data"
bins=("$OUT"/data/LONGCONTEXTSUBSET_train_*.bin); export TRAIN_BIN=${bins[0]}
for cell in $SCHEDULES; do
    IFS=: read -r TRAIN_TOKENS steps of_cell <<< "$cell"
    of_cell=${of_cell:-${lengths// /,}} CONTEXT_LENGTHS=
    for length in ${of_cell//,/ }; do [[ " $lengths " != *" $length "* ]] || CONTEXT_LENGTHS+="$length "; done
    [[ -n $CONTEXT_LENGTHS ]] || { echo "$cell: none of its lengths is asked for ($lengths)"; continue; }
    schedule_of "$steps"
    run bash train_sweep.sh "${model[@]}" --vary_data "${schedule[@]}" "$@"
done
[[ " $* " != *" --dry_run "* && " $* " != *" --submit "* ]] || exit 0
run "$PYTHON" collect_results.py --runs "$OUT_DIR" --out_csv "$OUT/sweep.csv"
run "$PYTHON" draw_loss_vs_context.py --results "$OUT/sweep.csv" --out_dir "$OUT/figures"
