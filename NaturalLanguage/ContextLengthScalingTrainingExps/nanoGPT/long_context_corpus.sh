# The token files of reproduce_long_context.sh and the base runs on them; used with: source long_context_corpus.sh
recall() {  # LENGTH: documents of recall of up to so many tokens, in the tokens of the corpus
    run "$PYTHON" data/retrieval/prepare.py --task gap "${pairs[@]}" --corpus "$OUT/corpus/${text/SPLIT/train}" \
        --min_units 1 --max_units $(($1 - 12)) --out_dir "$OUT/recall$1" \
        --test_units $((L - 12)) $((2 * L - 12)) $((4 * L - 12)) $((8 * L - 12))
}
mix() {  # FOLDER LONG SHORT SHARES: mixes of both splits, SPLIT in the names
    local to=$1 long=$2 short=$3 split tokens; shift 3
    for split in train val; do
        tokens=$TOKENS; [[ $split == train ]] || tokens=$VALID
        run "$PYTHON" data/mix.py --long "$OUT/${long/SPLIT/$split}" --short "$OUT/${short/SPLIT/$split}" \
            --window "$PACKED" --tokens "$tokens" --long_share "$@" --out_dir "$OUT/$to"
    done
}
base() {  # text, documents of recall in its tokens (12 beside the gap), mixes of both, and the base runs; once
    [[ -z ${base_runs-} ]] || return 0
    base_runs=there
    run "$PYTHON" data/openwebtext/prepare.py --percent "${PERCENT:-100}" ${corpus[@]+"${corpus[@]}"} --out_dir "$OUT/corpus"
    for length in "$L" "$LONGEST"; do
        recall "$length"; mix "text$length" "recall$length/gap_SPLIT.bin" "corpus/$text" 0.3
    done
    train base --context_lengths "$L" --train_bin "$OUT/text$L/MIX_train_L0.3_W$PACKED.bin" --train_tokens "$TOKENS" \
        ${training[@]+"${training[@]}"} ${learning[@]+"${learning[@]}"}
}
# What runs that begin with the base run of their seed share, and what reads documents of recall
from=(--init_from "$OUT/base" --context_lengths "$LONGEST" --train_tokens "$TOKENS"
    --train_bin "$OUT/text$LONGEST/MIX_train_L0.3_W$PACKED.bin" "${tuning[@]}")
tests=(--test "$OUT/recall$LONGEST/gap_test.jsonl" --lengths "$L" $((2 * L)) $((4 * L)) "$LONGEST")
