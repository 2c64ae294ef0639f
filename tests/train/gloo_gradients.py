"""Started in several processes by test_gloo.py: gradients of a step, for every loss, into a file.

Arguments: folder of a model, file to write.
"""

import random
import sys

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import save_file
from uprank.configs.schema_train import LossSettings, TrainCommand
from uprank.configs.validate_loss import NEEDS
from uprank.data.groups import Group
from uprank.data.sampling.draws import draw_step
from uprank.data.sampling.in_batch import in_batch_negatives
from uprank.model.reranker import Reranker
from uprank.train.backward import backward
from uprank.train.state import Run
from uprank.train.step import make_batches

SEED, MOST = 4, 10**6
# Tokens a batch, groups and foreign negatives: whole groups, all in parts, and more processes than groups.
CASES = {"whole": (MOST, 7, 0), "parts": (60, 7, 0), "some parts": (260, 2, 0), "foreign": (150, 7, 2)}


def make_groups():
    """Of 2 to 9 passages: grades 1 to 3, and scores of a teacher."""
    generator = random.Random(9)
    words = ["rank", "query", "passage", "river", "stone", "light", "heart", "blood", "drug"]

    def text(most):
        return " ".join(generator.choices(words, k=generator.randrange(1, most)))

    def group(number):
        positives, negatives = 1 + number % 3, 1 + number
        return Group(
            f"{text(6)} q{number}",
            tuple(f"{text(20)} {number}.{i}" for i in range(positives)),
            tuple(f"{text(30)} n{i}" for i in range(negatives)),
            f"row:{number}",
            tuple(generator.randrange(1, 4) for _ in range(positives)),
            tuple(generator.gauss(0, 2) for _ in range(positives + negatives)),
        )

    return [group(number) for number in range(7)]


def main(folder, target):
    torch.set_num_threads(1)
    gradients_only = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[gradients_only])
    reranker, groups = Reranker.load(folder, query_tokens=30, device="cpu"), make_groups()
    reranker.set_dropout(attention=0.2, hidden=0.1)
    with torch.no_grad():  # scores of one another's size, so that ranks do not hang on rounding
        reranker.model.classifier.out_proj.weight.mul_(20)
    scorer, settings = accelerator.prepare(reranker.scorer).train(), TrainCommand(seed=SEED)
    run = Run(settings, None, accelerator, reranker, scorer, None, None, None, 1)
    found = {}
    for name, need in NEEDS.items():
        # Of scores this far apart approx_ndcg has hardly a gradient.
        settings.loss = LossSettings(name, temperature=20.0 if name == "approx_ndcg" else 1.0)
        for case, (budget, count, foreign) in CASES.items():
            if need.teacher and foreign:
                continue
            settings.train.tokens_per_batch = budget
            draws = draw_step(groups, start=0, count=count, group_size=9, positives=3, seed=SEED)
            draws = in_batch_negatives(
                draws, [groups[one.index] for one in draws], per_group=foreign, seed=SEED
            )
            reranker.model.zero_grad(set_to_none=True)
            backward(run, make_batches(run, draws), len(draws))
            weights = reranker.model.named_parameters()
            found |= {f"{name}/{case}/{key}": p.grad.clone() for key, p in weights if p.grad is not None}
    if accelerator.is_main_process:
        save_file(found, target, metadata={"processes": str(accelerator.num_processes)})
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
