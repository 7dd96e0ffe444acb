"""Write a trained run as a Hugging Face model directory: a GPT-NeoX model of transformers' own, with its tokenizer.

    python export_hf.py outputs/runs/ctl256_tok7852092_seed0 --out_dir outputs/models/ctl256
    python export_hf.py outputs/runs/ctl256_tok7852092_seed0 --weights kept_1000000.pt --out_dir outputs/models/early

Then transformers' AutoModelForCausalLM and AutoTokenizer read OUT_DIR without remote code. In float32 its logits are
those of the run to rounding (GPT-NeoX has biases, ours has none: they are zeros), for the tokens of the vocabulary; the
rows that fill the run's embedding up to a multiple of 64 are left out, so that generation draws known tokens alone.
Prompts of different lengths are padded on the left, with the end-of-text token. OUT_DIR/export.json says what of.
"""

from utils import Parser, fail, run_main

import shutil
from argparse import BooleanOptionalAction
from pathlib import Path

import torch

from attention import Dilated, SlidingWindow
from files import current, identity, make_directory, save_json
from rope import rope_parameters
from run import load_run, load_tokenizer

END_OF_TEXT = "<|endoftext|>"
NAMES = {"attention_norm": "input_layernorm", "query_key_value": "attention.query_key_value",
         "attention_out": "attention.dense", "mlp_norm": "post_attention_layernorm", "mlp_in": "mlp.dense_h_to_4h",
         "mlp_out": "mlp.dense_4h_to_h"}


def to_neox(model, context_length, n_tokens, end_of_text):
    """A transformers GPTNeoXForCausalLM with the weights of our GPT, for the first n_tokens of its vocabulary.

    Exits with code 2 for what GPT-NeoX has not: a memory, dilated attention, a sliding window.
    """
    if model.memory is not None or isinstance(model.attention, (Dilated, SlidingWindow)):
        fail("GPT-NeoX has full attention and no memory, so this run cannot be exported; train.py and sample.py use it")
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
    width, heads = model.embedding.embedding_dim, model.n_head
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=n_tokens, hidden_size=width, num_hidden_layers=len(model.blocks),
        num_attention_heads=heads, intermediate_size=4 * width, hidden_act="gelu",
        rope_parameters=rope_parameters(model.rope, model.rotary_dims),
        max_position_embeddings=context_length, use_parallel_residual=False, attention_bias=False,
        tie_word_embeddings=model.output is None, bos_token_id=end_of_text, eos_token_id=end_of_text,
        pad_token_id=end_of_text, dtype=torch.float32))
    weights = {"embed_in.weight": model.embedding.weight[:n_tokens],
               "final_layer_norm.weight": model.final_norm.weight}
    for number, block in enumerate(model.blocks):
        for name, module in block.named_children():
            weight = module.weight
            if name == "query_key_value":  # ours: all queries, keys, values; GPT-NeoX's: those of each head together
                weight = weight.view(3, heads, width // heads, width).transpose(0, 1).reshape(3 * width, width)
            weights[f"layers.{number}.{NAMES[name]}.weight"] = weight
    missing, unexpected = neox.base_model.load_state_dict(weights, strict=False)  # without the output layer
    wrong = [name for name in missing if not name.endswith(".bias")] + unexpected
    if wrong:
        fail(f"this version of transformers has another GPT-NeoX ({', '.join(wrong)}); install requirements.txt")
    with torch.no_grad():
        if model.output is not None:
            neox.get_output_embeddings().weight.copy_(model.output.weight[:n_tokens])
        for name in missing:
            neox.base_model.get_parameter(name).zero_()
    return neox.eval()


def write_model(run_dir, weights, out_dir, request):
    """Write the model directory, whole or not at all; returns the run's model and context length."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    model, arguments = load_run(run_dir, weights=weights)
    known = load_tokenizer(run_dir)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=known, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT,
                                        pad_token=END_OF_TEXT, padding_side="left",
                                        model_max_length=arguments["context_length"])
    neox = to_neox(model, arguments["context_length"], known.get_vocab_size(), tokenizer.eos_token_id)
    unfinished = out_dir.with_name(f"{out_dir.name}.tmp")  # becomes out_dir when it is whole
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        tokenizer.save_pretrained(unfinished)
        neox.save_pretrained(unfinished)
        save_json(unfinished / "export.json", {"request": request})
        if out_dir.exists():
            shutil.rmtree(out_dir)
        unfinished.rename(out_dir)
    except OSError as error:
        fail(f"cannot write {out_dir}: {error.strerror or error}; free some space or choose another --out_dir")
    return neox, arguments["context_length"]


def main():
    parser = Parser(__doc__)
    parser.add_argument("run", help="directory of a finished run of train.py")
    parser.add_argument("--weights", default="best.pt", help="file of the run that holds them (see train.py "
                        "--keep_tokens)")
    parser.add_argument("--out_dir", required=True, help="directory for the model")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False,
                        help="replace whatever is there (an older export is replaced anyway)")
    args = parser.parse_args()
    run_dir, out_dir = Path(args.run), Path(args.out_dir)
    for name in (args.weights, "tokenizer.json"):
        if not (run_dir / name).exists():
            fail(f"{run_dir} has no {name}; give the directory of a finished run")
    request = {"weights": identity(run_dir / args.weights), "tokenizer": identity(run_dir / "tokenizer.json"),
               "arguments": identity(run_dir / "args.json")}
    if current(out_dir / "export.json", request) and not args.overwrite:
        return print(f"{run_dir} -> {out_dir}: exported before")
    if out_dir.exists() and not out_dir.is_dir():
        fail(f"{out_dir} is a file; choose another --out_dir")
    if out_dir.exists() and any(out_dir.iterdir()) and not (out_dir / "export.json").exists() and not args.overwrite:
        fail(f"{out_dir} holds something else; add --overwrite to replace it, or choose another --out_dir")
    make_directory(out_dir.parent)
    model, context_length = write_model(run_dir, args.weights, out_dir, request)
    print(f"{run_dir} -> {out_dir}: GPT-NeoX, {model.config.vocab_size:,} tokens, context length {context_length}")


if __name__ == "__main__":
    run_main(main)
