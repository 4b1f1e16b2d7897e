"""Losses: one file, one formula, as a function and as the module that holds its settings.

A distillation loss has ``forward(student, teacher, target)`` with student and teacher of equal size and the target at
that size (or None); a task loss has ``forward(logits, target)``. Both return a float32 scalar, averaged over the batch.
One that looks at labels gives 0, with a gradient path, for a batch without a valid pixel. A loss knows neither its
weight nor where its inputs come from. A distillation loss says ``any_channels = True`` if it compares maps of different
channels (it gets no projector), and ``reads_labels = True`` if the target's classes matter to it, not only which pixels
are void.
"""
