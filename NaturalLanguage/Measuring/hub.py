"""Tokenizers and models, from a directory or the Hugging Face hub, with one clear line when they cannot be had."""

import hashlib
import json
import os
import re
import socket
import sys
from pathlib import Path

from utils import fail

HASHED_WHOLE = 2**28  # bytes
MODEL_SUFFIXES = (".json", ".jinja", ".safetensors", ".bin")  # of the files of a model directory
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # their advice on configurations is not about our use
if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def reaches_hub():
    """Whether the hub can be reached; without a network its client would try again for minutes."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or os.environ.get("HF_ENDPOINT"):
        return True
    try:
        socket.create_connection(("huggingface.co", 443), timeout=10).close()
        return True
    except OSError:
        return False


def from_pretrained(auto_class, name, **options):
    """auto_class.from_pretrained from a directory, the cache or the hub; exits with code 2 if it cannot be had."""
    local = Path(name).is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        fail(f"there is no model directory {name}")
    try:
        if not local:
            try:
                return auto_class.from_pretrained(name, local_files_only=True, trust_remote_code=False, **options)
            except Exception:  # not in the cache, which is reported in several types, or there and of no use
                if not reaches_hub():
                    from huggingface_hub import try_to_load_from_cache
                    if isinstance(try_to_load_from_cache(name, "config.json"), str):
                        raise
                    fail(f"{name} is not on this machine and there is no network to huggingface.co; give the path of a "
                         "model directory, or download it where there is one (hf download) and copy the cache")
        return auto_class.from_pretrained(name, trust_remote_code=False, **options)
    except Exception as error:  # the libraries raise many types
        reason = " ".join(str(error).split())
        if re.search(r"gated|restricted|\b40[13]\b", reason, re.IGNORECASE):
            fail(f"{name} is gated: accept its licence on https://huggingface.co/{name} and log in with hf auth login, "
                 "or give the path of a model directory")
        if "accelerate" in reason and "device_map" in options:
            fail("--device_map needs the package accelerate: pip install accelerate")
        if "trust_remote_code" in reason:
            fail(f"{name} brings code of its own, which is not run here; use a model that transformers itself knows")
        fail(f"cannot load {name} as {auto_class.__name__}: {reason[:300]}; give a causal language model of the hub or "
             "a model directory")


def load_tokenizer(name):
    """The tokenizer of a model and the SHA-256 of what it does to a text (not of its settings for batches)."""
    from transformers import AutoTokenizer
    tokenizer = from_pretrained(AutoTokenizer, name)
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules.pop("truncation"), rules.pop("padding")
    else:
        rules = [type(tokenizer).__name__, tokenizer.get_vocab()]
    return tokenizer, hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def chat_template_sha256(tokenizer):
    """The SHA-256 of a tokenizer's chat template, or None where it has none."""
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest() if template else None


def encode(tokenizer, texts):
    """Token ids of each text; nothing is prepended, nothing is cut."""
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False,
                     truncation=False, verbose=False)["input_ids"]


def local_revision(name):
    """A hash of the files of a model directory, or None for a name on the hub.

    Of a file of more than HASHED_WHOLE bytes it reads a sixteenth: the beginning of each MiB.
    """
    if not Path(name).is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(name).iterdir() if path.suffix in MODEL_SUFFIXES):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        share = 1 if size <= HASHED_WHOLE else 16
        with open(path, "rb") as file:
            for start in range(0, size, 2**20):
                file.seek(start)
                digest.update(file.read(2**20 // share))
    return digest.hexdigest()


def revision(name, config):
    """What tells two states of a model apart: the hub's commit, or the hash of local_revision."""
    return local_revision(name) or getattr(config, "_commit_hash", None)
