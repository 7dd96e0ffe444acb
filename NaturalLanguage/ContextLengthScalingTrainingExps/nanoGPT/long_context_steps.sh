# The steps of reproduce_long_context.sh, which sets what they read; used with: source long_context_steps.sh

measure_time() { run "$PYTHON" time_attention.py "${timing[@]}" --out "$OUT/time.csv"; }
measure_memory() {
    local tokens remember
    run "$PYTHON" data/retrieval/prepare.py --task gap "${pairs[@]}" --min_units 1 --max_units "$FAR" \
        --test_units $((FAR / 5)) $((FAR / 2)) "$FAR" --out_dir "$OUT/gap"
    for tokens in 0 $((FAR * 5 / 4)); do  # in the first block, whose keys the local attention teaches
        remember=(); [[ $tokens == 0 ]] || remember=(--memory_tokens "$tokens" --memory_layer 1)
        train "memory_$tokens" --context_lengths "$L" --train_bin "$OUT/gap/gap_train.bin" --train_tokens all \
            "${remembering[@]}" ${remember[@]+"${remember[@]}"}
    done
    evaluate memory "$OUT/memory_$tokens"/ctl* --test "$OUT/gap/gap_test.jsonl" \
        --memory_tokens 0 $((FAR / 8)) $((FAR / 4)) $((FAR / 2)) "$FAR" $((FAR * 5 / 4)) $((FAR * 2))
    evaluate memory_without "$OUT"/memory_0/ctl* --test "$OUT/gap/gap_test.jsonl" --windowed
}
measure_memory_text() {  # the loss on text, of runs that read it in order
    local tokens remember
    base
    for tokens in 0 "$((LONGEST / 2))"; do
        remember=(); [[ $tokens == 0 ]] || remember=(--memory_tokens "$tokens")
        train "text_memory_$tokens" --context_lengths "$L" --train_bin "$OUT/corpus/${text/SPLIT/train}" \
            --train_tokens "$TOKENS" ${training[@]+"${training[@]}"} ${remember[@]+"${remember[@]}"}
    done
    evaluate memory_text "$OUT"/text_memory_*/ctl* --texts text="$OUT/corpus/${text/SPLIT/val}" \
        --lengths "$L" "$LONGEST" --windows 512 \
        --memory_tokens 0 $((LONGEST / 16)) $((LONGEST / 8)) $((LONGEST / 4)) $((LONGEST / 2)) "$LONGEST"
}
measure_positions() {
    local kind
    base
    train tuned_none "${from[@]}"
    for kind in $kinds; do train "tuned_$kind" "${from[@]}" --rope_type "$kind" --rope_factor 8; done
    evaluate positions "$OUT"/base/ctl* "$OUT"/tuned_*/ctl* --texts text="$OUT/corpus/${text/SPLIT/val}" "${tests[@]}" \
        --rope_types none linear ntk dynamic yarn
}
measure_mixes() {
    local share tokenizer="$OUT/corpus/$(basename "${text/SPLIT/tokenizer}" .bin).json" runs=()
    base
    run "$PYTHON" data/openwebtext/prepare.py --percent "${SHORT_PERCENT:-100}" "${short[@]}" --out_dir "$OUT/short" \
        --tokenizer "$tokenizer"
    run "$PYTHON" data/openwebtext/prepare.py --percent 100 "${long[@]}" --out_dir "$OUT/long" --tokenizer "$tokenizer"
    mix longs "recall$LONGEST/gap_SPLIT.bin" "long/$long_text" 0.3
    mix shorts "recall$L/gap_SPLIT.bin" "short/$short_text" 0.3
    # shellcheck disable=SC2086  # a list of numbers
    mix mixes "longs/MIX_SPLIT_L0.3_W$PACKED.bin" "shorts/MIX_SPLIT_L0.3_W$PACKED.bin" $shares
    for share in $shares; do
        train "mix_$share" --context_lengths "$LONGEST" --train_bin "$OUT/mixes/MIX_train_L${share}_W$PACKED.bin" \
            --train_tokens "$TOKENS" --document_mask ${training[@]+"${training[@]}"}
        runs+=("$OUT/mix_$share"/ctl*)
    done
    evaluate mixes "${runs[@]}" "${tests[@]}" \
        --texts long="$OUT/long/${long_text/SPLIT/val}" short="$OUT/short/${short_text/SPLIT/val}"
}
measure_tuning() {  # LoRA, and shifted sparse attention, whose evaluation is in full
    local tune=("${from[@]}" --rope_type linear --rope_factor 8)
    base
    train tune_full "${tune[@]}"; train tune_shifted_sparse "${tune[@]}" --attention shifted_sparse
    train tune_lora "${tune[@]}" --lora_rank 8; train tune_lora_norms "${tune[@]}" --lora_rank 8 --trainable norms
    train tune_lora_embeddings "${tune[@]}" --lora_rank 8 --trainable embeddings
    train tune_lora_both "${tune[@]}" --lora_rank 8 --trainable norms embeddings
    train tune_full_longer "${tune[@]}" "${longer[@]}"
    train tune_shifted_sparse_longer "${tune[@]}" "${longer[@]}" --attention shifted_sparse
    evaluate tuning "$OUT"/tune_*/ctl* "${tests[@]}" --texts text="$OUT/corpus/${text/SPLIT/val}"
}
measure_sweeps() {
    base
    export CONTEXT_LENGTHS=$lengths TRAIN_TOKENS=$sweep_tokens SEEDS TRAIN_BIN=$OUT/corpus/${text/SPLIT/train}
    sweep full
    sweep shifted_sparse --attention shifted_sparse --attention_group "$window"
    sweep dilated --attention dilated --dilated_pairs "${dilated[@]}"
    sweep sliding_window --attention sliding_window --window "$window"
}
