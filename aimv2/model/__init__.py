"""The networks: prefix vision encoder, causal multimodal decoder, and contrastive dual encoder."""
