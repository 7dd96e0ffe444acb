# The schedule of a run of so many steps, for the launchers that choose it; used with: source schedule.sh
schedule_of() {  # STEPS: sets `schedule`, flags of train.py: the cosine ends at the last step, at most 25 evaluations
    schedule=(--max_iters "$1" --lr_decay_iters "$1" --warmup_iters $(($1 / 20)) --eval_interval $((($1 + 24) / 25)))
}
