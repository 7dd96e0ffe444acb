"""Write a random chat model of a family's architecture and chat template, to try the scripts without a download.

    python -m downstream.make_random_model --family qwen3 --out_dir outputs/downstream/models/random_qwen3
    python -m downstream.make_random_model --family qwen3 --out_dir MODEL --hidden_size 1024 --layers 28 --heads 16 \\
        --key_value_heads 8 --head_dim 128 --intermediate_size 3072 --vocabulary 151936               # 0.6B in shape

Its tokenizer is a byte-level BPE trained on the docstrings of pinned packages (or on --text_files). Its answers are
noise: scores are near chance, which the tests hold the scripts to. made_from.json, written last, says what the model
was made from; started again with the same flags and texts, nothing is done.
"""

from utils import Parser, fail, positive_int, run_main, say, seed

from argparse import BooleanOptionalAction

from downstream.sources import about_docstrings, docstring_entries
from files import current, identity, make_directory, save_json
from text_files import CorpusError, Reading, read_files

# Each as the family's own, less what tools and system prompts need.
QWEN3 = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
LLAMA = """{{- bos_token }}{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""
GEMMA = """{{- bos_token }}{%- for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"""
# family: architecture, chat template, special tokens (beginning of text or None, end of turn, others)
FAMILIES = {
    "qwen3": ("qwen3", QWEN3, (None, "<|im_end|>", "<|im_start|>", "<|endoftext|>")),
    "llama": ("llama", LLAMA, ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")),
    "gemma": ("gemma", GEMMA, ("<bos>", "<end_of_turn>", "<start_of_turn>", "<eos>")),
}


def make_tokenizer(family, texts, vocabulary):
    """A byte-level BPE with the family's special tokens and chat template; it adds the beginning of text by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
    _, template, special = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(filter(None, special)), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if special[0]:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[(special[0], tokenizer.token_to_id(special[0]))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1],
                                   extra_special_tokens=list(special[2:]), chat_template=template)


def make_model(family, tokenizer, args):
    """The random model, with the sizes of the flags."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    torch.manual_seed(args.seed)
    config = AutoConfig.for_model(
        FAMILIES[family][0], vocab_size=max(args.vocabulary, len(tokenizer)), hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size, num_hidden_layers=args.layers, num_attention_heads=args.heads,
        num_key_value_heads=args.key_value_heads, head_dim=args.head_dim, max_position_embeddings=args.window,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
        tie_word_embeddings=True, initializer_range=0.05)
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--family", choices=FAMILIES, default="qwen3", help="architecture, chat template and special tokens")
    add("--out_dir", required=True, help="directory of the model and its tokenizer")
    add("--hidden_size", type=positive_int, default=32, help="width")
    add("--layers", type=positive_int, default=2, help="layers")
    add("--heads", type=positive_int, default=4, help="attention heads")
    add("--key_value_heads", type=positive_int, default=2, help="heads of keys and values")
    add("--head_dim", type=positive_int, default=8, help="width of a head")
    add("--intermediate_size", type=positive_int, default=64, help="width of the feed-forward layers")
    add("--vocabulary", type=positive_int, default=2000, help="tokens; those beyond the tokenizer's are never used")
    add("--window", type=positive_int, default=32_768, help="tokens that the model can see")
    add("--text_files", nargs="+", help="texts to train the tokenizer on (default: docstrings)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    add("--seed", type=seed, default=0, help="of the weights")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="replace a model that is there")
    args = parser.parse_args()
    directory = make_directory(args.out_dir)
    made_from = directory / "made_from.json"
    request = {**{name: value for name, value in vars(args).items() if name not in ("out_dir", "overwrite")},
               "texts": [identity(path) for path in args.text_files] if args.text_files else about_docstrings()}
    if not args.overwrite and current(made_from, request):
        say(f"{directory}: made before")
        return
    if (directory / "config.json").exists() and not args.overwrite:
        fail(f"{directory} has a model of other flags or texts, or half of one; add --overwrite to replace it, or "
             "choose another --out_dir")
    if args.text_files:
        try:
            texts, _ = read_files(args.text_files, Reading())
        except CorpusError as error:
            fail(error)
    else:
        texts = [prose for *_, prose in docstring_entries()]
    tokenizer = make_tokenizer(args.family, texts, min(args.vocabulary, 8000))
    model = make_model(args.family, tokenizer, args)
    made_from.unlink(missing_ok=True)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
    save_json(made_from, {"request": request})
    say(f"{directory}: a random {args.family} with {sum(weight.numel() for weight in model.parameters()):,} weights")


if __name__ == "__main__":
    run_main(main)
