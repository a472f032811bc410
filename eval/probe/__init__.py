"""Is this backbone worth building on? Probes on frozen features, and the controls that make sense of them."""
