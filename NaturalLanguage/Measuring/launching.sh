# What the launchers of this folder share, so that each runs under bash and under sbatch alike; read with: source launching.sh
#
# cluster.env, of this folder or the nearest one above it (CLUSTER_ENV to name another), is read first if there is one:
# account, partition, modules, environment. In a Slurm job the launcher then runs as a child of itself. At USR1, which
# --signal=B:USR1@N asks for N seconds before the time limit, the child's processes get TERM, at which the scripts save
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
    child=$! signalled='' stops=0
    stop() {
        signalled=$1 stops=$((stops + 1))
        kill -TERM -- "-$child" || true  # it may have ended
        scancel --quiet --signal=TERM "$SLURM_JOB_ID" || true  # steps: srun's
    }
    trap 'stop USR1' USR1
    trap 'stop TERM' TERM INT
    code=0 before=-1
    while [[ $before -ne $stops ]]; do  # a signal ends a wait, whose status is then not the child's
        before=$stops status=0
        wait "$child" || status=$?
        [[ $status -eq 127 ]] || code=$status  # 127: the wait before had the child's
    done
    if [[ $signalled == USR1 && $code -ne 0 ]]; then  # torchrun ends with 1
        echo "stopped before the time limit; job $SLURM_JOB_ID is requeued"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
fi

export PYTHON=${PYTHON:-python}
say() { echo; echo "== $*"; }
run() { echo "\$ $*"; "$@"; }
refuse_modes() {  # FLAGS, of a preset: it runs and collects its sweeps itself
    local flag
    for flag; do case $flag in --submit | --collect | --missing | --list | --cell | --cell=*)
        echo "$(basename "$0"): $flag is of a sweep, which a preset runs and collects; leave it out" >&2; exit 2 ;;
    esac; done
}
