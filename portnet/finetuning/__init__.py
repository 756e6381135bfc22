"""Fine-tuning: backbone, head, freeze policy, the one training loop, and the run that comes of it.

The story is in `portnet.finetuning.api.finetune`; `portnet.finetuning.loop` is the loop. Engines do arithmetic alone.
"""
