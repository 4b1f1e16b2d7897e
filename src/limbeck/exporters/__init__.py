"""Exporters: one file, one format. ``exporter(model, example, path, metadata=..., dynamic=...)`` writes one whole file.

``suffix`` is the format's file suffix. The input is ``pixel_values``, the output ``logits``; batch is always dynamic.
"""
