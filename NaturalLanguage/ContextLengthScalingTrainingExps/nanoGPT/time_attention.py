"""Time and weigh each attention, forward and backward, against the length of the text.

    python time_attention.py --threads 2                                    # the CPU, up to 64k tokens
    python time_attention.py --device cuda --dtype bfloat16 --n_head 16 --head_width 64 --out outputs/time_gpu.csv
    python time_attention.py --lengths 256 512 1024 --attention_group 64 --window 64 --dilated_pairs 64:1 128:2 256:4

Each attention and length is measured in a process of its own on random queries, keys and values of one text. Writes
OUT, a row for each: median seconds of the forward pass and of both passes (over rounds of together --seconds or more,
3 at least; --clock processor where other programs share the machine), and peak memory beyond the inputs (of the
process; on a GPU, of its allocations), and beside it _about.json (flags of the first rows, hardware, versions). Rows
that are there already are kept, so an interrupted measurement goes on. Prints the exponents p of time ~ length^p and
memory ~ length^p, fitted over all lengths.
"""

from utils import Parser, choose_device, describe_environment, fail, non_negative_float, positive_int, run_main, say

import json
import statistics
import subprocess
import sys
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import torch

from attention import KINDS, make_attention
from exponents import fit_exponent
from files import difference, load_json, make_directory, read_table, save_json, write_csv
from long_context_flags import attention_config, dilated_pair
from machine import peak_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEASURED = ("n_head", "head_width", "attention_group", "window", "dilated_pairs", "seconds", "clock", "dtype",
            "device", "threads")  # flags that change a row
MACHINE = ("hardware", "torch")  # what else does, of the environment

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def passes(module, parts, device, clock):
    """Seconds of a forward and of a backward pass, by a clock of CLOCKS."""
    def now():
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return CLOCKS[clock]()

    began = now()
    out = module(*parts)
    between = now()
    torch.autograd.grad(out, parts, torch.ones_like(out))
    return between - began, now() - between


def config_of(args, kind, length):
    settings = {"shifted_sparse": {"group": args.attention_group}, "dilated": {"pairs": args.dilated_pairs},
                "sliding_window": {"window": args.window}}
    return attention_config(kind, length, args.n_head, **settings.get(kind, {})) or {}


def measure(args, kind, length):
    """The row of one attention at one length, measured in this process."""
    device = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    module = make_attention(**config_of(args, kind, length))
    options = {"device": device, "dtype": DTYPES[args.dtype], "requires_grad": True}

    def inputs(length):
        return [torch.randn(1, args.n_head, length, args.head_width, **options) for _ in range(3)]

    passes(module, inputs(args.attention_group), device, args.clock)  # loads what a first call loads
    parts = inputs(length)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else peak_memory(device)
    passes(module, parts, device, args.clock)
    peak = peak_memory(device) - before
    rounds = []
    while len(rounds) < 3 or sum(map(sum, rounds)) < args.seconds:
        rounds.append(passes(module, parts, device, args.clock))
    return {"attention": kind, "context_length": length,
            "forward_seconds": statistics.median(forward for forward, _ in rounds),
            "seconds": statistics.median(map(sum, rounds)), "peak_megabytes": peak / 1e6, "rounds": len(rounds)}


def in_own_process(kind, length):
    """The row of `measure`, from a process with the same flags."""
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--cell", kind, str(length)],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode:
        fail(f"{kind} attention of {length} tokens ended with code {done.returncode}; what was measured before is kept")
    return json.loads(done.stdout.splitlines()[-1])


def request_of(about):
    """What changes a row, of the contents of _about.json."""
    return {**{name: about["arguments"].get(name) for name in MEASURED},
            **{name: about["environment"].get(name) for name in MACHINE}}


def read_rows(out, stored, about):
    """Rows measured before; exits with code 2 if they are of other flags, another machine or another torch.

    stored: the path of _about.json, about: what it is to say.
    """
    if not out.exists():
        return {}
    other = difference(request_of(load_json(stored, "the flags of the measurement")), request_of(about))
    if other:
        fail(f"{out} holds rows with {other}; add --overwrite, or choose another --out")
    return {(row["attention"], int(row["context_length"])): row for row in read_table(out)}


def build_parser():
    parser = Parser(__doc__)
    parser.add_argument("--attentions", nargs="+", choices=KINDS, default=list(KINDS), help="what is measured")
    parser.add_argument("--lengths", type=positive_int, nargs="+", default=[4096, 8192, 16_384, 32_768, 65_536],
                        help="tokens of the text")
    parser.add_argument("--n_head", type=positive_int, default=4, help="attention heads")
    parser.add_argument("--head_width", type=positive_int, default=32, help="width of a head")
    parser.add_argument("--attention_group", type=positive_int, default=1024, help="tokens of a group, shifted_sparse")
    parser.add_argument("--window", type=positive_int, default=1024, help="tokens that are seen, sliding_window")
    parser.add_argument("--dilated_pairs", type=dilated_pair, nargs="+", metavar="W:R",
                        default=[[1024, 1], [2048, 2], [4096, 4]], help="segments and dilations, dilated "
                        "(default: 1024:1 2048:2 4096:4)")
    parser.add_argument("--seconds", type=non_negative_float, default=2.0, help="least time of the rounds together")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="wall, or the time that this process had on "
                        "the CPU, which other work does not lengthen (for one thread)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of queries, keys and values")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--out", default="outputs/attention/time.csv", help="file to write")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="measure all rows again")
    parser.add_argument("--cell", nargs=2, metavar=("ATTENTION", "LENGTH"), help="measure one, in this process")
    return parser


def main():
    args = build_parser().parse_args()
    if args.clock == "processor" and (args.threads != 1 or args.device != "cpu"):
        fail("--clock processor adds the times of all threads and sees no GPU; give --threads 1 --device cpu with it")
    if args.cell:
        print(json.dumps(measure(args, args.cell[0], int(args.cell[1]))))
        return
    cells = [(kind, length) for kind in args.attentions for length in sorted(args.lengths)]
    for kind, length in cells:
        config_of(args, kind, length)  # refuses what does not fit before anything is measured
    out = Path(args.out)
    stored = out.with_name(f"{out.stem}_about.json")
    about = {"arguments": vars(args), "environment": describe_environment(choose_device(args.device))}
    make_directory(out.parent)
    if args.overwrite:
        out.unlink(missing_ok=True)  # before other flags are said to be those of its rows
    rows = read_rows(out, stored, about)
    if not rows:
        save_json(stored, about)
    for kind, length in cells:
        if (kind, length) not in rows:
            rows[kind, length] = in_own_process(kind, length)
            write_csv(out, list(rows.values()))
        row = rows[kind, length]
        seconds, megabytes = float(row["seconds"]), float(row["peak_megabytes"])
        say(f"{kind}, {length} tokens: {seconds:.4f} s, {megabytes:.1f} MB")
    for kind in args.attentions:
        mine = [rows[cell] for cell in cells if cell[0] == kind]
        lengths = [int(row["context_length"]) for row in mine]
        if len(lengths) > 1:
            time_exponent, memory_exponent = (fit_exponent(lengths, [float(row[name]) for row in mine])
                                              for name in ("seconds", "peak_megabytes"))
            print(f"{kind}: time ~ length^{time_exponent}, memory ~ length^{memory_exponent}")
    print(f"-> {out}")


if __name__ == "__main__":
    run_main(main)
