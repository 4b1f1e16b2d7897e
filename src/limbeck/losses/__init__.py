"""Losses: one file, one formula, as a function and as the module that holds its settings.

A distillation loss has ``forward(student, teacher, target)`` with student and teacher of equal size and the target at
that size (or None); a task loss has ``forward(logits, target)``. Both return a scalar, averaged over the batch, in
float32 (float64 for such inputs). One that looks at labels gives 0, with a gradient path, for a batch without a valid
pixel. A loss knows neither its weight nor where its inputs come from.

A distillation loss says of itself, as class attributes:

- ``any_channels = True``: it compares maps of different channels, and gets no projector.
- ``reads_labels = True``: the target's classes matter to it, not only which pixels are void.
- ``maps_only = True``: it means nothing for vectors [n, c].
- ``levels = True``: it compares several pairs of places; student and teacher are lists of tensors as they are.
- ``presets``: settings of papers and toolkits by name, for ``compat``.
- a fourth argument ``weights: Tensor | None = None`` of ``forward``, [n, h, w]: it can weigh positions, for ``edges``.
- ``bind(student_shapes, teacher_shapes)``: called once, to make what it trains itself.
- ``takes_rest = True``: it means the same for a few classes and the rest as one, for ``distil.keep``; it then has a
  ``temperature``.
- ``lacks``: which properties, of those that every loss is tested for, its formula does not have.

The properties: ``equality``, 0 for equal inputs and more the further they differ; ``void``, what is void does not
matter; ``batch_split``, the mean of two halves is the whole; ``repeat``, a batch twice costs as much as once;
``permutation``, the order of the images does not matter; ``compile``, torch compiles it as one graph.
"""
