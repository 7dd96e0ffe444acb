"""The folder under test, made-up texts, small random models with a tokenizer, and losses by brute force."""

import contextlib
import importlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[1]
WINDOW, STRIDE, TRIM = 40, 25, (7, 5)
CUT = ("--window", WINDOW, "--stride", STRIDE, "--trim", *TRIM)
ARCHITECTURES = ("llama", "qwen3", "recurrent_gemma", "gpt2", "gpt_neox")


def make_texts(folder, n_files=24, n_words=120, seed=7):
    """Text files of words that follow each other by chance, the same on every machine; returns their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.RandomState(seed)  # the old generator, whose numbers never change
    words = ["".join("aeioubdkmnrst"[index] for index in generator.randint(13, size=generator.randint(2, 7)))
             for _ in range(80)]
    for number in range(n_files):
        text = " ".join(words[index] for index in generator.randint(80, size=n_words + 5 * number))
        (folder / f"{number:03d}.txt").write_text(text + ".\n")
    return str(folder / "*.txt")


def make_tokenizer(texts, vocabulary_size):
    """A byte-level BPE trained on the texts, as transformers saves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def make_model(architecture, vocabulary_size, width=32, seed=1):
    """A small random model of one of the ARCHITECTURES, with weights large enough to tell things apart."""
    from transformers import AutoConfig, AutoModelForCausalLM
    sizes = {"gpt2": {"n_embd": width, "n_layer": 2, "n_head": 4, "n_positions": 64},
             "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": width, "attention_window_size": 16},
             "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
             "llama": {"num_key_value_heads": 2}}.get(architecture, {})
    if architecture != "gpt2":
        sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, **sizes}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, vocab_size=vocabulary_size, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval()


def run_main(name, *arguments):
    """Run the main() of a script, a module of that name, in this process: (exit code, stdout, stderr)."""
    module = importlib.import_module(name)
    out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = [f"{name.rpartition('.')[2]}.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            module.main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue()


def run_script(name, *arguments, cwd, timeout=300):
    """Run a script of the folder as a user does, in a process of its own: a CompletedProcess."""
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def error_line(result):
    """The last line that a script wrote to stderr when it failed with exit code 2."""
    code, _, err = result
    assert code == 2, err
    line = re.split(r"[\r\n]", err.rstrip())[-1]
    assert re.match(r"\w+\.py: ", line), err
    return line


def chunks_by_hand(texts, tokenizer, window=WINDOW, stride=STRIDE, trim=TRIM):
    """All chunks as lists of ids, with the number of their document, in the order that is measured."""
    found = []
    for number, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = ids[trim[0]:len(ids) - trim[1]]
        found += [(number, ids[start:start + window]) for start in range(0, len(ids) - window + 1, stride)]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(114))
    return [found[index] for index in order]


@torch.no_grad()
def score_by_hand(model, ids, context_length):
    """Loss of the last id and all hidden states at the position before it: a full forward pass of one cut input."""
    outputs = model(torch.tensor([ids[-1 - context_length:-1]]), output_hidden_states=True)
    loss = -torch.log_softmax(outputs.logits[0, -1].double(), dim=0)[ids[-1]].item()
    return loss, [states[0, -1] for states in outputs.hidden_states]
