"""The processes of a run: one or, under torchrun, several, of which the first one writes."""

import os
import sys
from datetime import timedelta

from utils import fail


class Processes:
    """This process's `rank` among `world`, and what they say to each other, which lies on the CPU (gloo)."""

    def __init__(self, device_map):
        """Exits with code 2 where one process is to take all GPUs (--device_map) and there are several."""
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if device_map and self.world > 1:
            fail("--device_map auto takes all GPUs into one process; start it without torchrun")

    def join(self):
        """Find the others."""
        if self.world > 1:
            import torch.distributed as dist
            dist.init_process_group("gloo", timeout=timedelta(days=1))

    def share(self, n):
        """This process's part of n in a row: a slice."""
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def barrier(self):
        """Wait for the others."""
        if self.world > 1:
            import torch.distributed as dist
            dist.barrier()

    def gather(self, value):
        """The values of all processes in the first one, None in the others."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist
        values = [None] * self.world if self.rank == 0 else None
        dist.gather_object(value, values)
        return values

    def from_first(self, value):
        """The first process's value."""
        values = [value]
        if self.world > 1:
            import torch.distributed as dist
            dist.broadcast_object_list(values)
        return values[0]

    def end(self):
        """End this process, if it is one of several: gloo's threads can turn Python's own shutdown into an abort."""
        if self.world > 1:
            import torch.distributed as dist
            dist.barrier()
            dist.destroy_process_group()
            sys.stdout.flush()
            os._exit(0)
