"""Launch files: those there are work with the loop; FSDP, DeepSpeed and the like are refused, and why."""

from pathlib import Path

import pytest
import yaml
from uprank.configs.errors import UserError
from uprank.train.launch import REFUSED, launch_problems
from uprank.train.run import train

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "accelerate"


def test_no_launch_file_asks_for_what_is_refused():
    files = sorted(FOLDER.glob("*.yaml"))
    assert {"cpu", "one_gpu", "multi_gpu", "multi_node"} <= {file.stem for file in files}
    for file in files:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert values["distributed_type"] in ("NO", "MULTI_GPU", "MULTI_CPU"), file
        assert values["mixed_precision"] == "no", file
        assert not {"fsdp_config", "deepspeed_config", "parallelism_config"} & values.keys(), file


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_started_so_is_refused_before_anything_is_loaded(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch, name
):
    assert launch_problems({name: "false"}) == launch_problems({}) == []
    monkeypatch.setenv(name, "true")
    with pytest.raises(UserError) as caught:
        train(settings(tiny_xlmr, jsonl, tmp_path / "run", optim__learning_rate=-1.0))
    assert caught.value.problems[0].startswith("started with ")
    assert "configs/accelerate/multi_gpu.yaml" in caught.value.problems[0]
    assert "optim.learning_rate=-1.0" in caught.value.problems[1]  # all at once
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["fsdp", "deepspeed"])
def test_accelerate_says_so_by_the_names_that_are_looked_at(monkeypatch, kind):
    """What `accelerate launch --use_fsdp` and `--use_deepspeed` write into the processes' environment."""
    launcher = pytest.importorskip("accelerate.commands.launch")
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launcher.launch_command_parser().parse_args([f"--use_{kind}", "--num_processes", "2", "x.py"])
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False, raising=False)
    if kind == "deepspeed":
        from accelerate.utils.launch import prepare_deepspeed_cmd_env

        pytest.importorskip("deepspeed")
        environment = prepare_deepspeed_cmd_env(arguments)[1]
    else:
        arguments, *_ = launcher._validate_launch_command(arguments)
        environment = prepare_multi_gpu_env(arguments)
    assert len(launch_problems(environment)) == 1
