"""The machine that a run is on: its processes, the memory held, the peak of its GPU, and whether to compile for it."""

import ctypes
import importlib.util
import os
import resource
import shutil
import sys

import torch
import torch.distributed as dist

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165}  # dense bf16, by part of the GPU's name


def peak_tflops(device):
    """The dense bfloat16 peak of a GPU that the table knows, in TFLOP/s, else None."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((tflops for part, tflops in PEAK_TFLOPS.items() if part in name), None)


def peak_memory(device):
    """Most bytes held so far: allocations on the device if it is a GPU, else the memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory():
    """Have glibc reuse freed memory rather than return it: on a CPU a third of a step went into getting it back."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX: no maps of their own; M_TRIM_THRESHOLD: never
            library.mallopt(option, value)


def can_compile(device):
    """Whether torch.compile is likely to work and to pay: on a GPU, with triton and a C compiler for its launchers."""
    compilers = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    return (device.type == "cuda" and importlib.util.find_spec("triton") is not None
            and any(map(shutil.which, compilers)))


def is_out_of_memory(error):
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)  # the CPU's allocator


class Processes:
    """The processes of a run, one a GPU (or one on the CPU): who this one is, and sums over all of them."""

    def __init__(self, device):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = device
        if self.world > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def sum(self, tensor):
        """Sum a tensor over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters):
        """Sum the gradients over the processes, all in one message."""
        if self.world > 1:
            gradients = [parameter.grad for parameter in parameters]
            flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
                gradient.copy_(total.view_as(gradient))

    def any(self, condition):
        """Whether the condition holds in one of the processes."""
        if self.world == 1:
            return bool(condition)
        return self.sum(torch.tensor(int(bool(condition)), device=self.device)).item() > 0

    def share(self, items):
        """This process's part of a sequence."""
        return items[len(items) * self.rank // self.world:len(items) * (self.rank + 1) // self.world]

    def wait(self):
        if self.world > 1:
            dist.barrier()

    def end(self):
        """End a process of several, all of them at once; nothing runs behind this.

        Python is left without its own shutdown, which the threads of gloo can turn into an abort.
        """
        if self.world > 1:
            self.wait()
            dist.destroy_process_group()
            sys.stdout.flush()
            os._exit(0)
