# The steps of reproduce_long_context.sh, which sets what they read; used with: source long_context_steps.sh
LONGEST=$((8 * L)) whole=LONGCONTEXTSUBSET_SPLIT_P100.0_SFrom0.0.bin
text=LONGCONTEXTSUBSET_SPLIT_P${PERCENT:-100}.0_SFrom0.0.bin
JOBS=${JOBS:-$("$PYTHON" -c "import os; print(os.cpu_count())")}

train() {  # NAME FLAGS: a run of train.py for each seed ({} in the flags), JOBS at once
    local name=$1; shift
    echo "train.py of $name, seeds $SEEDS: $*"
    # shellcheck disable=SC2086  # a list of numbers
    printf '%s\n' $SEEDS | xargs -P "$JOBS" -I '{}' "$PYTHON" train.py --out_dir "$OUT/$name" --seed '{}' \
        "${model[@]}" "$@" ${more[@]+"${more[@]}"}
}
evaluate() { local name=$1; shift; run "$PYTHON" evaluate_long_context.py --out_csv "$OUT/$name.csv" "$@"; }
recall() {  # LENGTH: documents of recall of up to so many tokens, in the tokens of the corpus
    run "$PYTHON" data/retrieval/prepare.py --task gap "${pairs[@]}" --corpus "$OUT/corpus/${text/SPLIT/train}" \
        --min_units 1 --max_units $(($1 - 12)) --out_dir "$OUT/recall$1" \
        --test_units $((L - 12)) $((2 * L - 12)) $((4 * L - 12)) $((8 * L - 12))
}
mix() {  # FOLDER LONG SHORT WINDOW SHARES: mixes of both splits, SPLIT in the names
    local to=$1 long=$2 short=$3 window=$4 split tokens; shift 4
    for split in train val; do
        tokens=$TOKENS; [[ $split == train ]] || tokens=$VALID
        run "$PYTHON" data/mix.py --long "$OUT/${long/SPLIT/$split}" --short "$OUT/${short/SPLIT/$split}" \
            --window "$window" --tokens "$tokens" --long_share "$@" --out_dir "$OUT/$to"
    done
}
sweep() {  # NAME FLAGS: a sweep of train_sweep.sh with its table
    local name=$1; shift
    OUT_DIR=$OUT/sweep_$name bash train_sweep.sh "${model[@]}" ${sweeping[@]+"${sweeping[@]}"} "$@"
    run "$PYTHON" collect_results.py --runs "$OUT/sweep_$name" --out_csv "$OUT/$name.csv"
}
draw() {  # the figures of what is there
    local name tables=() costs=() sweeps=()
    for name in memory positions mixes; do [[ ! -f $OUT/$name.csv ]] || tables+=("--$name" "$OUT/$name.csv"); done
    for name in full shifted_sparse dilated sliding_window; do
        [[ ! -f $OUT/$name.csv ]] || sweeps+=("$name=$OUT/$name.csv")
    done
    [[ ! -f $OUT/time.csv ]] || costs=(--time "$OUT/time.csv")
    [[ -z ${sweeps[*]-} ]] || costs+=(--sweeps "${sweeps[@]}")
    [[ -z ${tables[*]-} ]] || run "$PYTHON" draw_long_context.py "${tables[@]}" --out_dir "$OUT/figures"
    [[ -z ${costs[*]-} ]] || run "$PYTHON" draw_attention.py "${costs[@]}" --out_dir "$OUT/figures"
}
base() {  # text, documents of recall in its tokens (12 beside the gap), mixes of both, and the base runs
    run "$PYTHON" data/openwebtext/prepare.py --percent "${PERCENT:-100}" ${corpus[@]+"${corpus[@]}"} --out_dir "$OUT/corpus"
    for length in "$L" "$LONGEST"; do
        recall "$length"; mix "text$length" "recall$length/gap_SPLIT.bin" "corpus/$text" "$length" 0.3
    done
    train base --context_length "$L" --train_bin "$OUT/text$L/MIX_train_L0.3_W$L.bin" --train_tokens "$TOKENS" \
        ${training[@]+"${training[@]}"}
}
from=(--init_from "$OUT/base/ctl${L}_tok${TOKENS}_seed{}" --context_length "$LONGEST" --train_tokens "$TOKENS"
    --train_bin "$OUT/text$LONGEST/MIX_train_L0.3_W$LONGEST.bin" "${tuning[@]}")
