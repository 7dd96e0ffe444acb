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

PRESET=${1:-small}
[[ $# -eq 0 ]] || shift
case $PRESET in
smoke)
    data="--train_size 4000 --valid_size 1000"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-22 27 36}; TRAIN_SIZES=${TRAIN_SIZES:-4000 2000}; SEEDS=${SEEDS:-0}
    sweep="--hidden_size 32 --batch_size 500 --num_epochs 2"
    BI_CONTEXT_LENGTHS=${BI_CONTEXT_LENGTHS:-22 27}; BI_TRAIN_SIZE=${BI_TRAIN_SIZE:-4000}
    bi="--num_epochs 2 --batch_size 500"; bi_decay=0.05; n_features=1000 ;;
small)
    data="--train_size 2000000 --valid_size 20000"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-22 27 36 50 94}; TRAIN_SIZES=${TRAIN_SIZES:-85000 60000 40000}; SEEDS=${SEEDS:-0 1}
    sweep="--hidden_size 200 --learning_rate 2e-3 --batch_size 500 --early_stopping 10 --early_stopping_steps 2000"
    BI_CONTEXT_LENGTHS=${BI_CONTEXT_LENGTHS:-36 33 30 27 24 22}; BI_TRAIN_SIZE=${BI_TRAIN_SIZE:-2000000}
    bi="--num_epochs 3 --batch_size 4000 --learning_rate 3e-3"; bi_decay=0.05; n_features=10000 ;;
paper)
    data="--train_size 10000000 --valid_size 2000000"
    CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-27 32 36 43 63 94}; SEEDS=${SEEDS:-0}
    TRAIN_SIZES=${TRAIN_SIZES:-2000000 400000 200000 150000 100000 85000 75000 50000}
    sweep="--num_epochs 2000 --early_stopping_steps 4000 --valid_dataset_size 100000"
    BI_CONTEXT_LENGTHS=${BI_CONTEXT_LENGTHS:-22 27 36 43 63 94}; BI_TRAIN_SIZE=${BI_TRAIN_SIZE:-10000000}
    bi="--num_epochs 20 --batch_size 4000 --learning_rate 3e-3"; bi_decay=0.05; n_features=10000 ;;
*)
    echo "reproduce.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac

OUT=${OUT:-outputs/$PRESET}
BI_SEEDS=${BI_SEEDS:-0}
export SEEDS

say "1/6 samples"
# shellcheck disable=SC2086  # the presets are lists of flags
run "$PYTHON" generate_data.py $data --out_dir "$OUT/data"
files=(--training_data_position "$OUT/data/train.pt" --validation_data_position "$OUT/data/valid.pt")

say "2/6 sweep of MLPs: context lengths $CONTEXT_LENGTHS, training sizes $TRAIN_SIZES, seeds $SEEDS"
export CONTEXT_LENGTHS TRAIN_SIZES
# shellcheck disable=SC2086
SAVE_POSITION=$OUT/runs run bash train_model.sh "${files[@]}" $sweep "$@"

say "3/6 Bi-MLPs: context lengths $BI_CONTEXT_LENGTHS, $BI_TRAIN_SIZE training samples, seeds $BI_SEEDS"
# shellcheck disable=SC2086
CONTEXT_LENGTHS=$BI_CONTEXT_LENGTHS TRAIN_SIZES=$BI_TRAIN_SIZE WEIGHT_DECAYS=$bi_decay SEEDS=$BI_SEEDS \
    SAVE_POSITION=$OUT/bi_runs \
    run bash train_model.sh "${files[@]}" --use_bi_mlp $bi "$@"

say "4/6 context features and their measures"  # of the last epoch: nothing overfits here, and the spectrum gets cleaner
run "$PYTHON" save_feature_tensor.py --model_state_dict_position "$OUT"/bi_runs/bi_mlp_*/last.pt \
    --validation_data_position "$OUT/data/valid.pt" --valid_dataset_size "$n_features"
run "$PYTHON" measure_features.py "$OUT"/bi_runs/*/features.pt --out_dir "$OUT/measures"

say "5/6 results"
# shellcheck disable=SC2086
run "$PYTHON" collect_results.py --runs "$OUT/runs" --out_csv "$OUT/sweep.csv" \
    --context_lengths $CONTEXT_LENGTHS --train_dataset_sizes $TRAIN_SIZES --seeds $SEEDS
# shellcheck disable=SC2086
run "$PYTHON" collect_results.py --runs "$OUT/bi_runs" --out_csv "$OUT/bi_sweep.csv" --use_bi_mlp \
    --context_lengths $BI_CONTEXT_LENGTHS --train_dataset_sizes $BI_TRAIN_SIZE --seeds $BI_SEEDS

say "6/6 figures"
run "$PYTHON" draw_loss_vs_context.py --results "$OUT/sweep.csv" --out_dir "$OUT/figures"
run "$PYTHON" draw_training_curves.py --results "$OUT/sweep_curves.csv" --out_dir "$OUT/figures"
run "$PYTHON" draw_intrinsic_dimension.py --measures "$OUT/measures" --out_dir "$OUT/figures"
