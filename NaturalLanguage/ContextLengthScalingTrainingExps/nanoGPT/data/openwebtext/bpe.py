"""The two kinds of tokenizers: GPT-2's, and a byte-level BPE trained on the corpus.

Both encode whole batches in parallel and can be saved as a tokenizer.json that the `tokenizers` and `transformers`
libraries read.
"""

import sys

END_OF_TEXT = "<|endoftext|>"


class TokenizerError(Exception):
    """A tokenizer that cannot be had, with one line that says what to do."""


class Bpe:
    """A tokenizer of the `tokenizers` library, which encodes in parallel by itself."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.vocabulary_size = tokenizer.get_vocab_size()
        self.end_of_text = tokenizer.token_to_id(END_OF_TEXT)

    @classmethod
    def from_file(cls, path):
        """The tokenizer of a tokenizer.json."""
        from tokenizers import Tokenizer
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"{path} is not a whole tokenizer ({error}); delete it and start again") from error

    def encode_batch(self, texts):
        """Lists of token ids, one a text."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def to_json(self):
        """The tokenizer as the text of a tokenizer.json."""
        return self.tokenizer.to_str()


class Gpt2(Bpe):
    """GPT-2's BPE, encoded by tiktoken; the file is built from tiktoken's merge ranks."""

    def __init__(self, threads):
        import tiktoken
        try:
            self.encoding = tiktoken.get_encoding("gpt2")
        except Exception as error:  # requests raises many types without a network
            raise TokenizerError(
                f"cannot get GPT-2's BPE ({type(error).__name__}): connect to a network, set TIKTOKEN_CACHE_DIR to a "
                "folder that has it, or do without it: --tokenizer bpe:4096") from error
        self.threads = threads
        super().__init__(from_merge_ranks(self.encoding._mergeable_ranks, self.encoding.eot_token))

    def encode_batch(self, texts):
        return self.encoding.encode_ordinary_batch(texts, num_threads=self.threads)


def byte_level(model):
    """A `tokenizers` tokenizer around a BPE model, working on bytes as GPT-2 does."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_letters():
    """The printable character that stands for each byte in a byte-level vocabulary, by GPT-2's rule."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def from_merge_ranks(ranks, end_of_text):
    """The tokenizer of merge ranks {bytes: id}: a token was merged from the two parts that lower ranks leave of it."""
    from tokenizers import AddedToken, models
    letters = byte_letters()
    vocabulary, merges = {}, []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        vocabulary["".join(letters[byte] for byte in token)] = rank
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            left = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], rank))
            parts[left:left + 2] = [parts[left] + parts[left + 1]]
        merges.append(tuple("".join(letters[byte] for byte in part) for part in parts))
    vocabulary[END_OF_TEXT] = end_of_text
    tokenizer = byte_level(models.BPE(vocabulary, merges))
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return tokenizer


def train_bpe(texts, vocabulary_size):
    """A byte-level BPE of `vocabulary_size` tokens, end of text included, trained on texts."""
    from tokenizers import models, pre_tokenizers, trainers
    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=[END_OF_TEXT],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=sys.stderr.isatty())
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocabulary_size:
        raise TokenizerError(f"the corpus is too small for --tokenizer bpe:{vocabulary_size}, it gives "
                             f"{tokenizer.get_vocab_size()} tokens; ask for fewer or read more documents")
    return Bpe(tokenizer)
