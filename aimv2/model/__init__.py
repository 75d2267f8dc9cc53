"""The networks: prefix vision encoder, causal multimodal decoder, and the two together."""
