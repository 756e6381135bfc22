"""From a living network of torch to a graph: traced by torch.export, translated by torch's exporter, then cleaned."""
