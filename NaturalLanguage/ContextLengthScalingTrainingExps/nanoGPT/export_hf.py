"""Write a trained run as a Hugging Face model directory: a GPT-NeoX model of transformers' own, with its tokenizer.

    python export_hf.py outputs/runs/ctl256_tok7852092_seed0 --out_dir outputs/models/ctl256

Then transformers' AutoModelForCausalLM and AutoTokenizer read OUT_DIR without remote code. In float32 its logits are
those of the run to rounding (GPT-NeoX has biases, ours has none: they are zeros).
"""

import filecmp
import shutil
from argparse import BooleanOptionalAction
from pathlib import Path

import torch

from utils import Parser, fail, load_json, make_directory
from model import GPT
from run import load_tensors

NAMES = {"attention_norm": "input_layernorm", "query_key_value": "attention.query_key_value",
         "attention_out": "attention.dense", "mlp_norm": "post_attention_layernorm", "mlp_in": "mlp.dense_h_to_4h",
         "mlp_out": "mlp.dense_4h_to_h"}


def load_run(run_dir, device="cpu"):
    """The model of a run with its best weights, and the run's arguments. Exits with code 2 if it has not finished."""
    run_dir = Path(run_dir)
    description = load_json(run_dir / "args.json", "the arguments of the run")
    weights = load_tensors(run_dir / "best.pt", "weights", device)
    model = GPT(**description["model"]).to(device)
    model.load_state_dict(weights)
    return model.eval(), description["arguments"]


def to_neox(model, context_length):
    """A transformers GPTNeoXForCausalLM with the weights of our GPT."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
    width, heads = model.embedding.embedding_dim, model.n_head
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=model.embedding.num_embeddings, hidden_size=width, num_hidden_layers=len(model.blocks),
        num_attention_heads=heads, intermediate_size=4 * width, hidden_act="gelu",
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
        max_position_embeddings=context_length, use_parallel_residual=False, attention_bias=False,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, dtype=torch.float32))
    weights = {"embed_in.weight": model.embedding.weight, "final_layer_norm.weight": model.final_norm.weight}
    for number, block in enumerate(model.blocks):
        for name, module in block.named_children():
            weight = module.weight
            if name == "query_key_value":  # ours: all queries, keys, values; GPT-NeoX's: those of each head together
                weight = weight.view(3, heads, width // heads, width).transpose(0, 1).reshape(3 * width, width)
            weights[f"layers.{number}.{NAMES[name]}.weight"] = weight
    missing, unexpected = neox.base_model.load_state_dict(weights, strict=False)  # the output layer is the embedding
    wrong = [name for name in missing if not name.endswith(".bias")] + unexpected
    if wrong:
        fail(f"this version of transformers has another GPT-NeoX ({', '.join(wrong)}); install requirements.txt")
    with torch.no_grad():
        for name in missing:
            neox.base_model.get_parameter(name).zero_()
    return neox.eval()


def main():
    parser = Parser(__doc__)
    parser.add_argument("run", help="directory of a finished run of train.py")
    parser.add_argument("--out_dir", required=True, help="directory for the model")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace what is there")
    args = parser.parse_args()
    model, arguments = load_run(args.run)
    from transformers import PreTrainedTokenizerFast
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(args.run) / "tokenizer.json"),
                                        bos_token="<|endoftext|>", eos_token="<|endoftext|>",
                                        model_max_length=arguments["context_length"])
    neox = to_neox(model, arguments["context_length"])
    neox.config.bos_token_id = neox.config.eos_token_id = tokenizer.eos_token_id
    neox.generation_config.bos_token_id = neox.generation_config.eos_token_id = tokenizer.eos_token_id
    out_dir = Path(args.out_dir)
    make_directory(out_dir.parent)
    unfinished = out_dir.with_name(f"{out_dir.name}.tmp")  # becomes out_dir when it is whole
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        tokenizer.save_pretrained(unfinished)
        neox.save_pretrained(unfinished)
        if out_dir.exists() and not args.overwrite:
            names = [path.name for path in unfinished.iterdir()]
            same = not any(filecmp.cmpfiles(unfinished, out_dir, names, shallow=False)[1:])
            shutil.rmtree(unfinished)
            if not same:
                fail(f"{out_dir} holds something else; add --overwrite to replace it, or choose another --out_dir")
            return print(f"{args.run} -> {out_dir}: exported before")
        if out_dir.exists():
            shutil.rmtree(out_dir)
        unfinished.rename(out_dir)
    except OSError as error:
        fail(f"cannot write {out_dir}: {error.strerror or error}; free some space or choose another --out_dir")
    print(f"{args.run} -> {out_dir}: GPT-NeoX, {sum(p.numel() for p in model.parameters()):,} parameters, "
          f"context length {arguments['context_length']}")


if __name__ == "__main__":
    main()
