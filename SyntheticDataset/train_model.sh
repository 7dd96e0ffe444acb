#!/usr/bin/env bash
# Train the grid below, one process a cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_model.sh                                     # all cells, as many at once as there are slots
#   bash train_model.sh --num_epochs 400                    # more flags go to train_model.py
#   SEEDS="0 1 2" TRAIN_SIZES="40000 85000" bash train_model.sh
#   sbatch --array=0-47 train_model.sh                      # one cell a task, from this folder; account, partition and
#                                                           # GPUs come from sbatch's command line
#
# A slot is a visible GPU (RUNS_PER_GPU of them on each) or, without one, CORES_PER_RUN cores.
# Cost of the paper's grid as it stands here: 48 runs, 400,000 optimizer steps, under 1 GB of GPU memory a run.
#SBATCH --job-name=train_model
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --output=train_model_%A_%a.log
set -euo pipefail

CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-27 32 36 43 63 94}
TRAIN_SIZES=${TRAIN_SIZES:-2000000 400000 200000 150000 100000 85000 75000 50000}
WEIGHT_DECAYS=${WEIGHT_DECAYS:-8e-4}
SEEDS=${SEEDS:-0}
SAVE_POSITION=${SAVE_POSITION:-outputs/runs}
RUNS_PER_GPU=${RUNS_PER_GPU:-4}
CORES_PER_RUN=${CORES_PER_RUN:-1}
PYTHON=${PYTHON:-python}

here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train_model.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
export OMP_NUM_THREADS=$CORES_PER_RUN

cells=()
for seed in $SEEDS; do for decay in $WEIGHT_DECAYS; do for size in $TRAIN_SIZES; do for length in $CONTEXT_LENGTHS; do
    cells+=("--context_length $length --train_dataset_size $size --weight_decay $decay --seed $seed")
done; done; done; done

train() {  # cell number, flags ...
    local cell=$1; shift
    # shellcheck disable=SC2086  # a cell is several words
    "$PYTHON" train_model.py ${cells[cell]} --save_position "$SAVE_POSITION" --threads "$CORES_PER_RUN" "$@"
}

index=${SLURM_ARRAY_TASK_ID:-${IDX:-}}
if [[ -n $index ]]; then
    if (( index >= ${#cells[@]} )); then
        echo "train_model.sh: there are ${#cells[@]} cells, no cell $index: use --array=0-$(( ${#cells[@]} - 1 ))" >&2
        exit 2
    fi
    echo "cell $index of ${#cells[@]}: ${cells[index]} $*"
    train "$index" "$@"
    exit
fi

probe="import os, torch
affinity = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count()))
print(torch.cuda.device_count(), len(affinity(0)))"
read -r gpus cores < <("$PYTHON" -c "$probe")
slots=$(( gpus > 0 ? gpus * RUNS_PER_GPU : (cores > CORES_PER_RUN ? cores / CORES_PER_RUN : 1) ))
logs=$SAVE_POSITION/logs
mkdir -p "$logs"
rm -f "$logs"/failed
mkfifo "$logs/slots.$$"; exec 3<>"$logs/slots.$$"; rm "$logs/slots.$$"
for (( slot = 0; slot < slots; slot++ )); do echo "$slot" >&3; done
set -m  # a process group for each run, so that all of it can be ended
trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done; exit 143' INT TERM

echo "${#cells[@]} runs, $slots at a time; the log of each is in $logs"
for (( cell = 0; cell < ${#cells[@]}; cell++ )); do
    read -r -u 3 slot
    (
        set +m
        device=(); (( gpus == 0 )) || device=(--device "cuda:$(( slot % gpus ))")
        log=$logs/$(( cell + 1 )).log
        if train "$cell" ${device[@]+"${device[@]}"} "$@" >"$log" 2>&1; then
            echo "[$(( cell + 1 ))/${#cells[@]}] $(tail -n 1 "$log")"
        else
            echo "${cells[cell]}" >>"$logs/failed"
            echo "[$(( cell + 1 ))/${#cells[@]}] FAILED (${cells[cell]}): $(tail -n 1 "$log")" >&2
        fi
        echo "$slot" >&3
    ) &
done
wait
if [[ -e $logs/failed ]]; then
    echo "train_model.sh: $(wc -l <"$logs/failed") of ${#cells[@]} runs failed; start again to go on with them" >&2
    exit 1
fi
