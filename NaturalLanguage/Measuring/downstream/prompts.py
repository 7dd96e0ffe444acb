"""From a sample's parts to token ids: chat template, the visible part of the context, the right answer behind it.

A sample is instruction + opening + context (units with a separator between them) + question, the user's turn of a chat
model, and the answer's prefix, which opens the assistant's turn; a query that comes first stands before the opening.
All of it is encoded at once, so that no token differs from those of the whole text, and then split: a part begins with
the token that has its first character.
"""

from bisect import bisect_right
from typing import NamedTuple

from utils import fail


class Prompt(NamedTuple):
    """Token ids of a sample. `gold` is (first, last + 1) of the gold unit in the context, None without a single one."""
    before: list
    context: list
    after: list
    target: list
    gold: tuple | None

    def visible(self, fraction):
        """Ids of the prompt with the last round(fraction x length) tokens of its context."""
        return self.before + self.context[len(self.context) - self.kept(fraction):] + self.after

    def kept(self, fraction):
        return round(fraction * len(self.context))

    def gold_distance(self):
        """Tokens from the beginning of the gold unit to the end of the context, or None."""
        return None if self.gold is None else len(self.context) - self.gold[0]

    def gold_visible(self, fraction):
        """Whether the whole gold unit is visible, or None."""
        return None if self.gold is None else self.kept(fraction) >= self.gold_distance()


class Encoder:
    """Encodes samples with a tokenizer, as a chat or as plain text.

    chat: "on", "off" or "auto", which is on if the tokenizer has a template and the task's benchmark uses one.
    """

    def __init__(self, tokenizer, name, chat="auto", chat_task=True, query_first=False):
        if not tokenizer.is_fast:
            fail(f"the tokenizer of {name} is a slow one, which cannot say where its tokens begin; use one with a "
                 "tokenizer.json")
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if chat == "on" and not has_template:
            fail(f"{name} has no chat template; use --chat off, or a chat model")
        self.tokenizer, self.name, self.query_first = tokenizer, name, query_first
        self.chat = chat == "on" or (chat == "auto" and has_template and chat_task)
        plain = tokenizer("a", add_special_tokens=False)["input_ids"]
        added = tokenizer("a")["input_ids"]
        self.begin = added[:1] if added[:1] == [tokenizer.bos_token_id] and plain[:1] != added[:1] else []

    def text(self, sample):
        """The text of the prompt and the characters at which its context begins and ends."""
        context = sample["separator"].join(sample["units"])
        before = (sample["instruction"] + (sample["query"] if self.query_first else "")
                  + sample.get("opening", ""))  # samples of before there were openings have none
        user = before + context + sample["question"]
        if not self.chat:
            start = len(before)
            return user + sample["prefix"], start, start + len(context)
        try:
            turn = self.tokenizer.apply_chat_template([{"role": "user", "content": user}], tokenize=False,
                                                      add_generation_prompt=True, enable_thinking=False)
        except Exception as error:  # a template may raise whatever it likes
            fail(f"the chat template of {self.name} cannot be filled in: {error}; use --chat off")
        start = turn.find(context)
        if start < 0:
            fail(f"the chat template of {self.name} changes the text of the user's turn; use --chat off")
        return turn + sample["prefix"].lstrip(), start, start + len(context)

    def ids(self, text):
        """Token ids of a text and the character behind each; nothing is cut, nothing added."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False,
                                 return_attention_mask=False, return_token_type_ids=False, verbose=False)
        return encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]

    def length(self, sample):
        """Tokens of the prompt."""
        ids, _ = self.ids(self.text(sample)[0])
        return len(ids) + self.added(ids)

    def added(self, ids):
        """1 if the tokenizer begins its texts with a token that a template has not written already, else 0."""
        return int(bool(self.begin) and ids[:1] != self.begin)

    def prompt(self, sample):
        """The Prompt of a sample."""
        text, start, end = self.text(sample)
        ids, ends = self.ids(text + sample["target"])
        if self.tokenizer.unk_token_id is not None and ids.count(self.tokenizer.unk_token_id) * 2 > len(ids):
            fail(f"most of the text is unknown to the tokenizer of {self.name}; it needs samples of its own symbols "
                 "(generate_tasks.py --style symbols)")
        cuts = [bisect_right(ends, border) for border in (start, end, len(text))]
        before, context, after = ids[:cuts[0]], ids[cuts[0]:cuts[1]], ids[cuts[1]:cuts[2]]
        gold = None
        if len(sample["gold"]) == 1:
            index, = sample["gold"]
            first = start + sum(len(unit) + len(sample["separator"]) for unit in sample["units"][:index])
            last = first + len(sample["units"][index])
            gold = tuple(bisect_right(ends, border) - cuts[0] for border in (first, last))
        return Prompt(self.begin * self.added(ids) + before, context, after, ids[cuts[2]:], gold)
