"""Models whose word table has several names: T5, BART."""

import torch
import transformers
from uprank.train.run_folder.checkpoints import Progress, load_checkpoint, save_checkpoint


def test_a_checkpoint_of_tied_weights_is_written_and_read(tmp_path):
    config = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, num_labels=1
    )
    one, other = (transformers.T5ForSequenceClassification(config) for _ in range(2))
    save_checkpoint(tmp_path, one, torch.optim.AdamW(one.parameters()), Progress(step=3), keep=1)
    load_checkpoint(tmp_path, 3, other, torch.optim.AdamW(other.parameters()))
    for name, tensor in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
