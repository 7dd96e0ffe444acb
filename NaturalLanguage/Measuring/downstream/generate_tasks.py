"""Generate samples of a downstream task, each as long as asked in tokens of a model (paper section 7).

    python -m downstream.generate_tasks --tokenizer Qwen/Qwen3-0.6B --task ruler_qa1 --max_length 8192 \\
        --squad dev-v2.0.json
    python -m downstream.generate_tasks --tokenizer MODEL --task ruler_qa1 --max_length 8192 --questions 10 --built_in
    python -m downstream.generate_tasks --tokenizer MODEL --task kv_retrieval --units 140 \\
        --gold_positions 0 34 69 104 139
    python -m downstream.generate_tasks --tokenizer MODEL_OF_SYMBOLS --task kv_retrieval --style symbols --units 32

To be started in the folder Measuring. Writes OUT (one JSON object a line, see downstream/README.md) and beside it a
.json with the request, the source and `comparable`: false where the scores cannot be set beside published ones. The
length holds the prompt, chat template included, and the tokens of the answer; no sample is over it and none is cut.
"""

from utils import run_main

from downstream.arguments import generation_parser
from downstream.samples import generate


def main():
    generate(generation_parser(__doc__).parse_args())


if __name__ == "__main__":
    run_main(main)
