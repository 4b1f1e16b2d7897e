"""Models: one file, one family; its public name is a builder that returns a plain ``torch.nn.Module``.

``forward(image [n, 3, h, w], normalised) -> logits [n, c, h', w']`` is always one tensor, at the network's own stride.
Auxiliary heads are named submodules that ``forward`` runs in training mode only; ``model.aux = {name: weight}`` lists
them and the objective taps their outputs. ``model.mean`` and ``model.std`` are what its input is normalised with.
A file whose networks give one class an image has ``TASK = "classification"``, and its logits are ``[n, c]``.
Runtime arguments a builder may ask for: ``num_classes``; ``pretrained`` (the name or hub id in ``weights`` when that is
no file; a builder without this parameter has no named weights); ``root`` (folder of the recipe).
"""
