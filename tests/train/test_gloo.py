"""Contract 1 for every loss over real processes: 1, 2 and 3 of them have one gradient."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from uprank.configs.validate_loss import NEEDS

SCRIPT = Path(__file__).with_name("gloo_gradients.py")


def gradients(folder, target, processes):
    """What so many processes have in common after a step: {loss: {case: {weight: gradient}}}."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [sys.executable, *start, str(SCRIPT), str(folder), str(target)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"processes": str(processes)}
        for key in file.keys():  # noqa: SIM118
            loss, case, weight = key.split("/")
            found.setdefault(loss, {}).setdefault(case, {})[weight] = file.get_tensor(key)
    return found


@pytest.mark.slow
def test_processes_budgets_and_parts_of_groups_change_no_gradient_of_any_loss(tiny_xlmr, tmp_path):
    by_processes = {count: gradients(tiny_xlmr, tmp_path / f"{count}", count) for count in (1, 2, 3)}
    truth = by_processes[1]
    assert truth.keys() == NEEDS.keys()
    for name, cases in truth.items():
        for case, expected in cases.items():
            largest = max(value.abs().max().item() for value in expected.values())
            assert largest > 1e-4
            others = [found[name][case] for found in by_processes.values()]
            others += [truth[name]["whole"]] if case == "parts" else []
            for found in others:
                assert found.keys() == expected.keys()
                for weight, value in expected.items():
                    torch.testing.assert_close(
                        found[weight], value, atol=2e-5 * largest, rtol=1e-4, msg=f"{name} {case} {weight}"
                    )
