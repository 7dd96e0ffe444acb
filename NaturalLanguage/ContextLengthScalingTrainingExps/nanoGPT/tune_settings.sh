#!/usr/bin/env bash
# Is the best context length a matter of the optimizer? Trains each length with each setting, at one number of tokens:
#
#   LEARNING_RATES="1e-3 3e-3 1e-2" WEIGHT_DECAYS="0.03 0.1 0.3" CONTEXT_LENGTHS="64 256" TRAIN_TOKENS=50000 \
#       bash tune_settings.sh --train_bin TOKENS.bin --max_iters 300 --lr_decay_iters 300 --n_layer 2
#
# LEARNING_RATES (0.0006), WEIGHT_DECAYS (0.1), TOKENS_PER_STEP (491520) and MAX_ITERS are lists, in brackets what they are
# if not given; the lowest rate is a tenth of the highest. With MAX_ITERS a run's cosine ends at its last step, a twentieth
# of the steps is warm-up, and there are at most 25 evaluations. Further flags go to sweep.py and train.py. Writes OUT
# (outputs/settings): runs/SETTING/ and settings.csv, with the best setting at each length. Does only what is missing.
#SBATCH --job-name=tune_settings
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=tune_settings_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
source schedule.sh

OUT=${OUT:-outputs/settings}
check() {  # VARIABLE FORM WANTED: exits with code 2 if one of its words has not this form
    for word in ${!1-}; do
        [[ $word =~ ^$2$ ]] || { echo "tune_settings.sh: $1 has $word; give numbers $3" >&2; exit 2; }
    done
}
exponent='([eE][+-]?[0-9]+)?' whole='[1-9][0-9]*'
number="([0-9]+\.?[0-9]*|\.[0-9]+)$exponent" positive="([0-9]*[1-9][0-9]*\.?[0-9]*|[0-9]*\.[0-9]*[1-9][0-9]*)$exponent"
check LEARNING_RATES "$positive" "above 0"
check WEIGHT_DECAYS "$number" "of at least 0"
check TOKENS_PER_STEP "$whole" "of tokens"
check MAX_ITERS "$whole" "of steps"
for rate in ${LEARNING_RATES:-0.0006}; do
    lowest=$("$PYTHON" -c "import sys; print(float(sys.argv[1]) / 10)" "$rate")
    for decay in ${WEIGHT_DECAYS:-0.1}; do
        for tokens in ${TOKENS_PER_STEP:-491520}; do for steps in ${MAX_ITERS:-as_given}; do
            export OUT_DIR=$OUT/runs/rate${rate}_decay${decay}_step$tokens
            schedule=()
            if [[ $steps != as_given ]]; then
                OUT_DIR+=_steps$steps
                schedule_of "$steps"
            fi
            run bash train_sweep.sh "$@" --learning_rate "$rate" --min_lr "$lowest" --weight_decay "$decay" \
                --tokens_per_step "$tokens" ${schedule[@]+"${schedule[@]}"}
        done; done
    done
done
run "$PYTHON" collect_settings.py --runs "$OUT"/runs/* --out_csv "$OUT/settings.csv"