tests=(--test "$OUT/recall$LONGEST/gap_test.jsonl" --lengths "$L" $((2 * L)) $((4 * L)) "$LONGEST")

measure_time() { run "$PYTHON" time_attention.py "${timing[@]}" --out "$OUT/time.csv"; }
measure_memory() {
    local tokens remember
    run "$PYTHON" data/retrieval/prepare.py --task gap "${pairs[@]}" --min_units 1 --max_units "$FAR" \
        --test_units $((FAR / 5)) $((FAR / 2)) "$FAR" --out_dir "$OUT/gap"
    for tokens in 0 $((FAR * 5 / 4)); do  # in the first block, whose keys the local attention teaches
        remember=(); [[ $tokens == 0 ]] || remember=(--memory_tokens "$tokens" --memory_layer 1)
        train "memory_$tokens" --context_length "$L" --train_bin "$OUT/gap/gap_train.bin" "${remembering[@]}" \
            ${remember[@]+"${remember[@]}"}
    done
    evaluate memory "$OUT/memory_$tokens"/* --test "$OUT/gap/gap_test.jsonl" \
        --memory_tokens 0 $((FAR / 8)) $((FAR / 4)) $((FAR / 2)) "$FAR" $((FAR * 5 / 4)) $((FAR * 2))
    evaluate memory_without "$OUT"/memory_0/* --test "$OUT/gap/gap_test.jsonl" --windowed
}
measure_positions() {
    local kind
    base
    train tuned_none "${from[@]}"
    for kind in $kinds; do train "tuned_$kind" "${from[@]}" --rope_type "$kind" --rope_factor 8; done
    evaluate positions "$OUT"/base/* "$OUT"/tuned_*/* --texts text="$OUT/corpus/${text/SPLIT/val}" "${tests[@]}" \
        --rope_types none linear ntk dynamic yarn
}
measure_mixes() {
    local share name flags
    base
    for name in short long; do
        flags="${name}[@]"
        run "$PYTHON" data/openwebtext/prepare.py --percent 100 "${!flags}" --out_dir "$OUT/$name" \
            --tokenizer "$OUT/corpus/$(basename "${text/SPLIT/tokenizer}" .bin).json"
    done
    mix longs "recall$LONGEST/gap_SPLIT.bin" "long/$whole" "$LONGEST" 0.3
    mix shorts "recall$L/gap_SPLIT.bin" "short/$whole" "$LONGEST" 0.3
    # shellcheck disable=SC2086  # a list of numbers
    mix mixes "longs/MIX_SPLIT_L0.3_W$LONGEST.bin" "shorts/MIX_SPLIT_L0.3_W$LONGEST.bin" "$LONGEST" $shares
    for share in $shares; do
        train "mix_$share" --context_length "$LONGEST" --train_bin "$OUT/mixes/MIX_train_L${share}_W$LONGEST.bin" \
            --train_tokens "$TOKENS" --document_mask ${training[@]+"${training[@]}"}
    done
    evaluate mixes "$OUT"/mix_*/* "${tests[@]}" \
        --texts long="$OUT/long/${whole/SPLIT/val}" short="$OUT/short/${whole/SPLIT/val}"
}
measure_tuning() {  # LoRA, and shifted sparse attention, whose evaluation is in full
    local tune=("${from[@]}" --rope_type linear --rope_factor 8)
    base
    train tune_full "${tune[@]}"; train tune_shifted_sparse "${tune[@]}" --attention shifted_sparse
    train tune_lora "${tune[@]}" --lora_rank 8; train tune_lora_norms "${tune[@]}" --lora_rank 8 --trainable norms
    train tune_lora_embeddings "${tune[@]}" --lora_rank 8 --trainable embeddings
    train tune_lora_both "${tune[@]}" --lora_rank 8 --trainable norms embeddings
    evaluate tuning "$OUT"/tune_*/* "${tests[@]}" --texts text="$OUT/corpus/${text/SPLIT/val}"
}
measure_sweeps() {
    base
    export CONTEXT_LENGTHS=$lengths TRAIN_TOKENS=$sweep_tokens SEEDS TRAIN_BIN=$OUT/corpus/${text/SPLIT/train}
    sweep full
    sweep shifted_sparse --attention shifted_sparse --attention_group "$window"
    sweep dilated --attention dilated --dilated_pairs "${dilated[@]}"
    sweep sliding_window --attention sliding_window --window "$window"
}
