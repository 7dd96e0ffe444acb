# What the launchers of this folder share, so that each runs under bash and under sbatch alike; read with: source launching.sh
#
# cluster.env, of this folder or the nearest one above it (CLUSTER_ENV to name another), is read first if there is one:
# account, partition, modules, environment. In a Slurm job the launcher then runs as a child of itself. At USR1, which
# --signal=B:USR1@N asks for N seconds before the time limit, the child's processes get TERM, at which the trainers save
# and end; then the job requeues itself, and in its next life does what is missing.

folder=$PWD
until [[ -e $folder/cluster.env || $folder == / ]]; do folder=$(dirname "$folder"); done
if [[ -n ${CLUSTER_ENV:-} && ! -f $CLUSTER_ENV ]]; then
    echo "$(basename "$0"): there is no CLUSTER_ENV $CLUSTER_ENV; copy .cluster.env.example there" >&2
    exit 2
fi
set +eu  # modules and environments are seldom written for these
# shellcheck disable=SC1090
[[ ! -e ${CLUSTER_ENV:-$folder/cluster.env} ]] || source "${CLUSTER_ENV:-$folder/cluster.env}"
set -eu

if [[ -n ${SLURM_JOB_ID:-} && ${LAUNCHED_IN:-} == "$SLURM_JOB_ID" ]]; then
    trap 'exit 143' TERM  # once the command that is running has ended too
elif [[ -n ${SLURM_JOB_ID:-} ]]; then
    export LAUNCHED_IN=$SLURM_JOB_ID
    launcher=$0
    [[ $launcher == /* ]] || launcher=$(basename "$launcher")
    set -m  # a process group for the child, so that a signal reaches all of it
    bash "$launcher" "$@" &
    child=$! signalled=
    stop() { signalled=$1; kill -TERM -- "-$child"; scancel --quiet --signal=TERM "$SLURM_JOB_ID" || true; }  # steps: srun's
    trap 'stop USR1' USR1
    trap 'stop TERM' TERM INT
    code=0
    wait "$child" || code=$?
    while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done  # a signal ends a wait
    if [[ $signalled == USR1 && $code -gt 128 ]]; then
        echo "stopped before the time limit; job $SLURM_JOB_ID is requeued"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
fi

export PYTHON=${PYTHON:-python}
say() { echo; echo "== $*"; }
run() { echo "\$ $*"; "$@"; }

submit() {  # options of sbatch, a launcher, its arguments: submit it, print the command, answer with the job's number
    echo "\$ sbatch $*" >&2
    sbatch --parsable "$@" | cut -d ';' -f 1
}

submit_cells() {  # launcher, its arguments: an array job of the cells without their file in results, and its collector
    local launcher=$1 cell first="" last="" list="" job; shift
    for cell in "${!results[@]}" end; do
        if [[ $cell == end || -e ${results[cell]} ]]; then
            [[ -z $first ]] || list+=,$first$([[ $first == "$last" ]] || echo "-$last")
            first=""
        else
            first=${first:-$cell} last=$cell
        fi
    done
    if [[ -z $list ]]; then
        echo "all ${#results[@]} cells have finished; nothing to submit"
        return
    fi
    job=$(submit --array="${list#,}%${MAX_TASKS:-8}" "$launcher" "$@")
    (
        unset SBATCH_GPUS SBATCH_GPUS_PER_NODE SBATCH_GPUS_PER_TASK SBATCH_GRES  # collecting needs none
        submit --dependency="afterany:$job" --output="${launcher%.sh}_collect_%j.log" "$launcher" --collect "$@" >/dev/null
    )
    echo "array job $job, at most ${MAX_TASKS:-8} tasks at once (MAX_TASKS); a job behind it collects the results"
}

run_cells() {  # launcher, folder for logs, flags: train the cell of this array task or, as many at once as fit, all
    local launcher=$1 logs=$2 cell cores devices gpus per_run=${GPUS_PER_RUN:-1} slot slots; shift 2
    local index=${SLURM_ARRAY_TASK_ID:-${IDX:-}}
    read -r gpus cores < <("$PYTHON" -c "import os, torch
print(torch.cuda.device_count(), len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")
    if [[ -n $index ]]; then
        if (( index >= ${#cells[@]} )); then
            echo "$launcher: there are ${#cells[@]} cells, no cell $index: use --array=0-$(( ${#cells[@]} - 1 ))" >&2
            exit 2
        fi
        echo "cell $index of ${#cells[@]}: ${cells[index]} $*"
        train "$index" "$gpus" "$@"
        return
    fi

    export OMP_NUM_THREADS=$CORES_PER_RUN
    IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 "$(( gpus > 0 ? gpus - 1 : 0 ))")}"
    slots=$(( gpus > 0 ? gpus / per_run * ${RUNS_PER_GPU:-1} : cores / CORES_PER_RUN ))
    (( slots > 0 )) || slots=1
    mkdir -p "$logs"
    rm -f "$logs"/failed
    mkfifo "$logs/slots.$$"; exec 3<>"$logs/slots.$$"; rm "$logs/slots.$$"
    for (( slot = 0; slot < slots; slot++ )); do echo "$slot" >&3; done
    set -m  # a process group for each run, so that all of it can be ended
    trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done; wait; exit 143' INT TERM

    echo "${#cells[@]} runs, $slots at a time; the log of each is in $logs"
    for (( cell = 0; cell < ${#cells[@]}; cell++ )); do
        read -r -u 3 slot
        (
            set +m
            trap 'exit 143' TERM  # once the run has saved and ended
            if (( gpus > 0 )); then
                first=$(( slot % (gpus / per_run) * per_run ))
                CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${devices[*]:first:per_run}"); export CUDA_VISIBLE_DEVICES
            fi
            log=$logs/$(( cell + 1 )).log
            if train "$cell" "$(( gpus > 0 ? per_run : 0 ))" "$@" >"$log" 2>&1; then
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
        echo "$launcher: $(wc -l <"$logs/failed") of ${#cells[@]} runs failed; start again to go on with them" >&2
        exit 1
    fi
}
