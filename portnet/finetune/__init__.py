"""Fine-tuning: backbone, head, freeze policy, the one training loop, and the run that comes of it.

The story is in `portnet.finetune.api.finetune`; `portnet.finetune.loop` is the loop. Engines do arithmetic alone.
"""
