# The presets of reproduce_long_context.sh; used with: source long_context_presets.sh
#
# L: tokens of the base runs, tuned at 8 times as many; FAR: how far back a memory reaches; pairs: of documents of recall;
# TOKENS, VALID: of the mixes; learning: of the base runs alone, until they recall; longer: for shifted sparse attention
pairs=(--n_pairs 4 --n_keys 8 --n_values 8)
case $PRESET in
smoke)
    L=32 FAR=64 TOKENS=16384 kinds="linear" shares="0 1" lengths="64" sweep_tokens=16384
    pairs+=(--train_tokens 20000 --val_tokens 20000 --test_documents 20)
    model=(--n_layer 2 --n_head 2 --n_embd 16 --tokens_per_step 1024 --eval_tokens 1024
        --full_context_targets 16 --threads 1)
    training=(--max_iters 4 --eval_interval 4 --warmup_iters 1) learning=(--document_mask)
    tuning=("${training[@]}") longer=(--max_iters 6)
    remembering=(--n_layer 1 "${training[@]}") sweeping=("${training[@]}")
    timing=(--lengths 256 512 --attention_group 64 --window 64 --dilated_pairs 64:1 128:2 --seconds 0 --threads 1)
    dilated=(16:1 32:2) window=16 VALID=4096 packages=(--packages tqdm numpy)
    corpus=(--source docstrings "${packages[@]}" --min_tokens 500 --tokenizer bpe:512)
    short=(--source docstrings "${packages[@]}" --min_tokens 1)
    long=(--source code --packages tqdm tiktoken --validation_packages tqdm --min_tokens 500) ;;
small)
    L=64 FAR=1000 TOKENS=1048576 kinds="linear ntk yarn" shares="0 0.3 0.6 1" lengths="64 256 1024" sweep_tokens=100000
    pairs+=(--train_tokens 2000000 --val_tokens 100000 --test_documents 40)
    model=(--n_layer 2 --n_head 2 --n_embd 64 --init_std 0.1 --tokens_per_step 2048 --eval_tokens 16384
        --full_context_targets 64 --threads 1)
    training=(--tokens_per_step 1024 --learning_rate 6e-3 --min_lr 6e-4 --max_iters 600 --lr_decay_iters 600
        --warmup_iters 30 --eval_interval 300 --patience 100)
    learning=(--document_mask --max_iters 1200 --lr_decay_iters 1200 --warmup_iters 60)
    tuning=(--learning_rate 1e-3 --min_lr 1e-3 --max_iters 40 --warmup_iters 10 --eval_interval 40 --patience 100)
    longer=(--max_iters 400)
    remembering=(--n_layer 1 --tokens_per_step 1024 --learning_rate 6e-3 --min_lr 6e-4 --max_iters 300
        --lr_decay_iters 300 --warmup_iters 30 --eval_interval 100 --patience 100)
    sweeping=(--learning_rate 3e-3 --min_lr 3e-4 --max_iters 4000 --lr_decay_iters 4000 --warmup_epochs 1
        --eval_interval 25 --patience 8)
    timing=(--lengths 4096 8192 16384 --threads 1)
    dilated=(32:1 64:2) window=32 VALID=131072
    corpus=(--source docstrings --validation_fraction 0.1 --tokenizer bpe:1024)
    short=(--source docstrings --min_tokens 1) long=(--source code --min_tokens 2000) ;;
paper)
    L=2048 FAR=65536 TOKENS=83886080 kinds="linear ntk yarn" shares="0 0.3 0.6 1" lengths="1024 2048 4096 8192 16384"
    sweep_tokens="20000000 80000000" model=(--n_embd 768)
    training=() learning=(--document_mask) longer=(--max_iters 4000)
    tuning=(--learning_rate 2e-5 --min_lr 2e-5 --warmup_iters 20 --max_iters 1000 --patience 100)
    remembering=(--n_layer 1 --tokens_per_step 65536) sweeping=()  # 32 rows: their memory takes 16 GB
    timing=(--device cuda --dtype bfloat16 --n_head 12 --head_width 64)
    dilated=(512:1 1024:2) window=512 VALID=4194304 PERCENT=10 SHORT_PERCENT=2 corpus=()
    pairs+=(--train_tokens 26000000 --val_tokens 1600000)  # over 0.3 x TOKENS and 0.3 x VALID
    short=(--min_tokens 1) long=(--min_tokens 20000) ;;
*)  echo "reproduce_long_context.sh: unknown preset $PRESET; use smoke, small or paper" >&2; exit 2 ;;
esac
# PACKED: of the mixes, whose windows end with an end of text: many contexts, or models learn that each context ends so
LONGEST=$((8 * L)) PACKED=$((128 * L))
text=LONGCONTEXTSUBSET_SPLIT_P${PERCENT:-100}.0_SFrom0.0.bin
long_text=LONGCONTEXTSUBSET_SPLIT_P100.0_SFrom0.0.bin short_text=LONGCONTEXTSUBSET_SPLIT_P${SHORT_PERCENT:-100}.0_SFrom0.0.bin
