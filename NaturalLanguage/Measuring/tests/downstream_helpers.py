"""Small random chat models of three families, made-up question files, and the scripts of downstream/ in this
process."""

import argparse
import json
import random
from pathlib import Path

from helpers import run_main

FAMILIES = ("qwen3", "llama", "gemma")
SIZES = {"hidden_size": 32, "layers": 2, "heads": 4, "key_value_heads": 2, "head_dim": 8, "intermediate_size": 64,
         "vocabulary": 1500, "window": 4096, "dtype": "float32", "seed": 0}
WORDS = ("amber basin cedar delta ember fjord grove haven inlet jetty knoll ledge marsh notch oasis prairie quarry "
         "ridge shoal tundra upland valley willow yonder zephyr arbor birch cliff dune estuary").split()


def run(name, *arguments):
    """Run the main() of a script of downstream/, or as "..name" beside it: (exit code, stdout, stderr)."""
    return run_main(name.removeprefix("..") if name.startswith("..") else f"downstream.{name}", *arguments)


def succeed(name, *arguments):
    """The same for a script that must succeed; returns its stdout."""
    code, out, err = run(name, *arguments)
    assert code == 0, err
    return out


def error_of(name, *arguments):
    """The one line, the last on stderr, of a script that must end with exit code 2."""
    code, _, err = run(name, *arguments)
    assert code == 2, (code, err)
    line = err.strip().splitlines()[-1]
    assert line.startswith(f"{name}.py: ") and "Traceback" not in err
    return line


def brute_force(model, ids, target):
    """Summed cross entropy of the target: one full forward pass of one row."""
    import torch
    logits = model(torch.tensor([ids + target])).logits[0].double()
    return sum(-torch.log_softmax(logits[len(ids) + index - 1], dim=0)[token].item()
               for index, token in enumerate(target))


def sentences(n, seed=0):
    generator = random.Random(seed)
    return [" ".join(generator.choice(WORDS) for _ in range(generator.randint(8, 25))).capitalize() + "."
            for _ in range(n)]


def write_squad(path, articles=12, paragraphs=15):
    """A file in SQuAD's format whose answers stand in their paragraph alone."""
    generator, data = random.Random(1), []
    for article in range(articles):
        entries = []
        for paragraph in range(paragraphs):
            name, answer = f"thing{article}x{paragraph}", f"answer{article}x{paragraph}"
            text = " ".join(sentences(generator.randint(1, 6), seed=100 * article + paragraph))
            entries.append({"context": f"{text} The {name} is {answer}.", "qas": [
                {"question": f"What is the {name}?", "is_impossible": False,
                 "answers": [{"text": answer}, {"text": answer}]},
                {"question": "What cannot be known?", "is_impossible": True, "answers": []}]})
        data.append({"title": f"Article {article}", "paragraphs": entries})
    Path(path).write_text(json.dumps({"version": "v2.0", "data": data}))
    return path


def write_nq(path, questions=12, passages=90):
    """Questions with retrieved passages, in the format of Lost in the Middle's files, some distractors with the
    answer."""
    lines = []
    for number in range(questions):
        answer = f"Answer{number}"
        gold = {"title": f"Gold {number}", "text": f"Here stands {answer} indeed.", "isgold": True, "hasanswer": True}
        others = [{"title": f"Title {number} {rank}", "isgold": False, "hasanswer": rank % 7 == 3,
                   "text": " ".join([*sentences(2, seed=1000 * number + rank), answer.upper() * (rank % 7 == 3)])}
                  for rank in range(passages)]
        lines.append({"question": f"question {number}", "answers": [answer], "ctxs": [*others[:5], gold, *others[5:]]})
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_sources(folder):
    """Flags that name a small file for every source."""
    (folder / "words.txt").write_text("\n".join(f"{first}{second}" for first in WORDS for second in WORDS))
    (folder / "essay.txt").write_text(" ".join(sentences(400)))
    (folder / "labelled.jsonl").write_text("".join(
        json.dumps({"text": f"Number {number} {sentence}", "label": WORDS[number % 7]}) + "\n"
        for number, sentence in enumerate(sentences(700))))
    return ["--squad", write_squad(folder / "squad.json"), "--nq", write_nq(folder / "nq.jsonl"),
            "--words", folder / "words.txt", "--essays", folder / "essay.txt", "--labelled", folder / "labelled.jsonl"]


def make_models(folder):
    """{family: directory} of random chat models, whose tokenizer knows the words of the prompts and of the files."""
    from downstream.make_random_model import make_model, make_tokenizer
    texts = sentences(200) + [path.read_text() for path in (Path(__file__).parents[1] / "downstream").glob("*.py")]
    found = {}
    for family in FAMILIES:
        tokenizer = make_tokenizer(family, texts, 1400)
        model = make_model(family, tokenizer, argparse.Namespace(**SIZES))
        found[family] = folder / family
        tokenizer.save_pretrained(found[family])
        model.save_pretrained(found[family])
    return found


def symbol_model(folder, keys=40, values=8):
    """A random GPT-NeoX whose tokenizer knows k0 ... and v0 ... and nothing else."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
    words = ["<unk>", "=", "?", *(f"k{index}" for index in range(keys)), *(f"v{index}" for index in range(values))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2,
                                             num_attention_heads=4, intermediate_size=64, max_position_embeddings=256,
                                             bos_token_id=None, eos_token_id=None))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def generate(path, model, task, *flags):
    """Samples of a task; returns (samples, what describes them)."""
    succeed("generate_tasks", "--task", task, "--tokenizer", model, "--out", path, *flags)
    return read_lines(path), json.loads(Path(path).with_suffix(".json").read_text())


def whole_text(sample):
    """The prompt of a sample as plain text."""
    return (sample["instruction"] + sample["opening"] + sample["separator"].join(sample["units"]) + sample["question"]
            + sample["prefix"])
