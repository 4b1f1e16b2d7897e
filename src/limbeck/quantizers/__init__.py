"""Quantizers: one file, one backend. Quantize = prepare -> (observe | the same training) -> convert.

``prepare(model, example, qat=...)`` takes an eager module and returns a graph that observes and fake-quantizes;
``convert(prepared)`` leaves it alone and returns the integer graph; ``state(prepared)`` and ``restore(model, tensors,
manifest)`` carry a prepared graph through a file. A quantizer knows the runtime it is made for: its ``target``.
"""
