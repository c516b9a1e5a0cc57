import torch

# Two threads on two shared cores fight each other; one is also what learners and agents use.
torch.set_num_threads(1)
