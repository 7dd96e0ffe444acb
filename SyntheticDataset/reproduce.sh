#!/usr/bin/env bash
# The synthetic experiment from nothing to its figures: bash reproduce.sh [smoke|small|paper]
#
#   smoke   every step once, under a minute; learns nothing
#   small   the default: the paper's result on a laptop, under 10 minutes on 2 cores
#   paper   the sizes of the paper: one GPU, or a cluster with sbatch --array=... train_model.sh first
#
# Writes outputs/PRESET (OUT to change it) and does only what is missing there. SEEDS="0 1 2 3 4" for more seeds, and so
# on for the other names in capitals below. Flags behind the preset go to train_model.py.
#SBATCH --job-name=reproduce_synthetic
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --output=reproduce_synthetic_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train_model.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
preset=${1:-small} n_features=10000
[[ $# -eq 0 ]] || shift
refuse_modes "$@"
case $preset in
smoke)
    sizes=(4000 1000) lengths="22 27" train_sizes="4000 2000" seeds=0 bi_lengths=22 bi_size=4000 n_features=1000
    sweep=(--hidden_size 32 --batch_size 500 --num_epochs 2) bi=(--num_epochs 2 --batch_size 500) ;;
small)
    sizes=(2000000 20000) lengths="22 27 36 50 94" train_sizes="85000 60000 40000" seeds="0 1"
    sweep=(--hidden_size 200 --learning_rate 2e-3 --batch_size 500 --early_stopping 10 --early_stopping_steps 2000)
    bi_lengths="36 33 30 27 24 22" bi_size=2000000 bi=(--num_epochs 3 --batch_size 4000 --learning_rate 3e-3) ;;
paper)
    sizes=(10000000 2000000) lengths="27 32 36 43 63 94" seeds=0
    train_sizes="2000000 400000 200000 150000 100000 85000 75000 50000"
    sweep=(--num_epochs 2000 --early_stopping_steps 4000 --valid_dataset_size 100000)
    bi_lengths="22 27 36 43 63 94" bi_size=10000000 bi=(--num_epochs 20 --batch_size 4000 --learning_rate 3e-3) ;;
*)
    echo "reproduce.sh: unknown preset $preset; use smoke, small or paper" >&2; exit 2 ;;
esac
out=${OUT:-outputs/$preset} runs=()  # the Bi-MLPs of this grid alone
samples=(--training_data_position "$out/data/train.pt" --validation_data_position "$out/data/valid.pt")
sweep=("${samples[@]}" "${sweep[@]}" "$@" --out_csv "$out/sweep.csv")
bi=("${samples[@]}" --use_bi_mlp "${bi[@]}" "$@" --out_csv "$out/bi_sweep.csv" --no-draw)
export CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-$lengths} TRAIN_SIZES=${TRAIN_SIZES:-$train_sizes} SEEDS=${SEEDS:-$seeds}
bi_lengths=${BI_CONTEXT_LENGTHS:-$bi_lengths} bi_size=${BI_TRAIN_SIZE:-$bi_size} bi_seeds=${BI_SEEDS:-0}
bi_grid() { CONTEXT_LENGTHS=$bi_lengths TRAIN_SIZES=$bi_size SEEDS=$bi_seeds WEIGHT_DECAYS=0.05 SAVE_POSITION=$out/bi_runs "$@"; }

run "$PYTHON" generate_data.py --train_size "${sizes[0]}" --valid_size "${sizes[1]}" --out_dir "$out/data"
SAVE_POSITION=$out/runs run "$PYTHON" sweep.py "${sweep[@]}"
bi_grid run "$PYTHON" sweep.py "${bi[@]}"
names=$(bi_grid "$PYTHON" sweep.py --list "${bi[@]}")
for name in $names; do runs+=("$out/bi_runs/$name"); done
run "$PYTHON" save_feature_tensor.py --model_state_dict_position "${runs[@]/%//last.pt}" \
    --validation_data_position "$out/data/valid.pt" --valid_dataset_size "$n_features"  # of the last epoch: a cleaner spectrum
run "$PYTHON" measure_features.py "${runs[@]/%//features.pt}" --no-others --out_dir "$out/measures"
SAVE_POSITION=$out/runs run "$PYTHON" sweep.py --collect "${sweep[@]}"
bi_grid run "$PYTHON" sweep.py --collect "${bi[@]}"
run "$PYTHON" draw_intrinsic_dimension.py --measures "$out/measures" --out_dir "$out/figures"
