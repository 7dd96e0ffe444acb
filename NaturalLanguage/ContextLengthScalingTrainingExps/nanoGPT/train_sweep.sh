#!/usr/bin/env bash
# Train the grid below, one run a cell. Finished cells are skipped, interrupted ones go on.
#
#   bash train_sweep.sh                                      # all cells, as many at once as there are slots
#   TRAIN_TOKENS="20000000 80000000" SEEDS="0 1" bash train_sweep.sh --compile      # more flags go to train.py
#   sbatch --array=0-32 --gres=gpu:8 train_sweep.sh          # one cell a task, from this folder; account, partition and
#                                                            # GPUs come from sbatch's command line
#
# A slot is GPUS_PER_RUN of the visible GPUs or, without one, CORES_PER_RUN cores; in an array all GPUs of the task.
# Cost of the paper's grid as it stands here: 33 runs, each of 10 to 30 passes over up to 80 million tokens.
#SBATCH --job-name=train_sweep
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=train_sweep_%A_%a.log
set -euo pipefail

CONTEXT_LENGTHS=${CONTEXT_LENGTHS:-384 512 768 1024 1536 2048 3072 5120 7680 10240 15360}
TRAIN_TOKENS=${TRAIN_TOKENS:-20000000 40000000 80000000}
SEEDS=${SEEDS:-0}
TRAIN_BIN=${TRAIN_BIN:-data/openwebtext/LONGCONTEXTSUBSET_train_P10.0_SFrom0.0.bin}
OUT_DIR=${OUT_DIR:-outputs/runs}
GPUS_PER_RUN=${GPUS_PER_RUN:-1}
CORES_PER_RUN=${CORES_PER_RUN:-1}
PYTHON=${PYTHON:-python}

here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"

cells=()
for seed in $SEEDS; do for tokens in $TRAIN_TOKENS; do for length in $CONTEXT_LENGTHS; do
    cells+=("--context_length $length --train_tokens $tokens --seed $seed")
done; done; done

train() {  # number of GPUs, cell number, flags ...
    local gpus=$1 cell=$2 launch=(); shift 2
    (( gpus < 2 )) || launch=(-m torch.distributed.run --standalone --nproc_per_node "$gpus")
    # shellcheck disable=SC2086  # a cell is several words
    "$PYTHON" ${launch[@]+"${launch[@]}"} train.py ${cells[cell]} --train_bin "$TRAIN_BIN" --out_dir "$OUT_DIR" "$@"
}

probe="import os, torch
affinity = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count()))
print(torch.cuda.device_count(), len(affinity(0)))"
read -r gpus cores < <("$PYTHON" -c "$probe")

index=${SLURM_ARRAY_TASK_ID:-${IDX:-}}
if [[ -n $index ]]; then
    if (( index >= ${#cells[@]} )); then
        echo "train_sweep.sh: there are ${#cells[@]} cells, no cell $index: use --array=0-$(( ${#cells[@]} - 1 ))" >&2
        exit 2
    fi
    echo "cell $index of ${#cells[@]}: ${cells[index]} $*"
    train "$gpus" "$index" "$@"
    exit
fi

export OMP_NUM_THREADS=$CORES_PER_RUN
(( gpus > 0 )) && slots=$(( gpus / GPUS_PER_RUN )) || slots=$(( cores / CORES_PER_RUN ))
(( slots > 0 )) || slots=1
IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 "$(( gpus > 0 ? gpus - 1 : 0 ))")}"
logs=$OUT_DIR/logs
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
        if (( gpus > 0 )); then
            mine=("${devices[@]:slot * GPUS_PER_RUN:GPUS_PER_RUN}")
            CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${mine[*]}"); export CUDA_VISIBLE_DEVICES
        fi
        log=$logs/$(( cell + 1 )).log
        if train "$(( gpus > 0 ? GPUS_PER_RUN : 0 ))" "$cell" "$@" >"$log" 2>&1; then
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
    echo "train_sweep.sh: $(wc -l <"$logs/failed") of ${#cells[@]} runs failed; start again to go on with them" >&2
    exit 1
fi
