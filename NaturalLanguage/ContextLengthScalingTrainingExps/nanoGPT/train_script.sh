#!/usr/bin/env bash
# Train at one context length on one part of the corpus, with the paper's settings, on all GPUs (or the CPU) given.
#
#   bash train_script.sh 5120 2p0                            # here; more flags go to train.py
#   sbatch --gres=gpu:8 train_script.sh 5120 2p0             # from this folder
#   sbatch --nodes=2 --gres=gpu:8 train_script.sh 5120 2p0   # one run on all GPUs of both nodes
#
# Cost: 491,520 tokens a step, at most 600,000 steps; it stops when the validation loss has turned up.
#SBATCH --job-name=train_script
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=train_script_%j.log
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[[ -f $here/train.py ]] || here=${SLURM_SUBMIT_DIR:?submit this file from its own folder}  # Slurm runs a copy
cd "$here"
source launching.sh

if (( $# < 2 )); then
    echo "train_script.sh: give a context length and the name of a percentage, for example 5120 2p0" >&2
    exit 2
fi
context_length=$1 percent_name=$2
shift 2

config=$("$PYTHON" create_config.py --context_length "$context_length" --percent_name "$percent_name")
gpus=$("$PYTHON" -c "import jobs; print(len(jobs.visible_gpus()))")
nodes=${SLURM_JOB_NUM_NODES:-1}
if [[ $gpus -eq 0 && -n ${SLURM_JOB_ID:-} && " $* " != *" --device"[\ =]"cpu "* ]]; then
    echo "train_script.sh: this job has no GPU; submit it with --gres=gpu:8, or give --device cpu" >&2
    exit 2
fi
if (( nodes > 1 )); then
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    # in a session of its own, because at TERM srun kills its tasks; theirs comes from launching.sh
    run setsid --wait srun --kill-on-bad-exit=1 "$PYTHON" -m torch.distributed.run --nnodes "$nodes" --nproc_per_node "$(( gpus > 0 ? gpus : 1 ))" \
        --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$first:$(( 20000 + SLURM_JOB_ID % 20000 ))" \
        train.py "$config" "$@"
elif (( gpus > 1 )); then
    run "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$gpus" train.py "$config" "$@"
else
    run "$PYTHON" train.py "$config" "$@"
fi
