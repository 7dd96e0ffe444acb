#!/usr/bin/env bash
# The ICLR version of the synthetic experiment: bash reproduce_transformer.sh [smoke|small|paper]
#
#   smoke   every step once; learns nothing
#   small   the default: 16 bits and a small transformer, minutes on 2 cores
#   paper   60 bits, 3 layers of width 208: a GPU; without one, add --dtype float32 (--no-compile without a C++ compiler)
#
# Writes outputs/transformer_PRESET (OUT to change it) and does only what is missing there. SEEDS="0 1 2" for more seeds.
# Flags behind the preset go to train_transformer.py. As many seeds train at once as there are slots (CORES_PER_RUN,
# RUNS_PER_GPU; see sweep.py).
#SBATCH --job-name=reproduce_transformer
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=reproduce_transformer_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train_transformer.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh
preset=${1:-small}
[[ $# -eq 0 ]] || shift
refuse_modes "$@"
tasks=(--context_bits 16 --first_max_bit 5) n_samples=10000
case $preset in
smoke)
    n_samples=200
    training=(--context_bits 16 --max_masked 12 --width 32 --n_layer 2 --n_head 4 --batch_size 8
        --cycle_steps 10 --max_cycles 1 --settling_steps 10
        --eval_interval 10 --eval_contexts 4 --final_contexts 8 --device cpu) ;;
small)
    training=(--context_bits 16 --max_masked 12 --width 64 --n_layer 2 --n_head 8 --batch_size 16 --weight_decay 1
        --learning_rate 1e-3 --cycle_steps 6000 --settling_steps 0
        --eval_interval 500 --final_contexts 256 --device cpu) ;;
paper)
    tasks=() training=(--unlearned_weight 10 --dtype bfloat16 --compile) ;;
*)
    echo "reproduce_transformer.sh: unknown preset $preset; use smoke, small or paper" >&2; exit 2 ;;
esac
out=${OUT:-outputs/transformer_$preset}
export SEEDS=${SEEDS:-0} SAVE_POSITION=$out/runs
sweep=(sweep.py --trainer train_transformer --task_definition "$out/data/tasks.json" "${training[@]}" "$@")

run "$PYTHON" generate_tasks.py ${tasks[@]+"${tasks[@]}"} --out "$out/data/tasks.json"
run "$PYTHON" "${sweep[@]}"
run "$PYTHON" "${sweep[@]}" --collect
runs=() features=()  # of these seeds alone
names=$("$PYTHON" "${sweep[@]}" --list)
for name in $names; do runs+=("$out/runs/$name"); done
run "$PYTHON" save_feature_tensor.py --model_state_dict_position "${runs[@]}" --n_samples "$n_samples"
for directory in "${runs[@]}"; do features+=("$directory"/features/*.pt); done
run "$PYTHON" measure_features.py "${features[@]}" --no-others --out_dir "$out/measures"
run "$PYTHON" draw_entropy_vs_loss.py --measures "$out/measures" --table1 "$out/table1.csv" --out_dir "$out/figures"
