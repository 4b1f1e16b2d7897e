"""What torch.export graphs need before they can be quantized and shipped: capture, modes, fixes, patterns, ranges."""
