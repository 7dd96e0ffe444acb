"""For all tests of what spans the parts."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests fill the cores, and threads would wait
