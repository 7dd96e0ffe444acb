"""The keys of nanoGPT's train.py that ours has not: passed over, named otherwise, or refused with what to give."""

from utils import fail

ALWAYS = {  # what holds here anyway, and what to do for another value
    "dropout": (("0", "0.0"), "there is no dropout here, as in the paper; leave it out"),
    "bias": (("False",), "models have no biases here, as in the paper; leave it out"),
    "decay_lr": (("True",), "for a constant rate give --min_lr the value of --learning_rate"),
    "eval_only": (("False",), "the losses of a finished run are in its final.json"),
    "always_save_checkpoint": (("False",), "the weights of the lowest loss are kept; --keep_tokens keeps others"),
}
REFUSED = {
    "eval_iters": "the same tokens are scored each time; give --eval_tokens",
    "log_interval": "the progress bar shows the loss; leave it out",
    "wandb_run_name": "a run is called by its tag; leave it out",
    "dataset": "give --train_bin",
    "backend": "it follows from --device; leave it out",
}
SWITCHES = {"compile": "compile", "wandb_log": "wandb"}  # given as KEY=True; the names of our flags
STARTS = ("--init_from=scratch", "--init_from=resume")  # a run that is there goes on anyway


def translate(words):
    """The words of a command line with nanoGPT's keys as ours; exits with code 2 at one that has no meaning here."""
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--") if flag.startswith("--") else ""
        if not equals:  # as a switch: --bias, --no-bias
            name, value = (name[3:], "False") if name.startswith("no-") else (name, "True")
        if name in REFUSED:
            fail(f"--{name}: {REFUSED[name]}")
        if name in ALWAYS:
            accepted, remedy = ALWAYS[name]
            if value not in accepted:
                fail(f"--{name} can only be {accepted[0]}: {remedy}")
        elif name in SWITCHES and value in ("True", "False"):
            found.append(f"--{'' if value == 'True' else 'no-'}{SWITCHES[name]}")
        elif word not in STARTS:
            found.append(word)
    return found
